"""A purge from its first step to its last, and what one would take."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from django.db.models import Count, QuerySet, Sum
from django.utils import timezone

from assets.models import Asset, StoredObject
from assets.services.purging.abandoned_uploads import sweep_uploads
from assets.services.purging.collectable import due_objects, expired_assets, leftover_objects, pictures_of
from assets.services.purging.crowding import count_crowding, end_crowding
from assets.services.purging.deleting import delete_batches
from assets.services.purging.limits import BATCH, Limits
from assets.services.purging.marking import end_expired, mark_leftovers
from assets.services.purging.report import PurgeReport
from assets.services.purging.staged_files import sweep_staging
from assets.services.retention import apply_rules
from assets.services.sections import catalog_errors, release_connection
from assets.services.trash import empty_trash, resume_deletions, trashed_before
from storagecache import metrics
from storagecache.environment import Environment

logger = logging.getLogger(__name__)

_FAILURES: Final = 100  # told in a report


def purge(
    *,
    grace: timedelta | None = None,
    batch: int = BATCH,
    limit: int | None = None,
    dry_run: bool = False,
    progress: Callable[[int], None] = lambda count: None,
) -> PurgeReport:
    """Collect everything collectable; `progress` hears how many objects went with each batch.

    `grace` is by default GRACE_TIME. Temp that has not expired ends only while temp is beyond TEMP_MAX_BYTES or
    TEMP_MIN_FREE_BYTES, the oldest first. `limit` bounds the objects, `batch` (at most 1000) those of one step. An
    object that cannot be deleted now stays for the next purge and is named among the failures, of which the first
    hundred are told.

    Raises:
        ValueError: a batch below 1, or a negative grace or limit.
        BackendUnavailableError: the catalog does not answer.
    """
    grace = timedelta(seconds=Environment.current().grace_time) if grace is None else grace
    if batch < 1 or grace < timedelta(0) or (limit or 0) < 0:
        raise ValueError("A batch is 1 or more, a grace time and a limit are 0 or more.")
    limits = Limits(now=timezone.now(), grace=grace, batch=min(batch, BATCH), limit=limit)
    with catalog_errors():
        report = _count(limits) if dry_run else _collect(limits, progress)
    release_connection()
    if not dry_run:
        _note(report)
    return report


def _note(report: PurgeReport) -> None:
    metrics.PURGED_OBJECTS.inc(report.objects)
    metrics.PURGED_BYTES.inc(report.bytes)
    metrics.PURGE_FAILURES.inc(len(report.failures))
    metrics.PURGE_ENDED.set_to_current_time()


def _count(limits: Limits) -> PurgeReport:
    """Count what a purge would take now, and change nothing."""
    expired = expired_assets(limits)
    ended = StoredObject.objects.filter(assets__in=expired.filter(bucket=Asset.Bucket.TEMP))
    leftovers = leftover_objects(limits)
    queries = (ended, leftovers, pictures_of(ended), pictures_of(leftovers))
    sums = [query.aggregate(n=Count("pk"), b=Sum("size")) for query in queries]
    count = sum(found["n"] for found in sums)
    crowding = count_crowding(limits)
    count += crowding.objects
    return PurgeReport(
        objects=count if limits.limit is None else min(count, limits.limit),
        bytes=sum(found["b"] or 0 for found in sums) + crowding.bytes,
        expired=expired.count() + trashed_before(_trash_ends(limits)).count() + crowding.expired,
        dry_run=True,
    )


def _collect(limits: Limits, progress: Callable[[int], None]) -> PurgeReport:
    report = sweep_staging(limits.cutoff)
    apply_rules(limits.now)  # first: what a rule does not cover any more must not end
    ended = end_expired(limits)
    report = replace(report, expired=ended + end_crowding(limits, ended) + _end_trash(limits))
    mark_leftovers(limits)
    report = _delete_due(report, limits, due_objects(limits), progress)
    # When the grace time is zero, objects whose first deletion was just now are due for their second one.
    again = replace(limits, now=timezone.now())
    report = _delete_due(report, again, due_objects(again).filter(deleted_at__gte=limits.now), progress)
    sweep_uploads(limits.now)
    logger.info("purge done objects=%d bytes=%d expired=%d", report.objects, report.bytes, report.expired)
    return report


def _end_trash(limits: Limits) -> int:
    """Carry on deletions that died, then empty the trash of what has been there for TRASH_TTL."""
    resume_deletions(limits.cutoff)
    return empty_trash(_trash_ends(limits)) if limits.limit is None else 0


def _trash_ends(limits: Limits) -> datetime:
    return limits.now - timedelta(seconds=Environment.current().trash_ttl)


def _delete_due(
    report: PurgeReport, limits: Limits, due: QuerySet[StoredObject], progress: Callable[[int], None]
) -> PurgeReport:
    for gone in delete_batches(due, limits, report.objects):
        progress(gone.objects)
        report = replace(
            report,
            objects=report.objects + gone.objects,
            bytes=report.bytes + gone.bytes,
            failures=(report.failures + gone.failures)[:_FAILURES],
        )
    return report
