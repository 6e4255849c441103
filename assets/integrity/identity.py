"""Whether a bucket is the one that the catalog knows: an unmounted disk, another disk, an older catalog.

A folder carries a mark; the catalog records the same mark, and a number that grows with each run on both sides. The
catalog's grows first, so that a kill between the two never looks like a catalog that went back in time.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid4

from assets.integrity.places import Place
from assets.models import BucketRecord, StoredObject
from assets.services.sections import release_connection, write_section
from storagecache.capabilities import IdentityKeeper
from storagecache.errors import BackendUnavailableError, StorageError

logger = logging.getLogger(__name__)
_FEW: Final = 10  # rows that may all have lost their objects in a bucket that cannot carry a mark


class UnsureError(BackendUnavailableError):
    """Nothing can be told, or nothing may be changed: the bucket or the catalog may not be the right one."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What is written into a bucket; no identity: nothing is."""

    identity: UUID | None = None
    generation: int = 0


def refuse_wrong_bucket(place: Place) -> None:
    """Refuse a bucket that is not the recorded one, or that looks like a disk that is not mounted.

    Raises:
        UnsureError
    """
    record, mark = _record(place), _read(place)
    if record is not None and mark is not None and record.identity != mark.identity:
        raise UnsureError(
            f"The folder of bucket {place.bucket!r} is not the one that the catalog knows. Mount the right disk; when "
            "it is the right one (a restored copy), run `verify_assets --adopt`."
        )
    if mark is not None and record is None and mark.identity is None and _looks_unmounted(place):
        raise UnsureError(f"The folder of bucket {place.bucket!r} is empty, the catalog is not. Is its disk mounted?")
    if mark is None and _is_bare(place):
        raise UnsureError(f"The bucket {place.bucket!r} is empty, the catalog is not. Is it the right bucket?")


def refuse_older_catalog(place: Place) -> None:
    """Refuse to change anything when the bucket has seen a newer catalog than this one.

    Raises:
        UnsureError
    """
    record, mark = _record(place), _read(place)
    if mark is not None and mark.identity is not None and mark.generation > (record.generation if record else 0):
        raise UnsureError(
            f"The catalog is older than what the bucket {place.bucket!r} has seen: a backup was restored. Restore a "
            "newer one; to go on with this one for good, run `verify_assets --adopt`."
        )


def note_run(place: Place) -> None:
    """Raise the number on both sides; an unmarked bucket is marked. A bucket marked by others is left alone."""
    record, mark = _record(place), _read(place)
    if mark is None or (record is None) != (mark.identity is None):
        return
    if record is not None and mark.generation > record.generation:
        return
    _write(place, record.identity if record else uuid4(), (record.generation if record else 0) + 1)


def adopt(place: Place) -> None:
    """Take the bucket as it is now for the right one, and this catalog for its newest."""
    mark = _read(place)
    if mark is not None:
        _write(place, mark.identity or uuid4(), mark.generation + 1)


def _write(place: Place, identity: UUID, generation: int) -> None:
    fields = {"identity": identity, "generation": generation}
    with write_section():
        BucketRecord.objects.update_or_create(bucket=place.bucket, defaults=fields)
    release_connection()
    assert isinstance(place.storage, IdentityKeeper)
    try:
        place.storage.write_identity(json.dumps({"identity": identity.hex, "generation": generation}))
    except StorageError as error:  # a read-only disk can be compared, too
        logger.warning("bucket not marked bucket=%s reason=%s", place.bucket, error)
        if _read(place) == Mark():
            with write_section():
                BucketRecord.objects.filter(bucket=place.bucket).delete()


def _record(place: Place) -> BucketRecord | None:
    record = BucketRecord.objects.filter(bucket=place.bucket).first()
    release_connection()
    return record


def _read(place: Place) -> Mark | None:
    """Read the bucket's mark; None when this kind of bucket cannot carry one."""
    if not isinstance(place.storage, IdentityKeeper):
        return None
    text = place.storage.read_identity()
    if not text:
        return Mark()
    try:
        fields = json.loads(text)
        return Mark(UUID(fields["identity"]), int(fields["generation"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnsureError(f"The mark of bucket {place.bucket!r} is damaged. Run `verify_assets --adopt`.") from error


def _looks_unmounted(place: Place) -> bool:
    return isinstance(place.storage, IdentityKeeper) and place.storage.is_untouched() and _ready_rows(place, 1) > 0


def _is_bare(place: Place) -> bool:
    return (
        next(place.storage.list_objects(skip_prefixes=place.skip_prefixes), None) is None
        and _ready_rows(place, _FEW) == _FEW
    )


def _ready_rows(place: Place, most: int) -> int:
    ready = StoredObject.objects.filter(bucket=place.bucket, storage__in=place.aliases, state=StoredObject.State.READY)
    count = len(ready.order_by()[:most].values_list("pk", flat=True))
    release_connection()
    return count
