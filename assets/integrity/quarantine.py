"""Objects set aside: recorded, moved, judged again, kept for QUARANTINE_TTL, put back or deleted.

What is recorded comes before what is done, and each step may be repeated, so that a kill at any moment is brought to
its end by the next repair or undo. Whenever a row turns up for a quarantined object, the object goes back.
Whether anything may be moved at all is decided in `assets.integrity.repair`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from assets.integrity.places import Place, find_places
from assets.integrity.runs import is_alive
from assets.models import IntegrityRun, QuarantinedObject, StoredObject
from assets.services.sections import release_connection, write_section
from storagecache.environment import Environment
from storagecache.errors import ObjectNotFoundError, StorageError

logger = logging.getLogger(__name__)
BATCH: Final = 200  # objects; uploads wait for a section on SQLite
State = QuarantinedObject.State


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoReport:
    """What an undo did: objects put back, objects that were deleted before, and why others stayed."""

    returned: int = 0
    deleted: int = 0
    failures: tuple[str, ...] = ()


def set_aside(run: IntegrityRun, place: Place, objects: list[tuple[str, int]]) -> int:
    """Set objects (key and size) of one bucket aside; returns how many. Each is judged now, before and after."""
    with write_section():
        known = _known(place.bucket, [key for key, _ in objects])
        now = timezone.now()
        entries = [
            QuarantinedObject(run=run, bucket=place.bucket, key=key, size=size, state_changed_at=now)
            for key, size in objects
            if key not in known
        ]
        QuarantinedObject.objects.bulk_create(entries)
    release_connection()
    _finish(place, entries)
    return QuarantinedObject.objects.filter(pk__in=[entry.pk for entry in entries], state=State.HELD).count()


def settle() -> int:
    """Bring to its end what dead processes left half done, and put back what has a row now; returns the latter."""
    unfinished = QuarantinedObject.objects.filter(state=State.MOVING)
    for place, entries in _batches(unfinished):
        _finish(place, [entry for entry in entries if not is_alive(entry.run)])
    for place, entries in _batches(QuarantinedObject.objects.filter(state=State.DELETING)):
        _judge_deletion(place, entries)
    row = StoredObject.objects.filter(bucket=OuterRef("bucket"), key=OuterRef("key"))
    returned = 0
    for place, entries in _batches(QuarantinedObject.objects.filter(Exists(row), state=State.HELD)):
        returned += sum(_return(place, entry) for entry in entries)
    return returned


def delete_due(now: datetime | None = None) -> int:
    """Delete what was set aside longer than QUARANTINE_TTL ago and has no row now; returns how many. Look at
    `repair.refuse_doubts` first.
    """
    cutoff = (now or timezone.now()) - timedelta(seconds=Environment.current().quarantine_ttl)
    due = QuarantinedObject.objects.filter(state=State.HELD, state_changed_at__lte=cutoff)
    return sum(_judge_deletion(place, entries) for place, entries in _batches(due))


def undo(run_id: UUID) -> UndoReport:
    """Put everything back that a run set aside. The buckets are asked, so that it also works with another catalog.

    Raises:
        StorageError: a bucket does not answer; run it again.
    """
    returned, failures = 0, []
    entries = QuarantinedObject.objects.filter(run_id=run_id)
    for place in find_places():
        for name in list(place.storage.list_aside(run_id.hex)):
            try:
                place.storage.put_back(name, run_id.hex)
                returned += 1
            except StorageError as error:
                failures.append(f"{place.bucket}/{name}: {error}")
        left = entries.filter(bucket=place.bucket, state__in=[State.MOVING, State.HELD, State.DELETING])
        for entry in left.order_by("pk").iterator(BATCH):
            if place.storage.exists(entry.key):
                _move_on([entry], State.RETURNED)
    deleted = entries.exclude(state=State.RETURNED).count() - len(failures)
    if not failures:
        IntegrityRun.objects.filter(pk=run_id).update(undone_at=timezone.now())
    release_connection()
    logger.info("undo done run=%s returned=%d failures=%d", run_id.hex, returned, len(failures))
    return UndoReport(returned=returned, deleted=max(deleted, 0), failures=tuple(failures[:100]))


def _finish(place: Place, entries: list[QuarantinedObject]) -> None:
    """Move what is recorded as moving. Then the catalog is asked again: bytes whose row turned up go back."""
    moved = []
    for entry in entries:
        try:
            place.storage.set_aside(entry.key, entry.run_id.hex)
            moved.append(entry)
        except ObjectNotFoundError:
            _move_on([entry], State.DELETED)  # somebody else deleted it
        except StorageError as error:
            logger.warning("object not set aside bucket=%s key=%s reason=%s", entry.bucket, entry.key, error)
    known = _known(place.bucket, [entry.key for entry in moved])
    for entry in moved:
        if entry.key in known:
            _return(place, entry)
    _move_on([entry for entry in moved if entry.key not in known], State.HELD)


def _judge_deletion(place: Place, entries: list[QuarantinedObject]) -> int:
    """Delete for ever what has no row at this moment; the rest goes back."""
    with write_section():
        ids = [entry.pk for entry in entries]
        locked = QuarantinedObject.objects.filter(pk__in=ids, state__in=[State.HELD, State.DELETING])
        held = list(locked.select_related("run").select_for_update(of=("self",)).order_by("pk"))
        known = _known(place.bucket, [entry.key for entry in held])
        doomed = [entry for entry in held if entry.key not in known]
        QuarantinedObject.objects.filter(pk__in=[entry.pk for entry in doomed]).update(state=State.DELETING)
    release_connection()
    for entry in held:
        if entry.key in known:
            _return(place, entry)
    for entry in doomed:
        place.storage.drop_aside(entry.key, entry.run_id.hex)
    _move_on(doomed, State.DELETED)
    return len(doomed)


def _return(place: Place, entry: QuarantinedObject) -> bool:
    try:
        place.storage.put_back(entry.key, entry.run_id.hex)
    except ObjectNotFoundError:
        _move_on([entry], State.DELETED)
        return False
    except StorageError as error:
        logger.warning("object not put back bucket=%s key=%s reason=%s", entry.bucket, entry.key, error)
        return False
    _move_on([entry], State.RETURNED)
    return True


def _move_on(entries: list[QuarantinedObject], state: str) -> None:
    if entries:
        with write_section():
            rows = QuarantinedObject.objects.filter(pk__in=[entry.pk for entry in entries])
            rows.update(state=state, state_changed_at=timezone.now())
        release_connection()


def _known(bucket: str, keys: list[str]) -> set[str]:
    """Give the keys that have a row, whatever its alias and state."""
    return set(StoredObject.objects.filter(bucket=bucket, key__in=keys).values_list("key", flat=True))


def _batches(entries: QuerySet[QuarantinedObject]) -> Iterable[tuple[Place, list[QuarantinedObject]]]:
    """Yield entries by bucket, in batches by keyset; those of buckets that are not configured stay as they are."""
    for place in find_places():
        last = UUID(int=0)
        here = entries.filter(bucket=place.bucket).select_related("run").order_by("pk")
        while batch := list(here.filter(pk__gt=last)[:BATCH]):
            release_connection()
            last = batch[-1].pk
            yield place, batch
