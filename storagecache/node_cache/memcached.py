"""Memcached through pymemcache: large receives, hard timeouts, no noreply, no pickle, a breaker per node.

Bytes in, bytes out. A reply is believed only as far as its form: what the bytes mean is verified by the frames' MAC.
A key's node is chosen by rendezvous hashing over the configured nodes, dead or not: a returning node then holds just
what it had, and nothing was written elsewhere in between that it could contradict.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final, TypeVar

from pymemcache.client.base import Client
from pymemcache.exceptions import (
    MemcacheError,
    MemcacheServerError,
    MemcacheUnexpectedCloseError,
    MemcacheUnknownError,
)

from storagecache.node_cache.breaker import Breaker
from storagecache.node_cache.forks import watch_forks

CONNECT_SECONDS: Final = 0.25
READ_SECONDS: Final = 0.25  # for an answer's first byte; then:
BYTES_PER_SECOND: Final = 4_000_000  # the slowest transfer that is waited for
MAX_ITEM_BYTES: Final = 1 << 20  # Memcached's default -I
MAX_RELATIVE_TTL: Final = 60 * 60 * 24 * 30  # memcached protocol.txt, "Expiration times": above, it is a date

_PEEK_BYTES: Final = 16_384
_MAX_LINE: Final = 1024
_MAX_IDLE: Final = 16  # connections kept per node
_TIMEVAL: Final = struct.Struct("ll")
_STALE: Final = (ConnectionResetError, BrokenPipeError, MemcacheUnexpectedCloseError)

T = TypeVar("T")


class MemcachedTroubleError(Exception):
    """A node did not answer, answered nonsense, or is being skipped after that."""


class ValueRefusedError(Exception):
    """The node works but did not take this value: too large, or no memory."""


class BytesSerde:
    """Stores bytes as they are; anything else is a mistake of the caller, and nothing is ever unpickled."""

    def serialize(self, _key: object, value: object) -> tuple[bytes, int]:
        """Take bytes only."""
        if not isinstance(value, bytes):
            raise TypeError(f"The node cache's backend holds bytes only, not {type(value).__name__}.")
        return value, 0

    def deserialize(self, _key: object, value: bytes, _flags: int) -> bytes:
        """Give the bytes, whatever the flags claim they are."""
        return value


class FrameClient(Client):  # type: ignore[misc]  # pymemcache's types are not exported
    """One connection. pymemcache reads 4 KiB at a time; here a value is one receive into its own memory."""

    def _connect(self) -> None:
        super()._connect()
        self.sock.settimeout(None)  # the kernel's timeouts leave MSG_WAITALL whole and save a poll per call
        timeout = _timeval(READ_SECONDS)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)

    def fetch(self, keys: list[bytes]) -> dict[bytes, bytes | memoryview]:
        """Get some keys in one trip.

        Raises:
            OSError, MemcacheError: the connection is then closed.
        """
        if self.sock is None:
            self._connect()
        try:
            self.sock.sendall(b"get %b\r\n" % b" ".join(keys))
            return _Reply(self.sock, frozenset(keys)).read()
        except BaseException:
            self.close()  # what is left of the answer must not become the next one's
            raise

    def _fetch_cmd(self, name: bytes, keys: Iterable[Any], expect_cas: bool, key_prefix: bytes = b"") -> dict[Any, Any]:
        if name != b"get":
            return dict(super()._fetch_cmd(name, keys, expect_cas, key_prefix))
        wire = {self.check_key(key, key_prefix=key_prefix): key for key in keys}
        return {wire[key]: bytes(value) for key, value in self.fetch(list(wire)).items()}


@dataclass(slots=True)
class _Reply:
    """The answer to one `get`, read off a socket; trusts no number in it."""

    sock: socket.socket
    expected: frozenset[bytes]
    buffer: bytes = b""
    at: int = 0

    def read(self) -> dict[bytes, bytes | memoryview]:
        values: dict[bytes, bytes | memoryview] = {}
        self._peek()
        while (line := self._line()) != b"END":
            key, size = self._value_header(line)
            if key in values:
                raise MemcacheUnknownError("the same key twice")
            values[key] = self._value(size)
        self._consume()
        return values

    def _peek(self) -> None:
        """Look at what has come without taking it, so that a long value can be received straight into place."""
        self.buffer = self.sock.recv(_PEEK_BYTES, socket.MSG_PEEK)
        self.at = 0
        if not self.buffer:
            raise MemcacheUnexpectedCloseError

    def _consume(self) -> None:
        """Take what was looked at and used up."""
        if self.at:
            self.sock.recv(self.at, socket.MSG_WAITALL)
        self.buffer, self.at = self.buffer[self.at :], 0

    def _line(self) -> bytes:
        end = self.buffer.find(b"\r\n", self.at)
        if end < 0:
            end = self._longer_line()
        line = self.buffer[self.at : end]
        self.at = end + 2
        return line

    def _longer_line(self) -> int:
        """Wait until a whole line can be seen."""
        self._consume()
        deadline = time.monotonic() + READ_SECONDS
        while (end := self.buffer.find(b"\r\n")) < 0:
            if len(self.buffer) > _MAX_LINE or time.monotonic() > deadline:
                raise MemcacheUnknownError("no end of line")
            seen = len(self.buffer)
            self.buffer = self.sock.recv(seen + 1, socket.MSG_PEEK | socket.MSG_WAITALL)
            if len(self.buffer) <= seen:
                raise MemcacheUnexpectedCloseError
            self._peek()
        return end

    def _value_header(self, line: bytes) -> tuple[bytes, int]:
        words = line.split(b" ")
        if len(words) != 4 or words[0] != b"VALUE" or words[1] not in self.expected or not words[3].isdigit():
            raise MemcacheUnknownError(line[:32])
        size = int(words[3][:12])
        if size > MAX_ITEM_BYTES:
            raise MemcacheUnknownError("a value larger than an item can be")
        return words[1], size

    def _value(self, size: int) -> bytes | memoryview:
        end = self.at + size
        if end + 2 <= len(self.buffer):
            value: bytes | memoryview = self.buffer[self.at : end]
            tail = self.buffer[end : end + 2]
            self.at = end + 2
        else:
            self._consume()
            received = memoryview(self._receive(size + 2))
            self.buffer, self.at = b"", 0
            value, tail = received[:size], bytes(received[size:])
            self._peek()
        if tail != b"\r\n":
            raise MemcacheUnknownError("a value without its end")
        return value

    def _receive(self, size: int) -> bytes:
        deadline = time.monotonic() + READ_SECONDS + size / BYTES_PER_SECOND
        received = self.sock.recv(size, socket.MSG_WAITALL)
        while len(received) < size:
            if time.monotonic() > deadline:
                raise TimeoutError("a value came too slowly")
            more = self.sock.recv(size - len(received), socket.MSG_WAITALL)
            if not more:
                raise MemcacheUnexpectedCloseError
            received += more
        return received


class Node:
    """One server: idle connections, a breaker, and one retry when a kept connection turns out to be dead."""

    def __init__(self, address: tuple[str, int] | str) -> None:
        self.address = address
        self.name = address if isinstance(address, str) else f"{address[0]}:{address[1]}"
        self.breaker = Breaker(time.monotonic)
        self._idle: list[FrameClient] = []
        self._lock = threading.Lock()
        self._pid = os.getpid()

    def call(self, operation: Callable[[FrameClient], T]) -> T:
        """Run one operation on a connection.

        Raises:
            MemcachedTroubleError, ValueRefusedError
        """
        if not self.breaker.allows():
            raise MemcachedTroubleError(f"{self.name} is being skipped")
        try:
            result = self._with_retry(operation)
        except MemcacheServerError as error:
            self.breaker.succeeded()
            raise ValueRefusedError(str(error)) from error
        except (OSError, MemcacheError, ValueError, LookupError) as error:
            self.breaker.failed()
            self.close()
            raise MemcachedTroubleError(f"{self.name}: {type(error).__name__}") from error
        self.breaker.succeeded()
        return result

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for client in idle:
            client.close()

    def _with_retry(self, operation: Callable[[FrameClient], T]) -> T:
        client = self._take()
        kept = client.sock is not None
        try:
            result = operation(client)
        except _STALE:
            if not kept:  # a new connection that is cut is no accident
                raise
            self.close()
            client = self._new()
            result = operation(client)
        self._give_back(client)
        return result

    def _take(self) -> FrameClient:
        with self._lock:
            if self._pid != os.getpid():  # a fork: these sockets are the parent's
                self._idle, self._pid = [], os.getpid()
            return self._idle.pop() if self._idle else self._new()

    def _give_back(self, client: FrameClient) -> None:
        with self._lock:
            if len(self._idle) < _MAX_IDLE:
                self._idle.append(client)
                return
        client.close()

    def _new(self) -> FrameClient:
        return FrameClient(
            self.address,
            serde=BytesSerde(),
            connect_timeout=CONNECT_SECONDS,
            timeout=READ_SECONDS,
            no_delay=True,
            default_noreply=False,
            allow_unicode_keys=True,
        )


class Memcached:
    """All nodes as one; what Django's Memcached backend calls its client. Safe for threads and across forks."""

    def __init__(self, servers: Iterable[tuple[str, int] | str]) -> None:
        self.nodes = [Node(_address(server)) for server in servers]
        if not self.nodes:
            raise ValueError("A Memcached cache needs at least one server.")
        watch_forks(self)

    def node_of(self, key: str) -> Node:
        """Choose a key's node: the highest hash of both; a changed list moves only its share of the keys."""
        if len(self.nodes) == 1:
            return self.nodes[0]
        name = key.encode("utf-8", "surrogatepass")
        return max(self.nodes, key=lambda node: blake2b(name, digest_size=8, key=node.name.encode()[-64:]).digest())

    def fetch(self, keys: list[str]) -> dict[str, bytes | memoryview]:
        """Get some keys, in one trip per node that holds any.

        Raises:
            MemcachedTroubleError: a node failed.
        """
        if len(self.nodes) == 1:
            return _decoded(self.nodes[0].call(lambda client: client.fetch([key.encode() for key in keys])))
        groups: dict[Node, list[bytes]] = {}
        for key in keys:
            groups.setdefault(self.node_of(key), []).append(key.encode())
        found: dict[str, bytes | memoryview] = {}
        for node, group in groups.items():
            found |= _decoded(node.call(lambda client, group=group: client.fetch(group)))  # type: ignore[misc]
        return found

    def store(self, verb: str, key: str, value: bytes, ttl: float | None) -> bool:
        """`set` or `add` a value for `ttl` seconds (None: no end); False when `add` finds the key taken.

        Raises:
            MemcachedTroubleError, ValueRefusedError
        """
        expire = wire_ttl(ttl)

        def operation(client: FrameClient) -> bool:
            return bool(getattr(client, verb)(key, value, expire=expire, noreply=False))

        return self.node_of(key).call(operation)

    def remove(self, key: str) -> bool:
        """Delete a key; tells whether it was there.

        Raises:
            MemcachedTroubleError
        """
        return self.node_of(key).call(lambda client: bool(client.delete(key, noreply=False)))

    def close(self) -> None:
        """Close all idle connections."""
        for node in self.nodes:
            node.close()

    def after_fork(self) -> None:
        for node in self.nodes:
            node._lock = threading.Lock()
            node.breaker = Breaker(time.monotonic)


def wire_ttl(ttl: float | None) -> int:
    """Give Memcached's expiry in whole seconds, rounded up; 0 (none: the frame knows) where it would be a date."""
    if ttl is None or ttl > MAX_RELATIVE_TTL:
        return 0
    return max(1, int(-(-ttl // 1)))


def _decoded(found: dict[bytes, bytes | memoryview]) -> dict[str, bytes | memoryview]:
    return {key.decode(): value for key, value in found.items()}


def _address(server: tuple[str, int] | str) -> tuple[str, int] | str:
    if isinstance(server, str) and not server.startswith(("/", "unix:")):
        host, _, port = server.rpartition(":")
        return (host.strip("[]"), int(port)) if host else (port, 11211)
    return server


def _timeval(seconds: float) -> bytes:
    return _TIMEVAL.pack(int(seconds), int(seconds % 1 * 1_000_000))


_clients: dict[tuple[Any, ...], Memcached] = {}
_clients_lock = threading.Lock()


def shared_memcached(servers: Iterable[tuple[str, int] | str]) -> Memcached:
    """Give the process's client of these servers: Django makes a cache object per thread, connections are shared."""
    wanted = tuple(_address(server) for server in servers)
    with _clients_lock:
        if wanted not in _clients:
            _clients[wanted] = Memcached(wanted)
        return _clients[wanted]
