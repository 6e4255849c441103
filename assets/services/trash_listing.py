"""The trash as its owner sees it: what was deleted, without what each deletion took along."""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal

from django.db.models import F, Q
from django.utils import timezone

from assets.models import Asset, fold_name
from assets.services.cursors import Cursor, CursorError, decode_cursor, encode_cursor, scope
from assets.services.listing import Filters, Page, own_columns

TrashOrder = Literal["created", "-created"]  # of the deletion: the first one first, or the last one
ANYTHING: Final = Filters()
_FOREIGN: Final = "cursor: it was not made by this list."


def list_trash(
    owner_id: int,
    *,
    cursor: str,
    size: int,
    term: str = "",
    filters: Filters = ANYTHING,
    order: TrashOrder = "-created",
) -> Page[Asset]:
    """Give one page of what an owner has deleted, in order of deletion; costs one SELECT, by `asset_trash_root`.

    Narrowed to names that hold `term`, and to what `filters` say of the assets' own columns: a folder, tags and
    metadata are of live assets only.

    Raises:
        CursorError: the cursor was not made by this list.
    """
    bound_to = scope("trash", owner_id, term, filters.bound_to(owner_id, order).decode())
    roots = Asset.objects.filter(owner_id=owner_id, trashed_at__isnull=False, trashed_root=F("id"))
    if cursor:
        roots = roots.filter(_behind(decode_cursor(cursor, bound_to), order))
    if term:
        roots = roots.filter(name_folded__contains=fold_name(term))
    roots = roots.filter(own_columns(filters))
    unexpired = Q(expires_at=None) | Q(expires_at__gt=timezone.now())
    sign = "-" if order == "-created" else ""
    rows = roots.filter(unexpired).select_related("object").order_by(f"{sign}trashed_at", f"{sign}pk")
    found = list(rows[: size + 1])
    assets = tuple(found[:size])
    return Page(assets, encode_cursor(_end(assets[-1]), bound_to) if len(found) > size else "")


def _end(asset: Asset) -> Cursor:
    return Cursor(asset.pk, asset.trashed_at.isoformat() if asset.trashed_at else "")


def _behind(after: Cursor, order: TrashOrder) -> Q:
    try:
        at = datetime.fromisoformat(after.name)
    except ValueError as error:
        raise CursorError(_FOREIGN) from error
    if order == "created":
        return Q(trashed_at__gte=at) & (Q(trashed_at__gt=at) | Q(pk__gt=after.id))
    return Q(trashed_at__lte=at) & (Q(trashed_at__lt=at) | Q(pk__lt=after.id))
