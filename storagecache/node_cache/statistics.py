"""What the cache did: counters of this process, and their small files by which a command sums up all processes."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterable
from typing import Any, Final

import ormsgpack

from storagecache.node_cache.area import CacheArea
from storagecache.node_cache.forks import watch_forks

TIERS: Final = ("l1", "l2", "l3")
TIER_COUNTS: Final = ("hits", "misses", "bytes", "errors", "too_large")
COUNTS: Final = (
    "hits",
    "misses",
    "sets",
    "computes",
    "followed",
    "uncacheable",
    "dead_references",
    "bad_frames",
)
FOLDER: Final = "s/"

Stats = dict[str, Any]  # a tree of numbers, as `NodeCache.stats` documents it


class Counters:
    """Numbers that only grow; safe for threads."""

    def __init__(self) -> None:
        self._counts: dict[str, float] = dict.fromkeys(_names(), 0)
        self._counts["seconds_saved"] = 0.0
        self._lock = threading.Lock()
        watch_forks(self)

    def add(self, *names: str, seconds_saved: float = 0.0, **amounts: int) -> None:
        """Add one to each of the names, and amounts to others."""
        counts = self._counts
        with self._lock:
            for name in names:
                counts[name] += 1
            for name, amount in amounts.items():
                counts[name] += amount
            counts["seconds_saved"] += seconds_saved

    def hit(self, tier: str, size: int, seconds_saved: float, *, asked: int) -> None:
        """Count a hit of a tier that served a caller; in one step, since it is on the shortest way.

        `asked` is 0 for a second look, whose misses the first one counted.
        """
        counts = self._counts
        with self._lock:
            counts["hits"] += 1
            counts[f"{tier}_hits"] += 1
            counts[f"{tier}_bytes"] += size
            counts["l1_misses"] += asked and tier != "l1"
            counts["seconds_saved"] += seconds_saved

    def miss(self, tier: str, *, asked: int) -> None:
        """Count a look-up that found nothing, whose last word had `tier`; `asked` is 0 for a second look."""
        with self._lock:
            self._counts["misses"] += asked
            self._counts["l1_misses"] += asked and tier != "l1"

    def tree(self) -> Stats:
        """Give all counts: tiers as trees of their own."""
        with self._lock:
            counts = dict(self._counts)
        tree: Stats = {tier: {name: counts.pop(f"{tier}_{name}") for name in TIER_COUNTS} for tier in TIERS}
        return {**tree, **counts}

    def after_fork(self) -> None:
        """Begin at nought in a forked child, which has a file of its own."""
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(self._counts, 0)


def _names() -> Iterable[str]:
    yield from COUNTS
    for tier in TIERS:
        yield from (f"{tier}_{name}" for name in TIER_COUNTS)


class StatisticsFile:
    """The counters of one process as a small file in the alias `cache`."""

    def __init__(self, area: CacheArea) -> None:
        self._area = area
        self._pid = 0
        self._name = ""

    def write(self, stats: Stats) -> None:
        """Put the process's counters, replacing its older ones.

        Raises:
            OSError, StorageError
        """
        self._area.replace(self._own_name(), [ormsgpack.packb(stats)])

    def _own_name(self) -> str:
        if self._pid != os.getpid():
            self._pid = os.getpid()
            host = "".join(c if c.isascii() and c.isalnum() else "-" for c in socket.gethostname().lower())[:40]
            self._name = f"{FOLDER}{host or 'host'}-{self._pid}-{time.time_ns():x}"
        return self._name


def has_counted(stats: Stats) -> bool:
    """Tell whether a process did anything that its file would tell of (a command that only looks did not)."""
    return any(stats[name] for name in COUNTS) or any(stats[tier][name] for tier in TIERS for name in TIER_COUNTS)


def collected(area: CacheArea) -> tuple[int, Stats]:
    """Sum the counters of all processes that left a file; returns how many, and the sums.

    Raises:
        OSError, StorageError
    """
    total: Stats = Counters().tree()
    processes = sum(_added(total, stats) for stats in _files(area))
    return processes, total


def journals(area: CacheArea) -> list[Stats]:
    """Give what each process wrote, its journal among it.

    Raises:
        OSError, StorageError
    """
    return [stats for stats in _files(area) if isinstance(stats, dict)]


def _files(area: CacheArea) -> Iterable[Any]:
    for name in list(area.names(FOLDER)):
        data = area.read(name)
        if data is not None:
            yield _opened(data)


def _opened(data: bytes) -> Any:
    try:
        return ormsgpack.unpackb(data)
    except ValueError:
        return None


def _added(total: Stats, stats: Any) -> bool:
    """Add the known numbers of one tree to another; anything else in a file is not ours."""
    if not isinstance(stats, dict):
        return False
    for name, value in total.items():
        other = stats.get(name, 0)
        if isinstance(value, dict):
            _added(value, other)
        elif isinstance(other, int | float):
            total[name] = value + other
    return True
