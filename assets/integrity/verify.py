"""Compare the catalog with the buckets, both ways. Reports and never changes anything.

Each physical bucket is listed once and merged with its rows in key order, in constant memory. Uploads, deletions and
purges go on meanwhile: whatever looks wrong in the merge is only a suspect, and is judged again by what bucket and
catalog say at that moment. It goes in steps; behind each of them a comparison can be ended and begun again. Where
the steps are recorded is `assets.integrity.runs`; repairing is `assets.integrity.repair`.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Final, cast
from uuid import UUID

from django.core.files.storage import storages
from django.db.models import PROTECT, Count, ForeignObjectRel, Model, Q, QuerySet
from django.utils import timezone

from assets.integrity.counters import Difference, differing
from assets.integrity.identity import refuse_wrong_bucket
from assets.integrity.places import Place, find_places
from assets.media.kinds import SIZES
from assets.models import Rendition, StoredObject
from assets.services.sections import release_connection
from storagecache.capabilities import ObjectInfo
from storagecache.environment import Environment
from storagecache.errors import BackendUnavailableError, InvalidKeyError, ObjectNotFoundError, StorageError
from storagecache.keys import validate_storage_name
from storagecache.storages.base import ObjectStorage

logger = logging.getLogger(__name__)

PAGE: Final = 1000  # rows in one SELECT
SUSPECTS: Final = 500  # judged together: one SELECT for all of them
STRIDE: Final = 10_000  # objects and rows between two steps, at most
STRIDE_BYTES: Final = 256 << 20  # hashed between two steps, more or less
PURGE_LAG: Final = timedelta(hours=1)  # how far the purge may be behind
HOLDERS: Final = 5  # named in a finding
BLOCK: Final = 256 << 10  # bytes hashed at a time
MOST_UNREADABLE: Final = 10  # then the backend is down rather than an object lost
_PICTURE: Final = f"{Rendition._meta.model_name} "
_FIRST: Final = "0" * 32  # an id before all others
_UNREADY: Final = (StoredObject.State.PENDING, StoredObject.State.DELETING)
_DONE: Final = "done"  # how far a phase has come that has a single step


class Kind(StrEnum):
    """What can be wrong; docs/operations.md says what each one means."""

    OBJECT_WITHOUT_ROW = "object_without_row"
    ROW_WITHOUT_OBJECT = "row_without_object"
    THUMBNAIL_MISSING = "thumbnail_missing"
    WRONG_SIZE = "wrong_size"
    WRONG_DIGEST = "wrong_digest"
    ASSET_NOT_READY = "asset_not_ready"
    REFERENCE_NOT_READY = "reference_not_ready"  # as before, by a thumbnail or another record
    STUCK = "stuck"
    COUNTER_DIFFERS = "counter_differs"
    UNREADABLE = "unreadable"  # not a finding: it could not be told


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong. `id` is the object's, or that of the asset, record or account; "" without a row."""

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
    state_changed_at: datetime = datetime.max.replace(tzinfo=UTC)
    preview: str = ""
    color: str = ""

    @property
    def has_pictures(self) -> bool:
        """Tell whether small pictures were made of it."""
        return self.is_ready and self.preview == StoredObject.Preview.MADE and bool(self.color)

    @property
    def is_ready(self) -> bool:
        return self.state == StoredObject.State.READY


_Pair = tuple[ObjectInfo | None, _Row | None]  # the two sides of one key; one of them may be missing


class UnknownBucketError(BackendUnavailableError):
    """The catalog names a bucket that is not configured now: nothing can be told about its objects."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a comparison has come: everything up to `after` in this phase is judged."""

    phase: str = ""
    after: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """What a piece of the comparison found, and which objects' bytes it held against their digests."""

    position: Position
    findings: list[Finding]
    hashed: list[UUID]


_Phase = Callable[[str], Iterator[tuple[str, list[Finding]]]]  # from the last key done to (last key done, findings)


@dataclass(slots=True, kw_only=True)
class Verification:
    """One comparison: ask `steps` or `findings` once; the counts are true when it has ended.

    `since`: only rows and objects made at that time or later. `deep`: the bytes are hashed too, at most `rate` bytes
    a second. `start`: where an earlier comparison ended. `progress` hears of each object or row that is done.
    """

    since: datetime | None = None
    deep: bool = False
    rate: int | None = None
    start: Position = Position()
    progress: Callable[[int], None] = lambda count: None
    objects: int = 0  # listed
    rows: int = 0  # read
    leftovers: int = 0  # rows that are pending or being deleted: the purge's work, not a finding
    hashed_bytes: int = 0
    unreadable: int = field(default=0)
    listed: Counter[str] = field(default_factory=Counter)  # objects of each bucket
    hashed: list[UUID] = field(default_factory=list)  # whole, since the last step

    def findings(self) -> Iterator[Finding]:
        """Yield everything wrong, in no particular order; see `steps`."""
        for step in self.steps():
            yield from step.findings

    def steps(self) -> Iterator[Step]:
        """Compare piece by piece; one SELECT for each 1,000 rows, none for each object.

        Raises:
            UnknownBucketError, UnsureError: before anything is compared.
            StorageError: a bucket cannot be listed.
            DatabaseError: the catalog does not answer.
        """
        places = find_places()
        refuse_unknown_buckets(places)
        for place in places:
            refuse_wrong_bucket(place)
        for name, phase, after in self._phases_left(places):
            for done, findings in phase(after):
                hashed, self.hashed = self.hashed, []
                yield Step(Position(name, done), findings, hashed)

    def _phases_left(self, places: list[Place]) -> list[tuple[str, _Phase, str]]:
        """Give the phases from `start` on; all of them when it names one that is not configured any more."""
        phases: dict[str, _Phase] = {}
        for place in places:
            phases[f"bucket {place.bucket} {'+'.join(place.aliases)}"] = partial(self._compare, place)
        phases |= {"references": self._references, "counters": self._counters}
        names = list(phases)
        first = names.index(self.start.phase) if self.start.phase in phases else 0
        return [(name, phases[name], self.start.after if name == self.start.phase else "") for name in names[first:]]

    # --- one bucket ---------------------------------------------------------------------------

    def _compare(self, place: Place, after: str) -> Iterator[tuple[str, list[Finding]]]:
        """Merge, and judge the suspects in batches. What is whole but for its bytes is hashed on the way."""
        pairs = merge(self._listed(place, after), self._recorded(place, after))
        done = after
        while chunk := self._chunk(pairs):
            suspects = [pair for pair in chunk.suspects if pair[0] is None or pair[1] is None or pair[1].is_ready]
            findings = [*self._judge_objects(place, [info for info, row in suspects if info and row is None])]
            findings += self._judge_rows(place, [row for _, row in suspects if row and row.is_ready])
            findings += _judge_stuck(place, [row for _, row in chunk.suspects if row and not row.is_ready])
            findings += _judge_pictures(place, chunk.pictured)
            done = chunk.last if _is_text(chunk.last) else done
            yield done, findings

    def _chunk(self, pairs: Iterator[_Pair]) -> _Chunk | None:
        """Take pairs until there is enough to judge; None behind the last."""
        chunk = _Chunk()
        for pair in pairs:
            chunk.add(pair, is_suspect=self._is_suspect(pair), deep=self.deep)
            if chunk.is_full:
                break
        return chunk if chunk.pairs else None

    def _is_suspect(self, pair: _Pair) -> bool:
        self.progress(1)
        info, row = pair
        if row is None:
            return True
        if not row.is_ready:
            self.leftovers += 1
            return _is_late(row)
        return self.deep or info is None or info.size != row.size

    def _listed(self, place: Place, after: str) -> Iterator[ObjectInfo]:
        for info in place.storage.list_objects(start_after=after, skip_prefixes=place.skip_prefixes):
            if self.since is None or info.modified_at >= self.since:
                self.objects += 1
                self.listed[place.bucket] += 1
                yield info

    def _recorded(self, place: Place, after: str) -> Iterator[_Row]:
        """Page through the rows by keyset; between two pages no connection is held."""
        last: str | None = after
        while last is not None:
            page = self._page(place, last)
            self.rows += len(page)
            yield from page
            last = page[-1].key if len(page) == PAGE else None

    def _page(self, place: Place, last: str) -> list[_Row]:
        rows = StoredObject.objects.filter(bucket=place.bucket, storage__in=place.aliases, key__gt=last)
        if self.since is not None:
            rows = rows.filter(created_at__gte=self.since)
        names = ("key", "id", "storage", "size", "sha256", "state", "state_changed_at", "preview", "color")
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
        lost = [i for i in wrong if i in ready and wrong[i].kind is Kind.ROW_WITHOUT_OBJECT]
        holders = _holders(lost)
        for object_id, finding in wrong.items():
            if object_id in ready:
                yield _held(finding, holders.get(object_id, []))

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

    # --- references and counters --------------------------------------------------------------

    def _references(self, after: str) -> Iterator[tuple[str, list[Finding]]]:
        """Report records whose object nobody may read: reference and state change in one transaction.

        It starts from the few objects that are not ready: each state has an index of its own.
        """
        begun, _, last_id = after.partition(" ")
        for state in _UNREADY[_UNREADY.index(begun) if begun else 0 :]:
            last = UUID(last_id if state == begun else _FIRST)
            while ids := _next_ids(state, last):
                findings = [finding for relation in _relations() for finding in self._not_ready(relation, ids)]
                release_connection()
                last = ids[-1]
                yield f"{state} {last.hex}", findings

    def _not_ready(self, relation: ForeignObjectRel, ids: list[UUID]) -> Iterator[Finding]:
        name = relation.field.name
        model: type[Model] = relation.related_model
        records = model._base_manager.filter(**{f"{name}__in": ids}).exclude(
            **{f"{name}__state": StoredObject.State.READY}
        )
        if self.since is not None and hasattr(model, "created_at"):
            records = records.filter(created_at__gte=self.since)
        for record in records.select_related(name).order_by("pk").iterator(PAGE):
            yield _reference_finding(record, getattr(record, name))

    def _counters(self, after: str) -> Iterator[tuple[str, list[Finding]]]:
        """Report counters that differ from what they count: all in one step, as they are in one moment."""
        if not after:
            found = [_counter_finding(difference) for difference in differing()]
            release_connection()
            yield _DONE, found


@dataclass(slots=True)
class _Chunk:
    """A run of pairs that is judged together."""

    pairs: int = 0
    bytes: int = 0
    last: str = ""
    suspects: list[_Pair] = field(default_factory=list)
    pictured: list[UUID] = field(default_factory=list)

    def add(self, pair: _Pair, *, is_suspect: bool, deep: bool) -> None:
        """Take one more pair."""
        info, row = pair
        self.pairs += 1
        self.last = info.key if info is not None else row.key if row is not None else ""
        if row is not None and row.has_pictures:
            self.pictured.append(row.id)
        if is_suspect:
            self.suspects.append(pair)
            self.bytes += row.size if deep and row is not None else 0

    @property
    def is_full(self) -> bool:
        """Tell whether it is time to judge."""
        return len(self.suspects) >= SUSPECTS or self.pairs >= STRIDE or self.bytes >= STRIDE_BYTES


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


def refuse_unknown_buckets(places: list[Place]) -> None:
    """Refuse when the catalog has rows of a bucket that is not configured.

    Raises:
        UnknownBucketError
    """
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


def _held(finding: Finding, holders: list[str]) -> Finding:
    """Name who holds a lost object; one that only shows another can be made again."""
    if not holders:
        return finding
    only_shows = all(name.startswith(_PICTURE) for name in holders)
    kind = Kind.THUMBNAIL_MISSING if only_shows else finding.kind
    return replace(finding, kind=kind, detail=f"{finding.detail}; held by {', '.join(holders)}")


def _judge_pictures(place: Place, ids: list[UUID]) -> Iterator[Finding]:
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


def _next_ids(state: str, last: UUID) -> list[UUID]:
    objects = StoredObject.objects.filter(state=state, pk__gt=last).order_by("pk")
    return list(objects.values_list("pk", flat=True)[:PAGE])


def _relations() -> list[ForeignObjectRel]:
    """Give every foreign key that keeps an object alive, as the purge sees them."""
    return [relation for relation in StoredObject._meta.related_objects if relation.on_delete is PROTECT]


def _holders(ids: list[UUID]) -> dict[UUID, list[str]]:
    """Name some records that refer to each of these objects."""
    found: dict[UUID, list[str]] = {}
    if not ids:
        return found
    for relation in _relations():
        column = relation.field.attname
        model: type[Model] = relation.related_model
        rows = model._base_manager.filter(**{f"{relation.field.name}__in": ids}).order_by().values_list(column, "pk")
        for object_id, pk in rows[: HOLDERS * len(ids)]:
            names = found.setdefault(object_id, [])
            if len(names) < HOLDERS:
                names.append(f"{model._meta.model_name} {pk.hex if isinstance(pk, UUID) else pk}")
    release_connection()
    return found


def _reference_finding(record: Model, stored: StoredObject) -> Finding:
    name = record._meta.model_name
    pk = record.pk.hex if isinstance(record.pk, UUID) else str(record.pk)
    kind = Kind.ASSET_NOT_READY if name == "asset" else Kind.REFERENCE_NOT_READY
    detail = f"the object of {name} {pk} is {stored.state}"
    return Finding(kind=kind, bucket=stored.bucket, key=stored.key, id=pk, detail=detail)


def _counter_finding(found: Difference) -> Finding:
    detail = f"says {found.counted}, there are {found.actual}"
    key = f"{found.counter} of user {found.owner_id}"
    return Finding(kind=Kind.COUNTER_DIFFERS, bucket="", key=key, id=str(found.owner_id), detail=detail)


def _is_late(row: _Row) -> bool:
    """Tell whether the purge should have finished with this row: being deleted may take two rounds of it."""
    grace = timedelta(seconds=Environment.current().grace_time)
    lag = PURGE_LAG if row.state == StoredObject.State.PENDING else 2 * PURGE_LAG
    return row.state_changed_at < timezone.now() - grace - lag


def _judge_stuck(place: Place, late: list[_Row]) -> list[Finding]:
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


def _is_text(key: str) -> bool:
    """Tell whether the catalog can record a key of the listing: bytes that are not UTF-8 it cannot."""
    return key.isprintable() and len(key) <= 1024


def _slow_down(done: int, started: float, rate: int | None) -> None:
    """Wait as long as the bytes are ahead of the rate."""
    if rate is not None and (ahead := done / rate - (time.monotonic() - started)) > 0:
        time.sleep(min(ahead, 5.0))
