"""The bounds of temp: TEMP_MAX_BYTES and TEMP_MIN_FREE_BYTES, and the oldest temp assets, which go for them."""

from __future__ import annotations

import shutil
from datetime import timedelta
from typing import Final

from django.core.files.storage import FileSystemStorage, storages
from django.db.models import QuerySet, Sum

from assets.models import Asset, StoredObject, UsageDelta, UsageTotal
from assets.services.purging.collectable import expired_assets
from assets.services.purging.limits import SECTION, Limits
from assets.services.purging.marking import COUNTED, end_assets
from assets.services.purging.report import PurgeReport
from assets.services.sections import release_connection, write_section
from storagecache.environment import Environment

_YOUNG: Final = timedelta(minutes=10)  # younger temp stays however full it is: a workflow is about to read it


def end_crowding(limits: Limits, done: int) -> int:
    """Remove the oldest temp assets while there are too many bytes of them, or too few are free on their disk."""
    before = done
    while (room := min(limits.room(done), SECTION)) and (excess := _temp_excess()) > 0:
        with write_section():
            oldest = list(_old_temp(limits).only(*COUNTED).select_for_update(skip_locked=True)[:room])
            chosen = _enough(oldest, excess)
            end_assets(chosen, limits)
        release_connection()
        done += len(chosen)
        if len(oldest) < room:
            break
    return done - before


def count_crowding(limits: Limits) -> PurgeReport:
    """Count the temp assets that are not expired and would go all the same."""
    expired = expired_assets(limits).filter(bucket=Asset.Bucket.TEMP).aggregate(b=Sum("size"))["b"] or 0
    excess, count, total = _temp_excess() - expired, 0, 0
    for size in _old_temp(limits).exclude(expires_at__lte=limits.now).values_list("size", flat=True).iterator():
        if total >= excess:
            break
        count, total = count + 1, total + (size or 0)
    return PurgeReport(objects=count, bytes=total, expired=count)


def _old_temp(limits: Limits) -> QuerySet[Asset]:
    """Give temp assets, the oldest first: their ids grow with time."""
    return Asset.objects.filter(bucket=Asset.Bucket.TEMP, created_at__lte=limits.now - _YOUNG).order_by("pk")


def _enough(assets: list[Asset], excess: int) -> list[Asset]:
    """Give as many of the first assets as it takes to be rid of `excess` bytes."""
    for number, asset in enumerate(assets):
        if excess <= 0:
            return assets[:number]
        excess -= asset.size or 0
    return assets


def _temp_excess() -> int:
    """Tell by how many bytes temp is beyond TEMP_MAX_BYTES or TEMP_MIN_FREE_BYTES; negative or 0: it is not."""
    environment = Environment.current()
    most, least_free = environment.temp_max_bytes, environment.temp_min_free_bytes
    beyond = 0 if most is None else _temp_bytes() - most
    return max(beyond, 0 if least_free is None else least_free - _temp_free(least_free))


def _temp_bytes() -> int:
    """Add up what temp assets have, from the counters: no row of an asset is read.

    Totals come first: what a fold moves in between is then missed, and not counted twice.
    """
    totals = UsageTotal.objects.filter(dimension=UsageTotal.Dimension.PLACE, value=Asset.Bucket.TEMP)
    total: int = totals.aggregate(b=Sum("bytes"))["b"] or 0
    return total + (UsageDelta.objects.filter(place=Asset.Bucket.TEMP).aggregate(b=Sum("bytes"))["b"] or 0)


def _temp_free(enough: int) -> int:
    """Tell how many bytes are free on the disk of temp, or are about to be; `enough` where there is no disk of ours."""
    storage = storages[Asset.Bucket.TEMP]
    if not isinstance(storage, FileSystemStorage):
        return enough
    try:
        free = shutil.disk_usage(storage.location).free
    except FileNotFoundError:
        return enough
    dying = StoredObject.objects.filter(storage=Asset.Bucket.TEMP, state=StoredObject.State.DELETING)
    return free + (dying.aggregate(b=Sum("size"))["b"] or 0)
