"""The steps that the cache and its coroutine twins are made of: find, frame, store, share.

None of them raises for a reason of the cache's own. Waiting and computing are done by the callers.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakKeyDictionary

from storagecache.node_cache.area import CacheArea
from storagecache.node_cache.disk_budget import DiskBudget
from storagecache.node_cache.errors import FrameError, NotCacheableError
from storagecache.node_cache.flights import Flights, KeyLocks, NoLocks, TierLocks
from storagecache.node_cache.forks import watch_forks
from storagecache.node_cache.frames import Frame, frame_of
from storagecache.node_cache.generations import AnyKey, Generations, Lease, key_id
from storagecache.node_cache.memory import ByteLRU
from storagecache.node_cache.miss import MISS
from storagecache.node_cache.references import all_live
from storagecache.node_cache.shelves import Shelves
from storagecache.node_cache.statistics import Counters, Stats
from storagecache.node_cache.tiers import SmallTier, TierTroubleError
from storagecache.node_cache.upkeep import Upkeep

_MAX_OPEN_MISSES: Final = 256  # per thread or task

logger: Final = logging.getLogger(__name__)


def lasts(ttl: float | None) -> bool:
    """Tell whether anything is to be kept for so long; neither 0 s nor NaN s."""
    return ttl is None or ttl > 0


class OpenMisses(threading.local):
    """Per thread, and per task of an event loop: the leases of misses whose set is still to come."""

    def __init__(self) -> None:
        self._own: OrderedDict[str, Lease] = OrderedDict()
        self._of_tasks: WeakKeyDictionary[asyncio.Task[Any], OrderedDict[str, Lease]] = WeakKeyDictionary()

    def add(self, key: AnyKey, lease: Lease | None) -> None:
        """Remember a miss; one without a lease (the cache is in trouble) forgets the key's earlier one."""
        leases = self._leases()
        if lease is None:
            leases.pop(key_id(key), None)
            return
        leases[lease.key_id] = lease
        if len(leases) > _MAX_OPEN_MISSES:
            leases.popitem(last=False)

    def take(self, key: AnyKey) -> Lease | None:
        """Give the lease of a key's miss, once."""
        leases = self._leases()
        return leases.pop(key_id(key), None) if leases else None

    def clear(self) -> None:
        """Forget all: the asker has just cleared, and means its next sets to be live."""
        self._leases().clear()

    def _leases(self) -> OrderedDict[str, Lease]:
        try:
            task = asyncio.current_task()
        except RuntimeError:  # no event loop runs in this thread
            return self._own
        return self._own if task is None else self._of_tasks.setdefault(task, OrderedDict())


class Core:
    """One cache's parts, wired."""

    def __init__(
        self,
        *,
        tier: SmallTier,
        area: CacheArea | None,
        secret: bytes,
        l1: ByteLRU[Frame],
        max_disk_bytes: int,
        clock: Callable[[], float],
    ) -> None:
        self.clock = clock
        self.counters = Counters()
        self.generations = Generations(tier)
        budget = None if area is None else DiskBudget(area, max_disk_bytes)
        self.shelves = Shelves(l1=l1, tier=tier, area=area, secret=secret, counters=self.counters, budget=budget)
        self.upkeep = Upkeep(shelves=self.shelves, stats=self.stats, clock=clock)
        self._tier = tier
        self._start()
        watch_forks(self)

    def find(self, key: AnyKey, *, writable: bool = False, counted: bool = True) -> tuple[Any, Lease | None]:
        """Give a key's value or MISS, and the lease that a set after it is to use (None: the cache is in trouble)."""
        self.upkeep.note(key)
        try:
            lease, frame, tier = self._look(key, asked=int(counted))
        except TierTroubleError as error:
            self.trouble(error)
            lease, frame, tier = None, None, ""
        value = MISS if frame is None else self.opened(frame, writable=writable)
        if frame is not None and value is not MISS:
            self.counters.hit(tier, frame.cost, frame.compute, asked=int(counted))
        else:
            self.counters.miss(tier, asked=int(counted))
        return value, lease

    def holds(self, key: AnyKey) -> bool:
        """Tell whether the shared tier has a key's value, which is not opened; False when the cache is in trouble."""
        try:
            return self.generations.read(key, self.generations.remembered(key))[1] is not None
        except TierTroubleError as error:
            self.trouble(error)
            return False

    def opened(self, frame: Frame, *, writable: bool) -> Any:
        """Decode a frame; MISS when an asset that it names is gone or a library that it needs is absent."""
        if frame.encoded.assets and not self._names_live_assets(frame):
            self.counters.add("dead_references")
            return MISS
        try:
            return frame.value(writable=writable)
        except FrameError as error:
            self.counters.add("bad_frames")
            logger.warning("node cache value unreadable reason=%s", error)
            return MISS

    def current_lease(self, key: AnyKey) -> Lease | None:
        """Give the lease of this moment; None when the cache is in trouble."""
        try:
            lease = self.generations.remembered(key)
            if lease is not None and self.generations.is_current(lease):
                return lease
            return self.generations.load(key)
        except TierTroubleError as error:
            self.trouble(error)
            return None

    def framed(self, value: Any, ttl: float | None, seconds: float) -> Frame | None:
        """Snapshot a value; None (and a count) when it cannot be encoded faithfully."""
        try:
            return frame_of(value, now=self.clock(), ttl=ttl, compute=seconds)
        except NotCacheableError as error:
            self.counters.add("uncacheable")
            logger.debug("node result not cacheable reason=%s", error)
            return None

    def shared(self, key: AnyKey, frame: Frame | None, *, writable: bool) -> Any:
        """Decode another thread's fresh result for a follower; without one, look whether it found or stored one."""
        if frame is None:
            return self.find(key, writable=writable, counted=False)[0]
        value = self.opened(frame, writable=writable)
        if value is not MISS:
            self.counters.add("followed", seconds_saved=frame.compute)
        return value

    def store(self, key: AnyKey, lease: Lease | None, value: Any, ttl: float | None, seconds: float) -> Frame | None:
        """Snapshot and shelve a value; gives the frame (also of what could not be shelved), or None."""
        frame = self.framed(value, ttl, seconds)
        if frame is not None and lease is not None and lasts(ttl):
            self.shelve(key, lease, frame)
        return frame

    def shelve(self, key: AnyKey, lease: Lease, frame: Frame) -> bool:
        """Put a frame on the shelves; tells whether other processes can see it."""
        stored = self.shelves.put(lease, frame, self.generations)
        if stored:
            self.counters.add("sets")
            self.upkeep.journal.stored(key, frame)
        self.upkeep.wake()
        return stored

    def computed(self) -> None:
        """Count one compute."""
        self.counters.add("computes")
        self.upkeep.wake()

    def stats(self) -> Stats:
        """Count what this process did."""
        tree = self.counters.tree()
        usage = self.shelves.l1.usage()
        tree["l1"] |= {"entries": usage["entries"], "held_bytes": usage["bytes"], "evictions": usage["evictions"]}
        return tree

    def trouble(self, error: Exception) -> None:
        """Count a failure of the shared tier."""
        self.counters.add("l2_errors")
        logger.debug("node cache tier failed tier=l2 reason=%s", error)

    def _look(self, key: AnyKey, *, asked: int) -> tuple[Lease, Frame | None, str]:
        lease = self.generations.remembered(key)
        if lease is not None and (frame := self.shelves.in_memory(lease)) is not None:
            if not self.generations.is_current(lease):
                lease = self.generations.load(key)
                frame = self.shelves.in_memory(lease)
            if frame is not None and not frame.is_expired(self.clock()):
                return lease, frame, "l1"
        lease, data = self.generations.read(key, lease)
        return lease, *self.shelves.open(lease, data, self.clock(), asked=asked)

    def _names_live_assets(self, frame: Frame) -> bool:
        try:
            return all_live(frame.encoded.assets)
        except Exception:
            logger.warning("node cache could not ask for assets", exc_info=True)
            return False

    def _start(self) -> None:
        self.flights = Flights()
        self.open_misses = OpenMisses()
        self.locks: KeyLocks = TierLocks(self._tier, self.upkeep.wake) if self._tier.evicts else NoLocks()
        self.upkeep.beat_for(self.locks)

    def after_fork(self) -> None:
        """Begin anew in a forked child: its threads are gone, and what they led and held is the parent's."""
        self.upkeep.reset()
        self._start()
