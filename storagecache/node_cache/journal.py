"""What happened when, and what is big: hits and misses by the hour, and the largest values that were stored.

Kept by each process beside its counters and written into the same file; summed up for whoever asks.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from typing import Any, Final

from storagecache.node_cache.frames import Frame
from storagecache.node_cache.generations import AnyKey
from storagecache.node_cache.keys import NodeCacheKey

HOUR: Final = 3600  # seconds
_HOURS: Final = 24 * 7  # that are remembered
LARGEST: Final = 20  # values of a process that are remembered
_FIELDS: Final = (str, str, str, str, int, float, float, float)

Hours = dict[int, tuple[int, int]]  # hours since 1970 -> hits, misses


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored value: whose, its bytes, when it was made and ends (seconds since 1970; 0: no end), its compute time."""

    user: str
    workflow: str
    node_type: str
    digest: str
    bytes: int
    made: float
    ends: float
    compute: float

    @property
    def key(self) -> NodeCacheKey:
        """The key that it was stored under."""
        return NodeCacheKey(self.user, self.workflow, self.node_type, self.digest)


class Journal:
    """The journal of one process; safe for threads."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew in a forked child."""
        self._lock = threading.Lock()
        self._entries: dict[NodeCacheKey, Entry] = {}
        self._hours: Hours = {}
        self._counted = (0, 0)

    def stored(self, key: AnyKey, frame: Frame) -> None:
        """Note a value that was stored; one under a bare text, which has no scope, is not."""
        if isinstance(key, str):
            return
        ends = frame.created + frame.ttl if frame.ttl >= 0 else 0.0
        scope = (key.user, key.workflow, key.node_type, key.digest)
        entry = Entry(*scope, frame.cost, frame.created, ends, float(frame.compute))
        with self._lock:
            self._entries[entry.key] = entry
            if len(self._entries) > 2 * LARGEST:
                self._entries = {kept.key: kept for kept in largest(self._entries.values())}

    def count(self, hits: int, misses: int, now: float) -> None:
        """Note the sums of this moment: what is more than before belongs to this hour."""
        hour = int(now // HOUR)
        with self._lock:
            more = hits - self._counted[0], misses - self._counted[1]
            self._counted = hits, misses
            before = self._hours.get(hour, (0, 0))
            self._hours[hour] = before[0] + more[0], before[1] + more[1]
            self._hours = {at: counts for at, counts in self._hours.items() if at > hour - _HOURS}

    def tree(self) -> dict[str, Any]:
        """Give all of it in plain values, for the file."""
        with self._lock:
            hours = [[hour, *counts] for hour, counts in self._hours.items()]
            entries = list(self._entries.values())
        return {"hours": hours, "largest": [list(astuple(entry)) for entry in largest(entries)]}


def largest(entries: Iterable[Entry]) -> list[Entry]:
    """Give the largest entries, the largest first."""
    return heapq.nlargest(LARGEST, entries, key=lambda entry: entry.bytes)


def summed(trees: Iterable[Mapping[str, Any]]) -> tuple[Hours, list[Entry]]:
    """Sum what several processes wrote; what is not in its form is left out. Of equal keys the newest value counts."""
    hours: Hours = {}
    entries: dict[NodeCacheKey, Entry] = {}
    for tree in trees:
        for hour, hits, misses in _lists(tree.get("hours"), (int, int, int)):
            before = hours.get(hour, (0, 0))
            hours[hour] = before[0] + hits, before[1] + misses
        for fields in _lists(tree.get("largest"), _FIELDS):
            entry = Entry(*fields)
            if entry.key not in entries or entries[entry.key].made < entry.made:
                entries[entry.key] = entry
    return hours, largest(entries.values())


def _lists(found: object, types: tuple[type, ...]) -> Iterable[tuple[Any, ...]]:
    for item in found if isinstance(found, list) else ():
        if isinstance(item, list) and len(item) == len(types) and all(map(isinstance, item, types)):
            yield tuple(item)
