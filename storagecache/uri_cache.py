"""Values by URI: what nodes keep under `memory://`, and downloads of http(s). Gone with the process; never on disk.

A value is given back as the very object that was put: `memory://` is how nodes of one process hand objects on.
"""

from __future__ import annotations

import heapq
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from storagecache.node_cache.forks import watch_forks

DEFAULT_TTL: Final = 300.0  # seconds
DEFAULT_MAX_BYTES: Final = 256 << 20
SCHEMES: Final = ("memory://", "http://", "https://")

_ENTRY_BYTES: Final = 400  # of an entry's own objects
_MAX_COUNTED: Final = 10_000  # objects looked at when the size of a structure is estimated
_SAMPLE: Final = 500  # of a container's items
_LONGEST_SLEEP: Final = 3600.0  # seconds; a lock cannot be waited for without end


@dataclass(frozen=True, slots=True)
class _Entry:
    value: Any
    cost: int
    expires: float


class MemoryURICache:
    """A byte-bounded cache with a life per entry, shared by threads; expired entries leave by themselves.

    `clock` counts seconds and never goes back; a thread that sleeps until the next expiry frees what nobody asks for.
    """

    def __init__(
        self,
        *,
        ttl: float = DEFAULT_TTL,
        max_bytes: int = DEFAULT_MAX_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make an empty cache; `ttl` (seconds) is for entries that name none."""
        self.ttl = ttl
        self.max_bytes = max_bytes
        self._clock = clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._expiries: list[tuple[float, str]] = []
        self._bytes = 0
        self._sweeper: threading.Thread | None = None
        self._changed = threading.Condition()
        watch_forks(self)

    def get(self, uri: str, default: Any = None) -> Any:
        """Give the value of a URI, or `default` when it is absent or expired."""
        _check(uri)
        with self._changed:
            self._expire()
            entry = self._entries.get(uri)
            if entry is None:
                return default
            self._entries.move_to_end(uri)
            return entry.value

    def set(self, uri: str, value: Any, ttl: float | None = None) -> bool:
        """Keep a value for `ttl` seconds (None: the cache's own); False when it alone is over the budget.

        Raises:
            ValueError: not a memory://, http:// or https:// URI.
        """
        _check(uri)
        life = self.ttl if ttl is None else ttl
        cost = _ENTRY_BYTES + len(uri) + size_of(value)
        with self._changed:
            self._expire()
            self._drop(uri)
            if not life > 0 or cost > self.max_bytes:
                return False
            self._put(uri, _Entry(value, cost, self._clock() + life))
            self._changed.notify()
            return True

    def delete(self, uri: str) -> bool:
        """Drop a URI; tells whether it was there."""
        with self._changed:
            self._expire()
            return self._drop(uri)

    def clear(self) -> None:
        """Drop everything."""
        with self._changed:
            self._entries.clear()
            self._expiries.clear()
            self._bytes = 0

    def stats(self) -> dict[str, int]:
        """Give the counts `entries` and `bytes` (estimated)."""
        with self._changed:
            self._expire()
            return {"entries": len(self._entries), "bytes": self._bytes}

    def __contains__(self, uri: object) -> bool:
        with self._changed:
            self._expire()
            return uri in self._entries

    def __len__(self) -> int:
        return self.stats()["entries"]

    def _put(self, uri: str, entry: _Entry) -> None:
        self._entries[uri] = entry
        self._bytes += entry.cost
        heapq.heappush(self._expiries, (entry.expires, uri))
        while self._bytes > self.max_bytes:
            self._drop(next(iter(self._entries)))
        if len(self._expiries) > 2 * len(self._entries) + 64:  # of replaced entries
            self._expiries = sorted((held.expires, name) for name, held in self._entries.items())
        if self._sweeper is None:
            self._sweeper = threading.Thread(target=self._sweep, name="uri-cache-sweeper", daemon=True)
            self._sweeper.start()

    def _expire(self) -> None:
        now = self._clock()
        while self._expiries and self._expiries[0][0] <= now:
            _, uri = heapq.heappop(self._expiries)
            entry = self._entries.get(uri)
            if entry is not None and entry.expires <= now:
                self._drop(uri)

    def _drop(self, uri: str) -> bool:
        entry = self._entries.pop(uri, None)
        if entry is None:
            return False
        self._bytes -= entry.cost
        return True

    def _sweep(self) -> None:
        """Free expired entries as their time comes; ends when there are none left."""
        with self._changed:
            while self._entries:
                self._expire()
                if self._expiries:
                    due = self._expiries[0][0] - self._clock()
                    self._changed.wait(min(max(0.01, due), _LONGEST_SLEEP))
            self._sweeper = None

    def after_fork(self) -> None:
        """Drop the parent's lock and thread; the entries stay."""
        self._changed = threading.Condition()
        self._sweeper = None


def size_of(value: Any) -> int:
    """Estimate the bytes that a value holds: exact for bytes, texts, arrays, images and tables.

    Of a container of many objects some are looked at, and the others taken to be like them.
    """
    total = counted = 0
    seen: set[int] = set()
    waiting = [(value, 1)]
    while waiting and counted < _MAX_COUNTED:
        part, weight = waiting.pop()
        if id(part) not in seen:
            seen.add(id(part))
            counted += 1
            total += weight * _own_size(part)
            waiting.extend(_weighed(_items_of(part), weight))
    return total + len(waiting) * total // counted


def _weighed(items: list[Any], weight: int) -> Iterator[tuple[Any, int]]:
    """Yield items, or evenly spaced ones that stand for the others unless the same objects come again and again."""
    chosen = items[:: len(items) // _SAMPLE + 1]
    if len(chosen) < len(items) and len(set(map(id, chosen))) == len(chosen):
        weight = weight * len(items) // len(chosen)
    return ((item, weight) for item in chosen)


def _items_of(part: Any) -> list[Any]:
    if isinstance(part, dict):
        return [*part.keys(), *part.values()]
    if isinstance(part, list | tuple | set | frozenset):
        return list(part)
    return [vars(part)] if hasattr(part, "__dict__") and not isinstance(part, type) else []


def _own_size(part: Any) -> int:
    own = sys.getsizeof(part, 64)
    size = getattr(part, "nbytes", None)
    if isinstance(size, int):
        return max(own, size)
    pixels = getattr(part, "size", None)
    if hasattr(part, "getbands") and isinstance(pixels, tuple) and len(pixels) == 2:
        return own + int(pixels[0]) * int(pixels[1]) * len(part.getbands())
    return own


def _check(uri: str) -> None:
    if not uri.startswith(SCHEMES):
        raise ValueError(f"Not a URI of {', '.join(SCHEMES)}: {uri[:80]!r}.")
