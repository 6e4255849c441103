"""The shared small tier below the process's memory: Memcached, or small files in the alias `cache` without one.

Both hold bytes under wire keys (`<kind>-<hex>`): values (v), generation tokens (g), the epoch (e), tombstones of
single keys (d), records for `explain` (r), locks (x). What the bytes mean is known above.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable
from typing import Final, Protocol, TypeVar

from storagecache.breaker import Breaker
from storagecache.errors import StorageError
from storagecache.node_cache.area import CacheArea, Piece
from storagecache.node_cache.frames import expiry_of
from storagecache.node_cache.memcached import MAX_ITEM_BYTES, Guard, Memcached, MemcachedTroubleError, ValueRefusedError

FRAME_LIMIT: Final = MAX_ITEM_BYTES - 1024  # room for Memcached's item header, key and slab chunks

T = TypeVar("T")
Found = dict[str, bytes | memoryview]


class TierTroubleError(Exception):
    """The tier cannot tell or take anything now: a miss, a counter, and for a clear a loud failure."""


class TooLargeError(Exception):
    """The tier works but refuses this value."""


class SmallTier(Protocol):
    """Where every process looks. Methods raise TierTroubleError; `set` and `add` TooLargeError, too."""

    evicts: bool  # entries may vanish one by one

    def fetch(self, keys: Iterable[str]) -> Found:
        """Give those of the keys that are there, in one trip per server."""
        ...

    def fetch_guarded(self, guard: str, data: bytes, key: str) -> tuple[bool, bytes | memoryview | None]:
        """Tell whether `guard` holds just `data`, and give what `key` holds; as `fetch`, perhaps cheaper."""
        ...

    def holds(self, key: str, data: bytes) -> bool:
        """Tell whether a key holds just these bytes; as `fetch`, perhaps cheaper."""
        ...

    def add(self, key: str, pieces: list[Piece], ttl: float | None) -> bool:
        """Store bytes unless the key holds something; tells whether it stored."""
        ...

    def set(self, key: str, pieces: list[Piece], ttl: float | None) -> None:
        """Store bytes in any case."""
        ...

    def delete(self, key: str) -> None:
        """Remove a key; absent is fine."""
        ...


class MemcachedTier:
    """Memcached, under a namespace of this service's secret."""

    evicts = True

    def __init__(self, client: Memcached, namespace: str) -> None:
        self.client = client
        self._prefix = f"ntc1-{namespace}-"
        self._guard = Guard(self._prefix, "", b"")

    def fetch(self, keys: Iterable[str]) -> Found:
        try:
            return self.client.fetch(keys, self._prefix)
        except (MemcachedTroubleError, ValueRefusedError) as error:
            raise TierTroubleError(str(error)) from error

    def fetch_guarded(self, guard: str, data: bytes, key: str) -> tuple[bool, bytes | memoryview | None]:
        known = self._guard  # mostly the same one: the epoch
        if known.data != data or known.name != guard:
            known = self._guard = Guard(self._prefix, guard, data)
        try:
            return self.client.fetch_guarded(known, self._prefix + key)
        except (MemcachedTroubleError, ValueRefusedError) as error:
            raise TierTroubleError(str(error)) from error

    def holds(self, key: str, data: bytes) -> bool:
        return self.fetch([key]).get(key) == data

    def add(self, key: str, pieces: list[Piece], ttl: float | None) -> bool:
        return self._store("add", key, pieces, ttl)

    def set(self, key: str, pieces: list[Piece], ttl: float | None) -> None:
        try:
            if not self._store("set", key, pieces, ttl):
                raise TierTroubleError("not stored")
        except TooLargeError:
            self.delete(key)  # Memcached has dropped the older value, or not: never leave it
            raise

    def delete(self, key: str) -> None:
        try:
            self.client.remove(self._prefix + key)
        except (MemcachedTroubleError, ValueRefusedError) as error:
            raise TierTroubleError(str(error)) from error

    def _store(self, verb: str, key: str, pieces: list[Piece], ttl: float | None) -> bool:
        try:
            return self.client.store(verb, self._prefix + key, b"".join(pieces), ttl)
        except MemcachedTroubleError as error:
            raise TierTroubleError(str(error)) from error
        except ValueRefusedError as error:
            raise TooLargeError(str(error)) from error


class FileTier:
    """Small files in the alias `cache`: one per key, replaced whole."""

    evicts = False

    def __init__(self, area: CacheArea, clock: Callable[[], float]) -> None:
        self._area = area
        self._clock = clock
        self._reads = Breaker(time.monotonic)
        self._writes = Breaker(time.monotonic)  # of its own: a full disk is still read
        self._seen: tuple[str, tuple[int, ...], bytes] | None = None

    def fetch(self, keys: Iterable[str]) -> Found:
        found: Found = {}
        for key in keys:
            data = _guarded(self._reads, functools.partial(self._area.read, file_name(key)))
            if data is not None:
                found[key] = data
        return found

    def fetch_guarded(self, guard: str, data: bytes, key: str) -> tuple[bool, bytes | memoryview | None]:
        found = self.fetch((guard, key))
        return found.get(guard) == data, found.get(key)

    def holds(self, key: str, data: bytes) -> bool:
        signature = self._area.signature(file_name(key))
        if signature is not None and self._seen == (key, signature, data):
            return True
        self._seen = None
        if self.fetch([key]).get(key) != data:
            return False
        if signature is not None:  # taken before the file was read: what was read is at least as new
            self._seen = (key, signature, data)
        return True

    def add(self, key: str, pieces: list[Piece], ttl: float | None) -> bool:
        if not key.startswith("v-"):  # a token: whoever comes second must take the first one's
            return bool(_guarded(self._writes, lambda: self._area.create(file_name(key), b"".join(pieces))))
        held = self.fetch([key]).get(key)
        if held is not None and expiry_of(held) > self._clock():
            return False
        self.set(key, pieces, ttl)
        return True

    def set(self, key: str, pieces: list[Piece], ttl: float | None) -> None:
        _guarded(self._writes, lambda: self._area.replace(file_name(key), pieces))

    def delete(self, key: str) -> None:
        _guarded(self._writes, lambda: self._area.delete([file_name(key)]))


def _guarded(breaker: Breaker, step: Callable[[], T]) -> T:
    if not breaker.allows():
        raise TierTroubleError("the cache storage is being skipped")
    try:
        result = step()
    except (OSError, StorageError) as error:
        breaker.failed()
        raise TierTroubleError(f"{type(error).__name__}: {error}") from error
    breaker.succeeded()
    return result


def file_name(key: str) -> str:
    """Give the file of a wire key: `v-7fab..` lies at `v/7f/7fab..`."""
    kind, _, name = key.partition("-")
    return f"{kind}/{name[:2]}/{name}"
