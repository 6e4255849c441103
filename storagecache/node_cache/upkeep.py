"""What a cache does on the side: records for `explain`, the statistics file, heartbeats of locks."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from storagecache.errors import StorageError
from storagecache.node_cache.flights import HEARTBEAT_SECONDS, KeyLocks
from storagecache.node_cache.frames import RECORD, frame_of
from storagecache.node_cache.generations import AnyKey
from storagecache.node_cache.housekeeper import Housekeeper
from storagecache.node_cache.journal import Journal
from storagecache.node_cache.keys import NodeCacheKey
from storagecache.node_cache.records import Seen, history_of, merged, plain_record, record_keys
from storagecache.node_cache.shelves import Shelves
from storagecache.node_cache.statistics import StatisticsFile, Stats, has_counted
from storagecache.node_cache.tiers import TierTroubleError, TooLargeError

_MAX_NOTED: Final = 10_000  # node types and scopes whose last key is remembered
_STATS_SECONDS: Final = 2.0

logger: Final = logging.getLogger(__name__)


class Upkeep:
    """The side work of one cache; runs in its own thread and at `flush`. Never raises."""

    def __init__(self, *, shelves: Shelves, stats: Callable[[], Stats], clock: Callable[[], float]) -> None:
        self._shelves = shelves
        self._stats = stats
        self._clock = clock
        self._file = None if shelves.area is None else StatisticsFile(shelves.area)
        self._housekeeper = Housekeeper(self._tick, HEARTBEAT_SECONDS)
        self._locks: KeyLocks | None = None
        self.journal = Journal()
        self.reset()

    def reset(self) -> None:
        """Begin anew in a forked child: locks and notes are the parent's."""
        self._lock = threading.Lock()
        self.journal.reset()
        self._noted: dict[tuple[str, str, str], str] = {}
        self._pending: dict[str, list[Seen]] = {}
        self._written_stats: Stats = {}
        self._stats_at = 0.0

    def beat_for(self, locks: KeyLocks) -> None:
        """Prolong the held ones of these locks from now on."""
        self._locks = locks

    def close(self) -> None:
        """Write what is pending, and end the thread."""
        self.flush()
        self._housekeeper.close()

    def wake(self) -> None:
        """See to it that the side work is done within a second or two."""
        self._housekeeper.wake()

    def note(self, key: AnyKey) -> None:
        """Remember a node's key as the last one of its type and scopes."""
        if isinstance(key, str) or not key.parts:
            return
        scope = (key.user, key.workflow, key.node_type)
        if self._noted.get(scope) == key.digest:
            return
        self._note(scope, key)
        self.wake()

    def flush(self) -> None:
        """Write records and statistics now."""
        self._write_records()
        self._write_stats()

    def _note(self, scope: tuple[str, str, str], key: NodeCacheKey) -> None:
        seen = Seen(key.digest, key.parts, self._clock())
        with self._lock:
            if len(self._noted) >= _MAX_NOTED:
                self._noted.clear()
            self._noted[scope] = key.digest
            for name in record_keys(key):
                self._pending[name] = merged(self._pending.get(name, []), [seen])

    def _tick(self) -> bool:
        """Do what is due; tells whether there was anything."""
        if self._locks is not None:
            self._locks.beat()
        worked = self._write_records()
        if time.monotonic() - self._stats_at >= _STATS_SECONDS:
            worked = self._write_stats() or worked
        return worked

    def _write_records(self) -> bool:
        with self._lock:
            pending, self._pending = self._pending, {}
        try:
            for name, newer in pending.items():
                self._write_record(name, newer)
        except (TierTroubleError, TooLargeError) as error:
            logger.debug("node cache record lost reason=%s", error)
        return bool(pending)

    def _write_record(self, name: str, newer: list[Seen]) -> None:
        frame = self._shelves.record(name)
        older = [] if frame is None else history_of(frame.value())
        record = plain_record(merged(older, newer))
        self._shelves.put_record(name, frame_of(record, now=self._clock(), ttl=None, kind=RECORD))

    def _write_stats(self) -> bool:
        stats = self._stats()
        if self._file is None or stats == self._written_stats or not (self._written_stats or has_counted(stats)):
            return False
        self._stats_at = time.monotonic()
        try:
            self.journal.count(stats["hits"], stats["misses"], self._clock())
            self._file.write({**stats, **self.journal.tree()})
            self._written_stats = stats
        except (OSError, StorageError) as error:
            logger.debug("node cache statistics lost reason=%s", error)
        return True
