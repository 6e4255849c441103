"""The cache of what nodes computed: look up, compute once, store, invalidate, explain.

Reads and writes never raise for a reason of the cache's own: every trouble is a miss and a counter. Only a clear is
loud, since whoever asks for it relies on it. What lies where is in `shelves`, who may see it in `generations`.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from storagecache.environment import Environment
from storagecache.node_cache import coroutines, journal, statistics
from storagecache.node_cache.area import CacheArea
from storagecache.node_cache.backends import NodeMemcachedCache, NodeMemoryCache
from storagecache.node_cache.core import Core, lasts
from storagecache.node_cache.errors import ClearFailedError, NotCacheableError
from storagecache.node_cache.flights import POLL_SECONDS, Flight
from storagecache.node_cache.frames import Frame, mac_key, namespace_of
from storagecache.node_cache.generations import AnyKey, Lease, flight_name
from storagecache.node_cache.journal import Entry, Hours
from storagecache.node_cache.keys import CacheableNode, NodeCacheKey, node_cache_key
from storagecache.node_cache.memory import ByteLRU
from storagecache.node_cache.miss import MISS
from storagecache.node_cache.records import Difference, Seen, first_difference, history_of, record_key
from storagecache.node_cache.statistics import Stats
from storagecache.node_cache.tiers import FileTier, MemcachedTier, SmallTier, TierTroubleError

DEFAULT_TTL: Final = 3600  # seconds

T = TypeVar("T")
logger: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Explanation:
    """What `explain` found: the last two keys, oldest first, and where they first differ."""

    history: list[Seen]
    difference: Difference | None


class NodeCache:
    """The node cache of a process; safe for threads and forks. `a`-prefixed twins are for coroutines."""

    def __init__(
        self,
        *,
        tier: SmallTier,
        area: CacheArea | None,
        secret: bytes,
        max_bytes: int,
        max_disk_bytes: int = 10 << 30,
        clock: Callable[[], float] = time.time,
        l1: ByteLRU[Frame] | None = None,
    ) -> None:
        """Build it on a shared tier; `secret` keys the frames' MACs, budgets are in bytes, `l1` is a store to share."""
        memory: ByteLRU[Frame] = ByteLRU(max_bytes) if l1 is None else l1
        self._core = Core(tier=tier, area=area, secret=secret, l1=memory, max_disk_bytes=max_disk_bytes, clock=clock)
        _flush_at_exit(self)

    # --- reading and writing -------------------------------------------------------------------

    def key_for(self, node: CacheableNode, *, user: str = "1", workflow: str = "") -> NodeCacheKey | None:
        """Make a node's key, or count it as not cacheable and give None (which every method takes for a miss)."""
        try:
            return node_cache_key(node, user, workflow)
        except NotCacheableError as error:
            logger.debug("node not cacheable type=%s reason=%s", type(node).__qualname__, error)
        except Exception:  # of the node's own methods, or of a catalog that does not answer
            logger.warning("node not cacheable type=%s", type(node).__qualname__, exc_info=True)
        self._core.counters.add("uncacheable")
        return None

    def get(self, key: AnyKey | None, default: Any = None, *, writable: bool = False) -> Any:
        """Give a key's value, or `default` (pass MISS to tell a cached None from a miss); never raises.

        Arrays and tables are read-only views of shared memory unless `writable`; all else is the caller's own.
        """
        if key is None:
            return default
        value, lease = self._core.find(key, writable=writable)
        if value is MISS:
            self._core.open_misses.add(key, lease)
            return default
        return value

    def set(self, key: AnyKey | None, value: Any, ttl: float | None = DEFAULT_TTL, *, compute: float = 0.0) -> bool:
        """Store a snapshot of a value for `ttl` seconds (None: no end); tells whether other processes can see it.

        A set that follows a miss of the same thread (or task) uses the generations of that miss, so that what was
        computed from before a clear is not live after it. `compute` is how many seconds the value took. Never raises.
        """
        if key is None:
            return False
        return self._put(key, value, ttl, compute, self._core.open_misses.take(key))

    def _put(self, key: AnyKey, value: Any, ttl: float | None, compute: float, lease: Lease | None) -> bool:
        self._core.upkeep.note(key)
        lease = lease or self._core.current_lease(key)
        frame = self._core.framed(value, ttl, compute)
        if frame is None or lease is None or not lasts(ttl):
            return False
        return self._core.shelve(key, lease, frame)

    def get_or_compute(
        self, key: AnyKey | None, compute: Callable[[], T], ttl: float | None = DEFAULT_TTL, *, writable: bool = False
    ) -> T:
        """Give a key's value, or compute and store it: once for all threads and processes that ask meanwhile.

        Raises:
            Exception: whatever `compute` raises, to those threads, too, that waited for it.
        """
        if key is None:
            return compute()
        value, lease = self._core.find(key, writable=writable)
        if value is not MISS:
            return value  # type: ignore[no-any-return]
        owner = threading.get_ident()
        name = flight_name(key, lease)
        boarding = self._core.flights.join(name, owner)
        if boarding.flight is not None and boarding.leads:
            return self._lead(key, compute, ttl, name, boarding.flight, writable=writable)
        if boarding.flight is not None:
            shared = self._followed(key, boarding.flight, owner, writable=writable)
            if shared is not MISS:
                return shared  # type: ignore[no-any-return]
        return self._compute(key, compute, ttl, lease)[0]

    def delete(self, key: AnyKey | None) -> bool:
        """Make a key's value unreachable for every process; False when that could not be done."""
        if key is None:
            return False
        try:
            lease = self._core.generations.load(key)
            self._core.generations.renew(lease)
        except TierTroubleError as error:
            self._core.trouble(error)
            return False
        self._core.open_misses.clear()
        self._core.shelves.forget(lease)
        return True

    def clear(self, user: str | None = None, workflow: str | None = None, node_type: str | None = None) -> None:
        """Make all entries of a user, workflow and node type unreachable for every process; None stands for any.

        Cost: two small writes, however many entries there are.

        Raises:
            ClearFailedError: the shared tier did not take it; old entries may still be hits.
        """
        try:
            self._core.generations.clear(user=user, workflow=workflow, node_type=node_type)
        except TierTroubleError as error:
            self._core.trouble(error)
            raise ClearFailedError(f"The node cache could not be cleared: {error}. Try again.") from error
        self._core.open_misses.clear()
        if user is None and workflow is None and node_type is None:
            self._core.shelves.l1.clear()
        logger.info("node cache cleared user=%s workflow=%s node_type=%s", user, workflow, node_type)

    # --- seeing it -----------------------------------------------------------------------------

    def stats(self) -> Stats:
        """Count what this process did: `l1`, `l2`, `l3` (each hits, misses, bytes, errors, too_large), and totals.

        `l1` has also `entries`, `held_bytes` and `evictions`; bytes are those read by hits; `seconds_saved` is what
        the hits' values once took to compute.
        """
        return self._core.stats()

    def stats_of_all(self) -> tuple[int, Stats]:
        """Sum the counts of all processes of the last days; returns how many processes, and the sums.

        Raises:
            StorageError, OSError: the files cannot be read.
        """
        self.flush()
        area = self._core.shelves.area
        return (1, self.stats()) if area is None else statistics.collected(area)

    def history(self) -> tuple[Hours, list[Entry]]:
        """Give hits and misses by the hour, and the largest values that are still hits, of all processes.

        Costs a look at each of those values.

        Raises:
            StorageError, OSError: the files cannot be read.
        """
        self.flush()
        area = self._core.shelves.area
        trees = [self._core.upkeep.journal.tree()] if area is None else statistics.journals(area)
        hours, entries = journal.summed(trees)
        now = self._core.clock()
        alive = [entry for entry in entries if not 0 < entry.ends <= now]
        return hours, [entry for entry in alive if self._core.holds(entry.key)]

    def explain(self, node_type: str, *, user: str | None = None, workflow: str | None = None) -> Explanation:
        """Tell where the last two keys of a node type first differ.

        Raises:
            TierTroubleError: the shared tier does not answer.
        """
        self.flush()
        frame = self._core.shelves.record(record_key(node_type, user=user, workflow=workflow))
        history = [] if frame is None else history_of(frame.value())
        difference = first_difference(history[0].parts, history[1].parts) if len(history) == 2 else None
        return Explanation(history, difference)

    def flush(self) -> None:
        """Write this process's statistics and records now, instead of within a second or two; never raises."""
        self._core.upkeep.flush()

    def close(self) -> None:
        """Flush, and end the cache's thread; for tests and orderly shutdowns. The cache stays usable."""
        self._core.upkeep.close()

    # --- for coroutines ------------------------------------------------------------------------

    async def aget(self, key: AnyKey | None, default: Any = None, *, writable: bool = False) -> Any:
        """As `get`."""
        if key is None:
            return default
        value, lease = await coroutines.in_thread(self._core.find, key, writable=writable)
        if value is MISS:
            self._core.open_misses.add(key, lease)
            return default
        return value

    async def aset(
        self, key: AnyKey | None, value: Any, ttl: float | None = DEFAULT_TTL, *, compute: float = 0.0
    ) -> bool:
        """As `set`."""
        if key is None:
            return False
        lease = self._core.open_misses.take(key)
        return await coroutines.in_thread(self._put, key, value, ttl, compute, lease)

    async def aget_or_compute(
        self,
        key: AnyKey | None,
        compute: Callable[[], T | Awaitable[T]],
        ttl: float | None = DEFAULT_TTL,
        *,
        writable: bool = False,
    ) -> T:
        """As `get_or_compute`; `compute` may be a coroutine function."""
        return await coroutines.get_or_compute(self._core, key, compute, ttl, writable=writable)

    async def adelete(self, key: AnyKey | None) -> bool:
        """As `delete`."""
        self._core.open_misses.clear()
        return await coroutines.in_thread(self.delete, key)

    async def aclear(self, user: str | None = None, workflow: str | None = None, node_type: str | None = None) -> None:
        """As `clear`."""
        await coroutines.in_thread(self.clear, user, workflow, node_type)
        self._core.open_misses.clear()

    async def astats(self) -> Stats:
        """As `stats`."""
        return self.stats()

    # --- single flight -------------------------------------------------------------------------

    def _lead(
        self, key: AnyKey, compute: Callable[[], T], ttl: float | None, name: str, flight: Flight, *, writable: bool
    ) -> T:
        """Compute for this process's threads, and for other processes as far as the lock reaches."""
        frame: Frame | None = None
        failure: Exception | None = None
        try:
            value, lease = self._awaited(key, name, writable=writable)
            if value is not MISS:
                return value  # type: ignore[no-any-return]
            result, frame = self._compute(key, compute, ttl, lease)
            return result
        except Exception as error:
            failure = error
            raise
        finally:
            self._core.flights.land(name, flight, frame=frame, error=failure)
            self._core.locks.release(name)

    def _awaited(self, key: AnyKey, name: str, *, writable: bool) -> tuple[Any, Lease | None]:
        """Take the lock among processes, or wait until its holder has stored the value or is gone."""
        nested = self._core.flights.leads_others(threading.get_ident())  # waiting within a compute could be for ever
        while True:
            held = None if nested else self._core.locks.acquire(name)
            value, lease = self._core.find(key, writable=writable, counted=False)
            if value is not MISS or held is not False:
                return value, lease
            time.sleep(POLL_SECONDS)

    def _followed(self, key: AnyKey, flight: Flight, owner: int, *, writable: bool) -> Any:
        """Wait for another thread's compute; MISS when it made nothing that could be shared."""
        try:
            frame = flight.future.result()
        finally:
            self._core.flights.leave(owner)
        return self._core.shared(key, frame, writable=writable)

    def _compute(
        self, key: AnyKey, compute: Callable[[], T], ttl: float | None, lease: Lease | None
    ) -> tuple[T, Frame | None]:
        started = time.perf_counter()
        result = compute()
        self._core.computed()
        return result, self._core.store(key, lease, result, ttl, time.perf_counter() - started)


def _flush_at_exit(cache: NodeCache) -> None:
    """Write what is pending when the process ends, without keeping the cache alive until then."""
    reference = weakref.ref(cache)

    def flush() -> None:
        alive = reference()
        if alive is not None:
            alive.flush()

    atexit.register(flush)


def build_node_cache(environment: Environment) -> NodeCache:
    """Build the process's cache on `caches["nodes"]` and the storage alias `cache`; call it once per process."""
    from django.conf import settings  # Django is not set up while settings are read
    from django.core.cache import caches
    from django.core.files.storage import storages

    backend = caches["nodes"]
    area = CacheArea(storages["cache"])
    secret = mac_key(settings.SECRET_KEY)
    tier: SmallTier = FileTier(area, time.time)
    if isinstance(backend, NodeMemcachedCache):
        tier = MemcachedTier(backend.client, namespace_of(secret))
    return NodeCache(
        tier=tier,
        area=area,
        secret=secret,
        max_bytes=environment.node_cache_bytes,
        max_disk_bytes=environment.node_cache_disk_bytes,
        l1=backend.store if isinstance(backend, NodeMemoryCache) else None,
    )
