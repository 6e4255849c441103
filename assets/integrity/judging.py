"""Judge what looked wrong in a merge again, by what bucket and catalog say at that moment."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final, cast
from uuid import UUID

from django.core.files.storage import storages
from django.db.models import Count, QuerySet
from django.utils import timezone

from assets.integrity.findings import Finding, Kind, printable
from assets.integrity.merging import Row
from assets.integrity.places import Place
from assets.integrity.references import holders_of
from assets.media.kinds import SIZES
from assets.models import Rendition, StoredObject
from assets.services.sections import release_connection
from storagecache.capabilities import ObjectInfo
from storagecache.environment import Environment
from storagecache.errors import InvalidKeyError, ObjectNotFoundError, StorageError
from storagecache.keys import validate_storage_name
from storagecache.storages.base import ObjectStorage

logger = logging.getLogger(__name__)

PAGE: Final = 1000  # rows in one SELECT
PURGE_LAG: Final = timedelta(hours=1)  # how far the purge may be behind
BLOCK: Final = 256 << 10  # bytes hashed at a time
MOST_UNREADABLE: Final = 10  # then the backend is down rather than an object lost
_PICTURE: Final = f"{Rendition._meta.model_name} "


@dataclass(slots=True, kw_only=True)
class Examiner:
    """Looks at objects themselves. `deep`: their bytes are hashed too, at most `rate` bytes a second."""

    deep: bool
    rate: int | None
    hashed_bytes: int = 0
    unreadable: int = 0
    hashed: list[UUID] = field(default_factory=list)  # whole, since they were last taken

    def take_hashed(self) -> list[UUID]:
        """Give the objects whose bytes were whole since the last call."""
        hashed, self.hashed = self.hashed, []
        return hashed

    def judge_rows(self, place: Place, suspects: list[Row]) -> Iterator[Finding]:
        """Report rows whose object is wrong now, and which are ready after that was seen."""
        wrong: dict[UUID, Finding] = {}
        for row in suspects:
            finding = self._examine(place, row)
            if finding is not None:
                wrong[row.id] = finding
        ready = _still_ready(list(wrong))
        lost = [i for i in wrong if i in ready and wrong[i].kind is Kind.ROW_WITHOUT_OBJECT]
        holders = holders_of(lost)
        for object_id, finding in wrong.items():
            if object_id in ready:
                yield _held(finding, holders.get(object_id, []))

    def _examine(self, place: Place, row: Row) -> Finding | None:
        """Look at the object itself; None when it is as the row says."""
        problem = self._problem_of(cast("ObjectStorage", storages[row.storage]), row)
        if problem is None:
            return None
        kind, detail = problem
        return Finding(kind=kind, bucket=place.bucket, key=row.key, id=row.id.hex, detail=detail)

    def _problem_of(self, storage: ObjectStorage, row: Row) -> tuple[Kind, str] | None:
        try:
            return self._size_problem(storage, row) or (self._digest_problem(storage, row) if self.deep else None)
        except ObjectNotFoundError:
            return Kind.ROW_WITHOUT_OBJECT, f"{row.size} bytes are missing"
        except StorageError as error:
            self.unreadable += 1
            if self.unreadable > MOST_UNREADABLE:
                raise
            logger.warning("object not read bucket=%s key=%s reason=%s", storage.bucket, row.key, error)
            return Kind.UNREADABLE, str(error)

    def _size_problem(self, storage: ObjectStorage, row: Row) -> tuple[Kind, str] | None:
        size = storage.size(row.key)
        return None if size == row.size else (Kind.WRONG_SIZE, f"{size} bytes instead of {row.size}")

    def _digest_problem(self, storage: ObjectStorage, row: Row) -> tuple[Kind, str] | None:
        digest, started, before = hashlib.sha256(), time.monotonic(), self.hashed_bytes
        with storage.open_stream(row.key) as stream:
            while block := stream.read(BLOCK):
                digest.update(block)
                self.hashed_bytes += len(block)
                _slow_down(self.hashed_bytes - before, started, self.rate)
        if digest.hexdigest() == row.sha256:
            self.hashed.append(row.id)
            return None
        return Kind.WRONG_DIGEST, f"sha256 {digest.hexdigest()} instead of {row.sha256}"


def judge_objects(place: Place, suspects: list[ObjectInfo]) -> Iterator[Finding]:
    """Report objects that have no row now, and are still there.

    In this order it is certain: a row comes before its object and goes after it, and no key is used twice.
    """
    known = _keys_with_row(place, [info.key for info in suspects if _is_ours(info.key)])
    for info in suspects:
        if info.key not in known and _is_still_there(place.storage, info.key):
            detail = f"{info.size} bytes, stored {info.modified_at.isoformat()}"
            kind = Kind.OBJECT_WITHOUT_ROW
            yield Finding(kind=kind, bucket=place.bucket, key=printable(info.key), detail=detail)


def judge_stuck(place: Place, late: list[Row]) -> list[Finding]:
    """Report rows that are still in the state in which they are late."""
    if not late:
        return []
    rows: QuerySet[StoredObject] = StoredObject.objects.filter(pk__in=[row.id for row in late])
    now = dict(rows.values_list("pk", "state_changed_at"))
    release_connection()
    return [
        Finding(
            kind=Kind.STUCK, bucket=place.bucket, key=row.key, id=row.id.hex,
            detail=f"{row.state} since {row.state_changed_at.isoformat()}",
        )
        for row in late
        if now.get(row.id) == row.state_changed_at
    ]  # fmt: skip


def judge_pictures(place: Place, ids: list[UUID]) -> Iterator[Finding]:
    """Report objects that have fewer small pictures now than were made of them."""
    for start in range(0, len(ids), PAGE):
        made = StoredObject.objects.filter(pk__in=ids[start : start + PAGE], state=StoredObject.State.READY)
        made = made.filter(preview=StoredObject.Preview.MADE).exclude(color="")
        counted = made.order_by("pk").values_list("pk", "key").annotate(shown=Count("renditions"))
        rows = [found for found in counted if found[2] < len(SIZES)]
        release_connection()
        for pk, key, shown in rows:
            detail = f"{shown} of its {len(SIZES)} small pictures are recorded"
            yield Finding(kind=Kind.THUMBNAIL_MISSING, bucket=place.bucket, key=key, id=pk.hex, detail=detail)


def is_late(row: Row) -> bool:
    """Tell whether the purge should have finished with this row: being deleted may take two rounds of it."""
    grace = timedelta(seconds=Environment.current().grace_time)
    lag = PURGE_LAG if row.state == StoredObject.State.PENDING else 2 * PURGE_LAG
    return row.state_changed_at < timezone.now() - grace - lag


def _held(finding: Finding, holders: list[str]) -> Finding:
    """Name who holds a lost object; one that only shows another can be made again."""
    if not holders:
        return finding
    only_shows = all(name.startswith(_PICTURE) for name in holders)
    kind = Kind.THUMBNAIL_MISSING if only_shows else finding.kind
    return replace(finding, kind=kind, detail=f"{finding.detail}; held by {', '.join(holders)}")


def _is_ours(key: str) -> bool:
    try:
        validate_storage_name(key)
    except InvalidKeyError:
        return False
    return True


def _keys_with_row(place: Place, keys: list[str]) -> set[str]:
    if not keys:
        return set()
    rows = StoredObject.objects.filter(bucket=place.bucket, storage__in=place.aliases, key__in=keys)
    known = set(rows.values_list("key", flat=True))
    release_connection()
    return known


def _is_still_there(storage: ObjectStorage, key: str) -> bool:
    return not _is_ours(key) or storage.exists(key)  # a key that is not ours was never the purge's to delete


def _still_ready(ids: list[UUID]) -> set[UUID]:
    if not ids:
        return set()
    rows = StoredObject.objects.filter(pk__in=ids, state=StoredObject.State.READY)
    ready = set(rows.values_list("pk", flat=True))
    release_connection()
    return ready


def _slow_down(done: int, started: float, rate: int | None) -> None:
    """Wait as long as the bytes are ahead of the rate."""
    if rate is not None and (ahead := done / rate - (time.monotonic() - started)) > 0:
        time.sleep(min(ahead, 5.0))
