"""Compare the catalog with the buckets, both ways. Reports and never changes anything.

Each physical bucket is listed once and merged with its rows in key order, in constant memory. Uploads, deletions and
purges go on meanwhile: whatever looks wrong in the merge is only a suspect, and is judged again by what bucket and
catalog say at that moment. Repairing does not live here.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import islice
from typing import Final, cast
from uuid import UUID

from django.core.files.storage import storages
from django.db.models import Q

from assets.integrity.places import Place, find_places
from assets.models import Asset, StoredObject
from assets.services.sections import release_connection
from storagecache.capabilities import ObjectInfo
from storagecache.errors import BackendUnavailableError, InvalidKeyError, ObjectNotFoundError, StorageError
from storagecache.keys import validate_storage_name
from storagecache.storages.base import ObjectStorage

logger = logging.getLogger(__name__)

PAGE: Final = 1000  # rows in one SELECT
SUSPECTS: Final = 500  # judged together: one SELECT for all of them
BLOCK: Final = 256 << 10  # bytes hashed at a time
MOST_UNREADABLE: Final = 10  # then the backend is down rather than an object lost


class Kind(StrEnum):
    """What can be wrong; docs/operations.md says what each one means."""

    OBJECT_WITHOUT_ROW = "object_without_row"
    ROW_WITHOUT_OBJECT = "row_without_object"
    WRONG_SIZE = "wrong_size"
    WRONG_DIGEST = "wrong_digest"
    ASSET_NOT_READY = "asset_not_ready"
    UNREADABLE = "unreadable"  # not a finding: it could not be told


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong. `id` is the object's, or the asset's for ASSET_NOT_READY; "" without a row."""

    kind: Kind
    bucket: str
    key: str
    id: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class _Row:
    """What the comparison needs of a StoredObject."""

    key: str
    id: UUID
    storage: str
    size: int
    sha256: str
    state: str

    @property
    def is_ready(self) -> bool:
        return self.state == StoredObject.State.READY


_Pair = tuple[ObjectInfo | None, _Row | None]  # the two sides of one key; one of them may be missing


class UnknownBucketError(BackendUnavailableError):
    """The catalog names a bucket that is not configured now: nothing can be told about its objects."""


@dataclass(slots=True, kw_only=True)
class Verification:
    """One comparison: ask `findings` once; the counts are true when it has ended.

    `since`: only rows and objects made at that time or later. `deep`: the bytes are hashed too. `progress` hears of
    each object or row that is done.
    """

    since: datetime | None = None
    deep: bool = False
    progress: Callable[[int], None] = lambda count: None
    objects: int = 0  # listed
    rows: int = 0  # read
    leftovers: int = 0  # rows that are pending or being deleted: the purge's work, not a finding
    hashed_bytes: int = 0
    unreadable: int = field(default=0)

    def findings(self) -> Iterator[Finding]:
        """Yield everything wrong, in no particular order; one SELECT for each 1,000 rows, none for each object.

        Raises:
            UnknownBucketError: before anything is compared.
            StorageError: a bucket cannot be listed.
            DatabaseError: the catalog does not answer.
        """
        places = find_places()
        _refuse_unknown_buckets(places)
        for place in places:
            yield from self._compare(place)
        yield from self._assets_not_ready()

    # --- one bucket ---------------------------------------------------------------------------

    def _compare(self, place: Place) -> Iterator[Finding]:
        """Merge, and judge the suspects in batches. What is whole but for its bytes is hashed on the way."""
        pairs = merge(self._listed(place), self._recorded(place))
        suspects = (pair for pair in pairs if self._is_suspect(pair))
        while batch := list(islice(suspects, SUSPECTS)):
            yield from self._judge_objects(place, [info for info, row in batch if info and row is None])
            yield from self._judge_rows(place, [row for _, row in batch if row])

    def _is_suspect(self, pair: _Pair) -> bool:
        self.progress(1)
        info, row = pair
        if row is None:
            return True
        if not row.is_ready:
            self.leftovers += 1
            return False
        return self.deep or info is None or info.size != row.size

    def _listed(self, place: Place) -> Iterator[ObjectInfo]:
        for info in place.storage.list_objects(skip_prefixes=place.skip_prefixes):
            if self.since is None or info.modified_at >= self.since:
                self.objects += 1
                yield info

    def _recorded(self, place: Place) -> Iterator[_Row]:
        """Page through the rows by keyset; between two pages no connection is held."""
        last: str | None = ""
        while last is not None:
            page = self._page(place, last)
            self.rows += len(page)
            yield from page
            last = page[-1].key if len(page) == PAGE else None

    def _page(self, place: Place, last: str) -> list[_Row]:
        rows = StoredObject.objects.filter(bucket=place.bucket, storage__in=place.aliases, key__gt=last)
        if self.since is not None:
            rows = rows.filter(created_at__gte=self.since)
        names = ("key", "id", "storage", "size", "sha256", "state")
        page = [_Row(*values) for values in rows.order_by("key").values_list(*names)[:PAGE]]
        release_connection()
        return page

    # --- judging ------------------------------------------------------------------------------

    def _judge_objects(self, place: Place, suspects: list[ObjectInfo]) -> Iterator[Finding]:
        """Report objects that have no row now, and are still there.

        In this order it is certain: a row comes before its object and goes after it, and no key is used twice.
        """
        known = _keys_with_row(place, [info.key for info in suspects if _is_ours(info.key)])
        for info in suspects:
            if info.key not in known and _is_still_there(place.storage, info.key):
                detail = f"{info.size} bytes, stored {info.modified_at.isoformat()}"
                kind = Kind.OBJECT_WITHOUT_ROW
                yield Finding(kind=kind, bucket=place.bucket, key=printable(info.key), detail=detail)

    def _judge_rows(self, place: Place, suspects: list[_Row]) -> Iterator[Finding]:
        """Report rows whose object is wrong now, and which are ready after that was seen."""
        wrong: dict[UUID, Finding] = {}
        for row in suspects:
            finding = self._examine(place, row)
            if finding is not None:
                wrong[row.id] = finding
        ready = _still_ready(list(wrong))
        yield from (finding for object_id, finding in wrong.items() if object_id in ready)

    def _examine(self, place: Place, row: _Row) -> Finding | None:
        """Look at the object itself; None when it is as the row says."""
        problem = self._problem_of(cast("ObjectStorage", storages[row.storage]), row)
        if problem is None:
            return None
        kind, detail = problem
        return Finding(kind=kind, bucket=place.bucket, key=row.key, id=row.id.hex, detail=detail)

    def _problem_of(self, storage: ObjectStorage, row: _Row) -> tuple[Kind, str] | None:
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

    def _size_problem(self, storage: ObjectStorage, row: _Row) -> tuple[Kind, str] | None:
        size = storage.size(row.key)
        return None if size == row.size else (Kind.WRONG_SIZE, f"{size} bytes instead of {row.size}")

    def _digest_problem(self, storage: ObjectStorage, row: _Row) -> tuple[Kind, str] | None:
        digest = hashlib.sha256()
        with storage.open_stream(row.key) as stream:
            while block := stream.read(BLOCK):
                digest.update(block)
                self.hashed_bytes += len(block)
        if digest.hexdigest() == row.sha256:
            return None
        return Kind.WRONG_DIGEST, f"sha256 {digest.hexdigest()} instead of {row.sha256}"

    # --- assets -------------------------------------------------------------------------------

    def _assets_not_ready(self) -> Iterator[Finding]:
        """Report assets whose object nobody may read: reference and state change in one transaction, so none is new."""
        last: UUID | None = UUID(int=0)
        while last is not None:
            page = self._asset_page(last)
            yield from map(_asset_finding, page)
            last = page[-1].pk if len(page) == PAGE else None

    def _asset_page(self, last: UUID) -> list[Asset]:
        assets = Asset.objects.filter(pk__gt=last, object__isnull=False).exclude(object__state=StoredObject.State.READY)
        if self.since is not None:
            assets = assets.filter(created_at__gte=self.since)
        page = list(assets.select_related("object").order_by("pk")[:PAGE])
        release_connection()
        return page


def merge(listed: Iterable[ObjectInfo], recorded: Iterable[_Row]) -> Iterator[_Pair]:
    """Join two sides that ascend bytewise by key. Pure.

    Raises:
        BackendUnavailableError: the listing is not in order, so nothing can be told.
    """
    objects, rows = _in_order(listed), iter(recorded)
    info, row = next(objects, None), next(rows, None)
    while info is not None or row is not None:
        order = _compare_keys(info, row)
        yield (info if order <= 0 else None), (row if order >= 0 else None)
        info = next(objects, None) if order <= 0 else info
        row = next(rows, None) if order >= 0 else row


def _compare_keys(info: ObjectInfo | None, row: _Row | None) -> int:
    """Tell which side comes first: negative for the object, positive for the row, 0 for both."""
    if info is None or row is None:
        return 1 if info is None else -1
    left, right = os.fsencode(info.key), os.fsencode(row.key)
    return (left > right) - (left < right)


def _in_order(listed: Iterable[ObjectInfo]) -> Iterator[ObjectInfo]:
    last = b""
    for info in listed:
        key = os.fsencode(info.key)
        if key <= last:
            raise BackendUnavailableError(f"The bucket is not listed in order: {printable(info.key)} came too late.")
        last = key
        yield info


def printable(key: str) -> str:
    """Give a key that any terminal and any JSON can hold; bytes that are not UTF-8 become escapes."""
    return os.fsencode(key).decode("utf-8", "backslashreplace")


def _refuse_unknown_buckets(places: list[Place]) -> None:
    known = Q()
    for place in places:
        known |= Q(bucket=place.bucket, storage__in=place.aliases)
    stray = StoredObject.objects.exclude(known).order_by().values_list("storage", "bucket").first()
    release_connection()
    if stray is not None:
        raise UnknownBucketError(
            f"The catalog has objects of {stray[0]!r} in the bucket {stray[1]!r}, which is not configured now. "
            "Configure the recorded bucket, or move the objects."
        )


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


def _asset_finding(asset: Asset) -> Finding:
    assert asset.object is not None  # as selected
    return Finding(
        kind=Kind.ASSET_NOT_READY,
        bucket=asset.object.bucket,
        key=asset.object.key,
        id=asset.pk.hex,
        detail=f"the object of {asset.bucket}/{asset.key} is {asset.object.state}",
    )
