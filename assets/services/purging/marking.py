"""Remove assets that ended and mark objects as being deleted: rows only, and each is judged under its lock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final
from uuid import UUID

from django.db.models import QuerySet

from assets.models import Asset, Rendition, StoredObject
from assets.services import changes
from assets.services.purging.collectable import abandoned_objects, expired_assets, unreferenced_objects
from assets.services.purging.limits import SECTION, Limits
from assets.services.rows import delete_rows
from assets.services.sections import release_connection, write_section

# What the books need of an asset that goes.
COUNTED: Final = (
    "owner_id", "bucket", "parent_id", "object_id", "is_folder", "content_type", "size", "created_at", "trashed_at",
)  # fmt: skip
State = StoredObject.State


def end_expired(limits: Limits) -> int:
    """Remove expired assets; their temp objects are marked at once: nobody may read them since they expired."""
    done = 0
    while room := limits.room(done):
        with write_section():
            expired = expired_assets(limits).order_by("expires_at", "pk").only(*COUNTED)
            assets = list(expired.select_for_update(skip_locked=True)[: min(room, SECTION)])
            end_assets(assets, limits)
        done += len(assets)
        if len(assets) < min(room, SECTION):
            break
    return done


def end_assets(assets: list[Asset], limits: Limits) -> None:
    """Remove locked assets. Objects are locked before they are judged (see `mark_leftovers`)."""
    if not assets:
        return
    held = StoredObject.objects.filter(pk__in=[asset.object_id for asset in assets]).order_by("pk").select_for_update()
    list(held.values_list("pk", flat=True))
    delete_rows(Asset, [asset.pk for asset in assets])
    changes.removed(assets)
    ended = [asset.object_id for asset in assets if asset.object_id and asset.bucket == Asset.Bucket.TEMP]
    _mark_objects(StoredObject.objects.filter(state=State.READY).unreferenced(), ended, limits)


def mark_leftovers(limits: Limits) -> None:
    """Mark abandoned and unreferenced objects as being deleted.

    Candidates are read without a lock, for that may take seconds. Then two statements in one transaction: with one,
    PostgreSQL judges a row that it waited for with its older snapshot, and deletes an object that got a reference
    meanwhile.
    """
    for collectable in (abandoned_objects, unreferenced_objects):
        marked = 0
        for ids in _candidates(collectable(limits), limits):
            with write_section():
                rows = StoredObject.objects.filter(pk__in=ids[: limits.room(marked)]).order_by("pk")
                held = list(rows.select_for_update(skip_locked=True).values_list("pk", flat=True))
                marked += _mark_objects(collectable(limits), held, limits)
            if not limits.room(marked):
                break


def _candidates(rows: QuerySet[StoredObject], limits: Limits) -> Iterator[list[UUID]]:
    """Yield the ids of these objects in batches, one pass over them by keyset."""
    last = UUID(int=0)
    while ids := list(rows.filter(pk__gt=last).order_by("pk").values_list("pk", flat=True)[: limits.room(0)]):
        release_connection()
        last = ids[-1]
        yield ids


def _mark_objects(still: QuerySet[StoredObject], ids: list[UUID], limits: Limits) -> int:
    """Mark those of the locked objects that may still go, and with them the small pictures that were made of them.

    The pictures wait for no grace time of their own: nobody could be given one since their source had no reference.
    """
    fields: dict[str, Any] = {"state": State.DELETING, "state_changed_at": limits.now, "deleted_at": None}
    marked = still.filter(pk__in=ids).update(**fields)
    renditions = Rendition.objects.filter(source__in=ids, source__state=State.DELETING)
    pictures = list(renditions.values_list("object_id", flat=True)) if marked else []
    if pictures:
        Rendition.objects.filter(object__in=pictures).delete()
        StoredObject.objects.filter(pk__in=pictures, state=State.READY).unreferenced().update(**fields)
    return marked
