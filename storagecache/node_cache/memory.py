"""A byte-bounded least-recently-used store in this process, shared by its threads. Knows no frames and no keys."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

from storagecache.node_cache.forks import watch_forks

V = TypeVar("V")


class ByteLRU(Generic[V]):
    """Keeps the most recently used entries within `max_bytes`, as their costs say."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._held: OrderedDict[str, tuple[V, int]] = OrderedDict()  # entries and the bytes they count for
        self._bytes = 0
        self._evictions = 0
        self._lock = threading.Lock()
        watch_forks(self)

    def get(self, key: str) -> V | None:
        """Give an entry and make it the most recent, or None."""
        if key not in self._held:  # a miss waits for nobody
            return None
        with self._lock:
            held = self._held.get(key)
            if held is None:
                return None
            self._held.move_to_end(key)
            return held[0]

    def set(self, key: str, value: V, cost: int) -> bool:
        """Keep an entry of `cost` bytes and drop the oldest ones beyond the budget; False when it alone is over it."""
        if cost > self.max_bytes and key not in self._held:
            return False
        with self._lock:
            self._drop(key)
            if cost > self.max_bytes:
                return False
            self._held[key] = value, cost
            self._bytes += cost
            while self._bytes > self.max_bytes:
                self._drop(next(iter(self._held)))
                self._evictions += 1
            return True

    def delete(self, key: str) -> bool:
        """Drop an entry; tells whether it was there."""
        with self._lock:
            return self._drop(key)

    def clear(self) -> None:
        """Drop everything."""
        with self._lock:
            self._held.clear()
            self._bytes = 0

    def usage(self) -> dict[str, int]:
        """Give the counts `entries`, `bytes` and `evictions`."""
        with self._lock:
            return {"entries": len(self._held), "bytes": self._bytes, "evictions": self._evictions}

    def _drop(self, key: str) -> bool:
        held = self._held.pop(key, None)
        if held is None:
            return False
        self._bytes -= held[1]
        return True

    def after_fork(self) -> None:
        """Replace a lock that another thread of the parent may have held at the fork."""
        self._lock = threading.Lock()


_stores: dict[str, ByteLRU[bytes]] = {}
_stores_lock = threading.Lock()


def shared_store(name: str, max_bytes: int) -> ByteLRU[bytes]:
    """Give the process's store of a name; the first asker's budget counts."""
    with _stores_lock:
        if name not in _stores:
            _stores[name] = ByteLRU(max_bytes)
        return _stores[name]
