"""Pages of assets, and assets by their ids. Every page is found by its keys: the last one costs what the first does.

A cursor says where the page before it ended. Its text means nothing outside and grants nothing: each list is narrowed
to its owner first.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final, Literal
from uuid import UUID

import msgspec
from django.contrib.auth import get_user_model
from django.db.models import Q
from django.utils import timezone

from assets.models import Asset, AssetQuerySet
from storagecache.errors import ObjectNotFoundError

MAX_PAGE: Final = 10_000
Order = Literal["created", "-created", "name", "-size"]

_Size = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
_Name = Annotated[str, msgspec.Meta(max_length=8192, pattern="^[^\x00]*$")]


class CursorError(ValueError):
    """The cursor is not one of this list."""


class Cursor(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where a page ended: the order of the list, the last asset's id and what it was sorted by before its id."""

    order: Order
    id: UUID
    name: _Name = ""
    size: _Size | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What a list is narrowed to; "" and None do not narrow. `parent_id` is a folder's id or the owner's own."""

    parent_id: str | None = None
    content_type: str = ""
    workflow_id: str = ""
    job_id: str = ""
    node_id: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """Some assets in order, each with its object, and the cursor of the next page ("": there is none)."""

    assets: tuple[Asset, ...]
    next: str


def list_assets(owner_id: int, filters: Filters, *, order: Order, cursor: str, size: int) -> Page:
    """Give one page of an owner's live assets; costs one SELECT, one more for a parent, one more at folders by size.

    Raises:
        ObjectNotFoundError: the parent is no folder of this owner.
        CursorError: the cursor was not made by a list in this order.
    """
    after = _decode(cursor, order) if cursor else None
    chosen = _narrowed(owner_id, filters).select_related("object")
    found = _SORTED[order](chosen, after, size + 1)
    assets = tuple(found[:size])
    return Page(assets, _encode(order, assets[-1]) if len(found) > size else "")


def find_asset(owner_id: int, asset_id: str) -> Asset:
    """Find an owner's live asset by its id (32 hex digits), with its object; costs one SELECT.

    Raises:
        ObjectNotFoundError: absent, trashed, expired or another owner's: always the same text.
    """
    found = find_assets(owner_id, [asset_id])
    if not found:
        raise ObjectNotFoundError("There is no asset with this id.")
    return found[0]


def find_assets(owner_id: int, asset_ids: Iterable[str]) -> list[Asset]:
    """Find those of the assets that are alive and the owner's, with their objects; costs one SELECT."""
    ids = [found for text in asset_ids if (found := _uuid(text)) is not None]
    return list(_of(owner_id).filter(pk__in=ids).select_related("object"))


def home_since(owner_id: int) -> datetime:
    """Tell since when an owner has a home folder.

    Raises:
        ObjectNotFoundError: there is no such user.
    """
    joined = get_user_model().objects.filter(pk=owner_id).values_list("date_joined", flat=True).first()
    if joined is None:
        raise ObjectNotFoundError("There is no asset with this id.")
    return joined


def _of(owner_id: int) -> AssetQuerySet:
    return Asset.objects.filter(owner_id=owner_id).alive(timezone.now())


def _narrowed(owner_id: int, filters: Filters) -> AssetQuerySet:
    named = {name: getattr(filters, name) for name in ("workflow_id", "job_id", "node_id") if getattr(filters, name)}
    chosen = _of(owner_id).filter(**named)
    if filters.content_type:
        chosen = chosen.filter(content_type__startswith=filters.content_type)
    if filters.parent_id is not None:
        return chosen.filter(parent_id=_folder(owner_id, filters.parent_id))
    return chosen if named or filters.content_type else chosen.filter(parent=None)


def _folder(owner_id: int, parent_id: str) -> UUID | None:
    """Give the folder's id, None for home."""
    if parent_id == str(owner_id):
        return None
    folder = _uuid(parent_id)
    if folder is None or not _of(owner_id).filter(pk=folder, is_folder=True).exists():
        raise ObjectNotFoundError("parent_id: there is no folder with this id.")
    return folder


def _uuid(text: str) -> UUID | None:
    try:
        found = UUID(hex=text)
    except ValueError:
        return None
    return found if found.hex == text else None


def _by_id(chosen: AssetQuerySet, after: Cursor | None, count: int) -> list[Asset]:
    """Sort by creation: ids are made in the order of time."""
    behind = chosen.filter(pk__gt=after.id) if after else chosen
    return list(behind.order_by("pk")[:count])


def _by_id_backwards(chosen: AssetQuerySet, after: Cursor | None, count: int) -> list[Asset]:
    behind = chosen.filter(pk__lt=after.id) if after else chosen
    return list(behind.order_by("-pk")[:count])


def _by_name(chosen: AssetQuerySet, after: Cursor | None, count: int) -> list[Asset]:
    """Sort by the folded name. The condition has this form because an index serves it, and `a OR (b AND c)` not."""
    if after:
        later = Q(name_folded__gt=after.name) | Q(pk__gt=after.id)
        chosen = chosen.filter(later, name_folded__gte=after.name)
    return list(chosen.order_by("name_folded", "pk")[:count])


def _by_size_backwards(chosen: AssetQuerySet, after: Cursor | None, count: int) -> list[Asset]:
    """Sort by size, largest first, then what has none (folders): engines do not agree where NULL belongs."""
    if after and after.size is None:
        return _by_id_backwards(chosen.filter(size=None), after, count)
    sized = chosen.exclude(size=None)
    if after:
        sized = sized.filter(Q(size__lt=after.size) | Q(pk__lt=after.id), size__lte=after.size)
    found = list(sized.order_by("-size", "-pk")[:count])
    missing = count - len(found)
    return found + _by_id_backwards(chosen.filter(size=None), None, missing) if missing else found


_SORTED: Final = {
    "created": _by_id,
    "-created": _by_id_backwards,
    "name": _by_name,
    "-size": _by_size_backwards,
}


def _encode(order: Order, asset: Asset) -> str:
    name = asset.name_folded if order == "name" else ""
    size = asset.size if order == "-size" else None
    return base64.urlsafe_b64encode(msgspec.json.encode(Cursor(order, asset.pk, name, size))).decode().rstrip("=")


def _decode(text: str, order: Order) -> Cursor:
    try:
        raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        cursor = msgspec.json.decode(raw, type=Cursor)
    except (UnicodeError, binascii.Error, msgspec.DecodeError) as error:
        raise CursorError("cursor: not one that a list gave.") from error
    if cursor.order != order:
        raise CursorError(f"cursor: made for order={cursor.order}, not for order={order}.")
    return cursor
