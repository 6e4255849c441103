"""Where frames lie: in this process, in the shared small tier, and as blobs in the alias `cache`.

Turns a lease into a verified frame and back, counting what each tier did. Troubles come out as misses; which
key a lease is for, and computing, are known above.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from storagecache.errors import StorageError
from storagecache.node_cache.area import CacheArea, Piece, blob_name
from storagecache.node_cache.disk_budget import DiskBudget
from storagecache.node_cache.errors import FrameError
from storagecache.node_cache.frames import POINTER, VALUE, Frame, frame_bytes, frame_of, read_frame, write_frame
from storagecache.node_cache.generations import Generations, Lease
from storagecache.node_cache.memory import ByteLRU
from storagecache.node_cache.statistics import Counters
from storagecache.node_cache.tiers import FRAME_LIMIT, SmallTier, TierTroubleError, TooLargeError

_QUIET_SECONDS: Final = 2.0
_FAILED: Final = "node cache tier failed tier=%s reason=%s"

logger: Final = logging.getLogger(__name__)


class Shelves:
    """The three tiers of one cache; shared by threads."""

    def __init__(
        self,
        *,
        l1: ByteLRU[Frame],
        tier: SmallTier,
        area: CacheArea | None,
        secret: bytes,
        counters: Counters,
        budget: DiskBudget | None,
    ) -> None:
        self.l1 = l1
        self.tier = tier
        self.area = area
        self._secret = secret
        self._counters = counters
        self._budget = budget  # of the area
        self._warned_at: dict[str, float] = {}

    def in_memory(self, lease: Lease) -> Frame | None:
        """Give the frame that this process holds for a lease."""
        return self.l1.get(lease.wire)

    def open(
        self, lease: Lease, data: bytes | memoryview | None, now: float, *, asked: int
    ) -> tuple[Frame | None, str]:
        """Verify what the shared tier had, follow a pointer, keep the frame in memory; gives it and its tier's name.

        A miss counts `asked` times: not at all when the same asker looks again.
        """
        frame, tier = (None if data is None else self._verified(data, lease.wire)), "l2"
        if frame is None or frame.is_expired(now):
            self._counters.add(l2_misses=asked)
            return None, tier
        if frame.kind == POINTER:
            frame, tier = self._blob(frame, asked=asked), "l3"
            if frame is None or frame.is_expired(now):
                return None, tier
        if frame.kind != VALUE:
            return None, tier
        self.l1.set(lease.wire, frame, frame.cost)
        return frame, tier

    def put(self, lease: Lease, frame: Frame, generations: Generations) -> bool:
        """Store a frame everywhere it fits; tells whether other processes can see it."""
        ttl = None if frame.ttl < 0 else frame.ttl
        pieces = write_frame(frame, lease.wire, self._secret)
        try:
            if sum(map(len, pieces)) > FRAME_LIMIT:
                raise TooLargeError
            lease = self._placed(lease, frame, pieces, ttl, generations)
        except TooLargeError:
            return self._put_big(lease, frame, ttl, generations)
        except TierTroubleError as error:
            self._failed("l2", error)
            return False
        self.l1.set(lease.wire, frame, frame.cost)
        return True

    def forget(self, lease: Lease) -> None:
        """Drop a lease's entry where it is; unreachable it is anyway."""
        self.l1.delete(lease.wire)
        try:
            self.tier.delete(lease.wire)
        except TierTroubleError as error:
            self._failed("l2", error)

    def _placed(
        self, lease: Lease, frame: Frame, pieces: list[Piece], ttl: float | None, generations: Generations
    ) -> Lease:
        """Add an entry; where another value is, first make that one unreachable for every process's memory.

        It is removed, too: were its tombstone ever evicted, nothing of it may come back.
        """
        with self._room(pieces):
            if not self.tier.add(lease.wire, pieces, ttl):
                older, lease = lease, generations.renew(lease)
                self.forget(older)
                pieces = write_frame(frame, lease.wire, self._secret)
                self.tier.set(lease.wire, pieces, ttl)
        return lease

    @contextmanager
    def _room(self, pieces: list[Piece]) -> Iterator[None]:
        """Reserve room where the small tier's entries lie in the area, too."""
        if self.tier.evicts or self._budget is None:
            yield
            return
        try:
            with self._budget.room(sum(map(len, pieces))):
                yield
        except (OSError, StorageError) as error:
            raise TierTroubleError(f"{type(error).__name__}: {error}") from error

    def _put_big(self, lease: Lease, frame: Frame, ttl: float | None, generations: Generations) -> bool:
        self._counters.add("l2_too_large")
        try:
            pointer = self._blob_written(frame, ttl)
            lease = self._placed(lease, pointer, write_frame(pointer, lease.wire, self._secret), ttl, generations)
        except TooLargeError as error:
            self._counters.add("l3_too_large")
            logger.debug("node cache value too large reason=%s", error)
            return False
        except TierTroubleError as error:
            self._failed("l2", error)
            return False
        except (OSError, StorageError) as error:
            self._failed("l3", error)
            return False
        if not self.l1.set(lease.wire, frame, frame.cost):
            self._counters.add("l1_too_large")
        return True

    def _blob_written(self, frame: Frame, ttl: float | None) -> Frame:
        """Put a big frame into the area, and give the pointer to it."""
        if self.area is None or self._budget is None:
            raise TooLargeError("no storage for big values")
        name = blob_name(frame.created, ttl)
        pieces = write_frame(frame, name, self._secret)
        size = sum(map(len, pieces))
        with self._budget.room(size):
            self.area.replace(name, pieces)
        return frame_of([name, size], now=frame.created, ttl=ttl, kind=POINTER)

    def _blob(self, pointer: Frame, *, asked: int) -> Frame | None:
        """Follow a pointer; a blob that is gone or damaged is a miss."""
        try:
            name, _size = pointer.value()
            data = self.area.read(name) if self.area is not None else None
        except (OSError, StorageError, ValueError, TypeError) as error:
            self._failed("l3", error)
            return None
        frame = None if data is None else self._verified(data, name)
        if frame is None:
            self._counters.add(l3_misses=asked)
        return frame

    def _verified(self, data: bytes | memoryview, key: str) -> Frame | None:
        try:
            return read_frame(data, key, self._secret)
        except FrameError as error:
            self._counters.add("bad_frames")
            logger.warning("node cache frame refused reason=%s", error)
            return None

    def _failed(self, tier: str, error: Exception) -> None:
        """Count a failure, and warn of it, but not of each one of a disk that stays full."""
        self._counters.add(f"{tier}_errors")
        now = time.monotonic()
        is_news = now - self._warned_at.get(tier, -_QUIET_SECONDS) >= _QUIET_SECONDS
        if is_news:
            self._warned_at[tier] = now
        logger.log(logging.WARNING if is_news else logging.DEBUG, _FAILED, tier, error)

    def record(self, key: str) -> Frame | None:
        """Give a record's frame.

        Raises:
            TierTroubleError
        """
        data = self.tier.fetch([key]).get(key)
        return None if data is None else self._verified(data, key)

    def put_record(self, key: str, frame: Frame) -> None:
        """Replace a record.

        Raises:
            TierTroubleError, TooLargeError
        """
        self.tier.set(key, [frame_bytes(frame, key, self._secret)], None)
