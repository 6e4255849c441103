"""Django cache backends behind the alias `nodes`: they hold bytes, never objects, and nothing is ever unpickled.

What the bytes mean (frames, MACs, generations) is the node cache's. Used through Django's API they behave as any cache
whose troubles are misses.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
from django.core.cache.backends.memcached import PyMemcacheCache

from storagecache.errors import UnsupportedCapabilityError
from storagecache.node_cache.memcached import (
    MAX_RELATIVE_TTL,
    Memcached,
    MemcachedTroubleError,
    ValueRefusedError,
    shared_memcached,
)
from storagecache.node_cache.memory import ByteLRU, shared_store

DEFAULT_MAX_BYTES: Final = 256 << 20
_ENTRY_BYTES: Final = 300  # of an entry's own objects

T = TypeVar("T")


class NodeMemoryCache(BaseCache):
    """A byte-bounded store of this process: LOCATION names it, OPTIONS["max_bytes"] bounds it (256 MiB)."""

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        """Open the process's store of this name."""
        super().__init__(params)
        options = params.get("OPTIONS") or {}
        self.store: ByteLRU[Any] = shared_store(location or "nodes", int(options.get("max_bytes", DEFAULT_MAX_BYTES)))

    def add(self, key: str, value: bytes, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        with _adding:
            if self.get(key, version=version) is not None:
                return False
            self.set(key, value, timeout, version)
            return True

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        name = self.make_and_validate_key(key, version=version)
        held = self.store.get(name)
        if held is None:
            return default
        expires, value = held
        if expires is not None and expires <= time.time():
            self.store.delete(name)
            return default
        return value

    def set(self, key: str, value: bytes, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        name = self.make_and_validate_key(key, version=version)
        checked = _checked(value)
        self.store.set(name, (self.get_backend_timeout(timeout), checked), len(checked) + len(name) + _ENTRY_BYTES)

    def touch(self, key: str, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        value = self.get(key, version=version)
        if value is None:
            return False
        self.set(key, value, timeout, version)
        return True

    def delete(self, key: str, version: int | None = None) -> bool:
        return self.store.delete(self.make_and_validate_key(key, version=version))

    def clear(self) -> None:
        self.store.clear()


class NodeMemcachedCache(PyMemcacheCache):
    """Memcached with bytes as they are, no noreply, large receives and hard timeouts; LOCATION lists `host:port`.

    All cache objects of a process share their connections, which outlive requests.
    """

    def __init__(self, server: str | list[str], params: dict[str, Any]) -> None:
        """Name the servers; nothing is connected yet."""
        super().__init__(server, params)
        self.client: Memcached = shared_memcached(self.client_servers)

    @property
    def _cache(self) -> _Client:
        return _Client(self.client)

    def get_backend_timeout(self, timeout: Any = DEFAULT_TIMEOUT) -> int:
        """Never give a date: what is to live longer than 30 days has no end for Memcached."""
        seconds = self.default_timeout if timeout == DEFAULT_TIMEOUT else timeout
        if seconds is None or seconds > MAX_RELATIVE_TTL:
            return 0
        return -1 if seconds <= 0 else max(1, int(-(-seconds // 1)))

    def close(self, **_kwargs: object) -> None:
        """Keep the connections: requests end all the time."""

    def clear(self) -> None:
        """Refuse: a flush would empty everybody's cache. Use `NodeCache.clear`, which clears by scope."""
        raise UnsupportedCapabilityError("Clear the node cache with NodeCache.clear(): a flush empties everybody's.")


class _Client:
    """What Django's Memcached backend calls; every trouble is a miss or a False."""

    def __init__(self, client: Memcached) -> None:
        self._client = client

    def get(self, key: str, default: Any = None) -> Any:
        return self.get_multi([key]).get(key, default)

    def get_multi(self, keys: Iterable[str]) -> dict[str, bytes]:
        nothing: dict[str, bytes | memoryview] = {}
        found = _tried(lambda: self._client.fetch(list(keys)), nothing)
        return {key: bytes(value) for key, value in found.items()}

    def set(self, key: str, value: bytes, expire: int = 0) -> bool:
        checked = _checked(value)
        return _tried(lambda: self._call(key, lambda c: bool(c.set(key, checked, expire=expire, noreply=False))), False)

    def set_multi(self, values: dict[str, bytes], expire: int = 0) -> list[str]:
        return [key for key, value in values.items() if not self.set(key, value, expire)]

    def add(self, key: str, value: bytes, expire: int = 0) -> bool:
        checked = _checked(value)
        return _tried(lambda: self._call(key, lambda c: bool(c.add(key, checked, expire=expire, noreply=False))), False)

    def touch(self, key: str, expire: int = 0) -> bool:
        return _tried(lambda: self._call(key, lambda c: bool(c.touch(key, expire=expire, noreply=False))), False)

    def delete(self, key: str) -> bool:
        return _tried(lambda: self._client.remove(key), False)

    def delete_multi(self, keys: Iterable[str]) -> bool:
        deleted = [self.delete(key) for key in keys]
        return all(deleted)

    def incr(self, key: str, delta: int) -> int | None:
        return _tried(lambda: self._call(key, lambda c: _number(c.incr(key, delta, noreply=False))), None)

    def decr(self, key: str, delta: int) -> int | None:
        return _tried(lambda: self._call(key, lambda c: _number(c.decr(key, delta, noreply=False))), None)

    def _call(self, key: str, operation: Callable[[Any], T]) -> T:
        return self._client.node_of(key).call(operation)


_adding = threading.Lock()
os.register_at_fork(after_in_child=_adding._at_fork_reinit)  # type: ignore[attr-defined]


def _checked(value: object) -> bytes:
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if not isinstance(value, bytes):
        raise TypeError(f"The cache `nodes` holds bytes only, not {type(value).__name__}.")
    return value


def _number(answer: Any) -> int | None:
    return None if answer is None else int(answer)


def _tried(step: Callable[[], T], otherwise: T) -> T:
    try:
        return step()
    except (MemcachedTroubleError, ValueRefusedError):
        return otherwise
