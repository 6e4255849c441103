"""Compare the catalog with the buckets, both ways. Reports and never changes anything.

Each physical bucket is listed once and merged with its rows in key order, in constant memory. Uploads, deletions and
purges go on meanwhile: whatever looks wrong in the merge is only a suspect, and is judged again by what bucket and
catalog say at that moment. It goes in steps; behind each of them a comparison can be ended and begun again. The merge
is in `merging`, the second look in `judging`; where the steps are recorded is `runs`, repairing is `repair`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Final
from uuid import UUID

from assets.integrity.counters import Difference, differing
from assets.integrity.findings import Finding, Kind
from assets.integrity.identity import refuse_wrong_bucket
from assets.integrity.judging import Examiner, is_late, judge_objects, judge_pictures, judge_stuck
from assets.integrity.merging import Chunk, Pair, Row, merge
from assets.integrity.places import Place, find_places, refuse_unknown_buckets
from assets.integrity.references import judge_references
from assets.models import StoredObject
from assets.services.sections import release_connection
from storagecache.capabilities import ObjectInfo

PAGE: Final = 1000  # rows in one SELECT
_DONE: Final = "done"  # how far a phase has come that has a single step


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
    listed: Counter[str] = field(default_factory=Counter)  # objects of each bucket
    _examiner: Examiner = field(init=False)

    def __post_init__(self) -> None:
        """Take on who looks at the objects."""
        self._examiner = Examiner(deep=self.deep, rate=self.rate)

    @property
    def hashed_bytes(self) -> int:
        """How many bytes were hashed."""
        return self._examiner.hashed_bytes

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
                yield Step(Position(name, done), findings, self._examiner.take_hashed())

    def _phases_left(self, places: list[Place]) -> list[tuple[str, _Phase, str]]:
        """Give the phases from `start` on; all of them when it names one that is not configured any more."""
        phases: dict[str, _Phase] = {}
        for place in places:
            phases[f"bucket {place.bucket} {'+'.join(place.aliases)}"] = partial(self._compare, place)
        phases |= {"references": partial(judge_references, since=self.since), "counters": self._counters}
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
            findings = [*judge_objects(place, [info for info, row in suspects if info and row is None])]
            findings += self._examiner.judge_rows(place, [row for _, row in suspects if row and row.is_ready])
            findings += judge_stuck(place, [row for _, row in chunk.suspects if row and not row.is_ready])
            findings += judge_pictures(place, chunk.pictured)
            done = chunk.last if _is_text(chunk.last) else done
            yield done, findings

    def _chunk(self, pairs: Iterator[Pair]) -> Chunk | None:
        """Take pairs until there is enough to judge; None behind the last."""
        chunk = Chunk()
        for pair in pairs:
            chunk.add(pair, is_suspect=self._is_suspect(pair), deep=self.deep)
            if chunk.is_full:
                break
        return chunk if chunk.pairs else None

    def _is_suspect(self, pair: Pair) -> bool:
        self.progress(1)
        info, row = pair
        if row is None:
            return True
        if not row.is_ready:
            self.leftovers += 1
            return is_late(row)
        return self.deep or info is None or info.size != row.size

    def _listed(self, place: Place, after: str) -> Iterator[ObjectInfo]:
        for info in place.storage.list_objects(start_after=after, skip_prefixes=place.skip_prefixes):
            if self.since is None or info.modified_at >= self.since:
                self.objects += 1
                self.listed[place.bucket] += 1
                yield info

    def _recorded(self, place: Place, after: str) -> Iterator[Row]:
        """Page through the rows by keyset; between two pages no connection is held."""
        last: str | None = after
        while last is not None:
            page = self._page(place, last)
            self.rows += len(page)
            yield from page
            last = page[-1].key if len(page) == PAGE else None

    def _page(self, place: Place, last: str) -> list[Row]:
        rows = StoredObject.objects.filter(bucket=place.bucket, storage__in=place.aliases, key__gt=last)
        if self.since is not None:
            rows = rows.filter(created_at__gte=self.since)
        names = ("key", "id", "storage", "size", "sha256", "state", "state_changed_at", "preview", "color")
        page = [Row(*values) for values in rows.order_by("key").values_list(*names)[:PAGE]]
        release_connection()
        return page

    def _counters(self, after: str) -> Iterator[tuple[str, list[Finding]]]:
        """Report counters that differ from what they count: all in one step, as they are in one moment."""
        if not after:
            found = [_counter_finding(difference) for difference in differing()]
            release_connection()
            yield _DONE, found


def _counter_finding(found: Difference) -> Finding:
    detail = f"says {found.counted}, there are {found.actual}"
    key = f"{found.counter} of user {found.owner_id}"
    return Finding(kind=Kind.COUNTER_DIFFERS, bucket="", key=key, id=str(found.owner_id), detail=detail)


def _is_text(key: str) -> bool:
    """Tell whether the catalog can record a key of the listing: bytes that are not UTF-8 it cannot."""
    return key.isprintable() and len(key) <= 1024
