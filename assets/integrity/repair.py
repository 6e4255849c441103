"""Set right what can be set right without loss: objects without a row are set aside, counters are counted anew,
thumbnails are made again.

Nothing is deleted at once, no row ever. It looks first, at everything; then it refuses as a whole when there is any
doubt about catalog or buckets; then it judges each object again. A report of an earlier run is never applied.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from django.db import DatabaseError
from django.db.models import Count, QuerySet
from django.utils import timezone

from assets.integrity import quarantine
from assets.integrity.counters import MENDERS, differing
from assets.integrity.findings import Kind
from assets.integrity.identity import UnsureError, refuse_older_catalog, refuse_wrong_bucket
from assets.integrity.places import Place, find_places, refuse_unknown_buckets
from assets.integrity.runs import KEPT_FINDINGS, RunKind, fail, verify
from assets.models import IntegrityFinding, IntegrityRun, Rendition, StoredObject
from assets.services.previews import ask
from assets.services.sections import release_connection
from storagecache.environment import Environment
from storagecache.errors import InvalidKeyError, ObjectNotFoundError, StorageError
from storagecache.keys import validate_storage_name

logger = logging.getLogger(__name__)
_OURS: Final = re.compile(r"(?:\A|/)([0-9a-f]{2})/(?P<id>[0-9a-f]{12}7[0-9a-f]{17}\1)(?:\.[a-z0-9]{1,8})?\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairReport:
    """What a repair did: objects set aside, put back because their row turned up, and deleted after their time;
    counters counted anew, and objects whose small pictures are to be made again.
    """

    set_aside: int = 0
    returned: int = 0
    deleted: int = 0
    counters: int = 0
    thumbnails: int = 0


def repair(
    *,
    deep: bool = False,
    since: datetime | None = None,
    progress: Callable[[int], None] = lambda count: None,
) -> tuple[IntegrityRun, RepairReport]:
    """Compare everything, then set right what the run found; `verify_assets --undo RUN` reverts it.

    Raises:
        UnsureError: refused as a whole; nothing was moved.
        StorageError, DatabaseError: catalog or bucket did not answer; what was moved is in the quarantine.
    """
    refuse_doubts()
    run, _ = verify(kind=RunKind.REPAIR, deep=deep, since=since, progress=progress)
    return run, apply(run)


def apply(run: IntegrityRun) -> RepairReport:
    """Act on what a run of this moment found; see `repair`."""
    try:
        refuse_doubts()
        _refuse_unsure(run)
        returned = quarantine.settle()
        moved = sum(_set_aside(run, place) for place in find_places())
        return RepairReport(
            set_aside=moved, returned=returned, deleted=quarantine.delete_due(), counters=_mend_counters(),
            thumbnails=_mend_thumbnails(run),
        )  # fmt: skip
    except (StorageError, DatabaseError) as error:
        fail(run, str(error))
        raise


def refuse_doubts() -> None:
    """Refuse when a bucket is not the recorded one, or the catalog not the newest.

    Raises:
        UnsureError
    """
    places = find_places()
    refuse_unknown_buckets(places)
    for place in places:
        refuse_wrong_bucket(place)
        refuse_older_catalog(place)


def _refuse_unsure(run: IntegrityRun) -> None:
    if run.status == IntegrityRun.Status.UNSURE:
        raise UnsureError("Some objects could not be read. Nothing was repaired: mend that first.")
    counts = _candidates(run).order_by().values_list("bucket").annotate(n=Count("pk"))
    strays = dict(counts)
    unlisted = max(sum(run.counts.values()) - KEPT_FINDINGS, 0)
    for place in find_places():
        if place.bucket in strays:
            _refuse_many(place, strays[place.bucket] + unlisted, run.listed.get(place.bucket, 0))
    if strays:
        _refuse_newer_objects(run)


def _refuse_many(place: Place, strays: int, listed: int) -> None:
    most = Environment.current().repair_max_percent
    if not StoredObject.objects.filter(bucket=place.bucket, storage__in=place.aliases).exists():
        raise UnsureError(f"The catalog knows no object of the bucket {place.bucket!r}. Is it the right catalog?")
    if strays * 100 > listed * most:
        raise UnsureError(
            f"{strays} of {listed} objects in the bucket {place.bucket!r} have no row: more than {most} %. Nothing was "
            "repaired. Is it the right catalog? If so, raise REPAIR_MAX_PERCENT."
        )


def _refuse_newer_objects(run: IntegrityRun) -> None:
    """Refuse when the bucket has an object of ours that is younger than every row: ids begin with their time."""
    newest = StoredObject.objects.order_by("-pk").values_list("pk", flat=True).first() or UUID(int=0)
    now = int(timezone.now().timestamp() * 1000)
    for bucket, key in _candidates(run).values_list("bucket", "key").iterator(1000):
        made = _OURS.search(key)
        if made and newest < UUID(made["id"]) and UUID(made["id"]).int >> 80 <= now:
            raise UnsureError(
                f"{bucket}/{key} is newer than everything in the catalog: a backup was restored, or another catalog "
                "uses this bucket. Nothing was repaired."
            )


def _candidates(run: IntegrityRun) -> QuerySet[IntegrityFinding]:
    return IntegrityFinding.objects.filter(run=run, kind=Kind.OBJECT_WITHOUT_ROW)


def _set_aside(run: IntegrityRun, place: Place) -> int:
    """Set a bucket's strays aside, batch by batch; names that no service of ours makes are left to people."""
    last, moved = UUID(int=0), 0
    found = _candidates(run).filter(bucket=place.bucket).order_by("pk")
    while page := list(found.filter(pk__gt=last).values_list("pk", "key")[: quarantine.BATCH]):
        release_connection()
        last = page[-1][0]
        moved += quarantine.set_aside(run, place, [found for _, key in page for found in _sized(place, key)])
    return moved


def _sized(place: Place, key: str) -> list[tuple[str, int]]:
    """Give key and size of an object that is still there and whose name is ours; else nothing."""
    try:
        return [(validate_storage_name(key), place.storage.size(key))]
    except (InvalidKeyError, ObjectNotFoundError):
        return []


def _mend_counters() -> int:
    """Count anew what differs now."""
    found = differing()
    release_connection()
    for difference in found:
        MENDERS[difference.counter](difference.owner_id)
    return len(found)


def _mend_thumbnails(run: IntegrityRun) -> int:
    """Have those objects looked into again whose pictures are lost; the new ones take the place of the old rows."""
    last, asked = UUID(int=0), 0
    found = IntegrityFinding.objects.filter(run=run, kind=Kind.THUMBNAIL_MISSING).order_by("pk")
    while page := list(found.filter(pk__gt=last).values_list("pk", "row_id")[: quarantine.BATCH]):
        last, ids = page[-1][0], [UUID(row_id) for _, row_id in page]
        lost = dict(Rendition.objects.filter(object__in=ids).values_list("object_id", "source_id"))
        asked += ask(list({lost.get(found_id, found_id) for found_id in ids}))
    return asked
