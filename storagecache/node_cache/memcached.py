"""Memcached through pymemcache: large receives, hard timeouts, no noreply, no pickle, a breaker per node.

Bytes in, bytes out. A reply is believed only as far as its form: what the bytes mean is verified by the frames' MAC.
A key's node is chosen by rendezvous hashing over the configured nodes, dead or not: a returning node then holds just
what it had, and nothing was written elsewhere in between that it could contradict.
"""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Any, Final, TypeVar, TypeVarTuple

from pymemcache.client.base import Client
from pymemcache.exceptions import (
    MemcacheError,
    MemcacheServerError,
    MemcacheUnexpectedCloseError,
    MemcacheUnknownError,
)

from storagecache.breaker import Breaker
from storagecache.node_cache.forks import watch_forks

CONNECT_SECONDS: Final = 0.25
READ_SECONDS: Final = 0.25  # for an answer's first byte; then:
BYTES_PER_SECOND: Final = 4_000_000  # the slowest transfer that is waited for
MAX_ITEM_BYTES: Final = 1 << 20  # Memcached's default -I
MAX_RELATIVE_TTL: Final = 60 * 60 * 24 * 30  # memcached protocol.txt, "Expiration times": above, it is a date

_CHUNK_BYTES: Final = 16_384
_MAX_LINE: Final = 1024
_LEAST_AFTER: Final = len(b"\r\nEND\r\n")  # follows every value, so that one receive may take it along
_MAX_IDLE: Final = 16  # connections kept per node
_TOKEN_KEY: Final = re.compile(r"\Antc1-[0-9a-z]*-(?=[egd]-)")
_TIMEVAL: Final = struct.Struct("ll")
_STALE: Final = (ConnectionResetError, BrokenPipeError, MemcacheUnexpectedCloseError)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


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


class Guard:
    """A key that must hold just these bytes for another one to count; asked for in the same trip, before it.

    Keeps its part of the request and of the right answer, the same for many reads.
    """

    __slots__ = ("answer", "data", "key", "name", "request", "wire")

    def __init__(self, prefix: str, name: str, data: bytes) -> None:
        self.name, self.data, self.key = name, data, prefix + name
        self.wire = self.key.encode()
        self.request = b"get %b " % self.wire
        self.answer = b"VALUE %b 0 %d\r\n%b\r\n" % (self.wire, len(data), data)


class FrameClient(Client):  # type: ignore[misc]  # pymemcache's types are not exported
    """One connection. pymemcache reads 4 KiB at a time; here a value is one receive into its own memory."""

    first_bytes = _CHUNK_BYTES  # how much of the next answer to take at once; see `_Reply`

    def _connect(self) -> None:
        super()._connect()
        self.sock.settimeout(None)  # the kernel's timeouts leave MSG_WAITALL whole and save a poll per call
        timeout = _timeval(READ_SECONDS)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)

    def fetch(self, wires: dict[bytes, str]) -> dict[str, bytes | memoryview]:
        """Get some keys, named as they are on the wire, in one trip; gives those found by their own names.

        Raises:
            OSError, MemcacheError: the connection is then closed.
        """
        if self.sock is None:
            self._connect()
        try:
            self.sock.sendall(b"get %b\r\n" % b" ".join(wires))
            came = self.sock.recv(self.first_bytes)
            values = _whole_answer(came, wires)
            return self._read_on(came, wires) if values is None else values
        except BaseException:
            self.close()  # what is left of the answer must not become the next one's
            raise

    def fetch_guarded(self, guard: Guard, wire: bytes) -> tuple[bool, bytes | memoryview | None]:
        """Get a key in one trip with its guard: tells whether the guard holds what it must, and gives the value.

        Raises:
            OSError, MemcacheError: the connection is then closed.
        """
        if self.sock is None:
            self._connect()
        try:
            self.sock.sendall(guard.request + wire + b"\r\n")
            came = self.sock.recv(self.first_bytes)
            if came.startswith(guard.answer) and (value := _last_value(came, len(guard.answer), wire)) is not None:
                return True, value
            found = self._read_on(came, {guard.wire: "guard", wire: "value"})
        except BaseException:
            self.close()
            raise
        return found.get("guard") == guard.data, found.get("value")

    def _read_on(self, came: bytes, wires: dict[bytes, str]) -> dict[str, bytes | memoryview]:
        """Read an answer of which this has come."""
        reply = _Reply(self.sock, wires, came)
        values = reply.read()
        self.first_bytes = reply.before_long or _CHUNK_BYTES
        return values

    def _fetch_cmd(self, name: bytes, keys: Iterable[Any], expect_cas: bool, key_prefix: bytes = b"") -> dict[Any, Any]:
        if name != b"get":
            return dict(super()._fetch_cmd(name, keys, expect_cas, key_prefix))
        return {key: bytes(value) for key, value in self.fetch({self.check_key(key): key for key in keys}).items()}


def _whole_answer(data: bytes, wires: dict[bytes, str]) -> dict[str, bytes | memoryview] | None:
    """Read an answer that has come whole, the shortest way; None for any other, which `_Reply` reads or refuses."""
    values: dict[str, bytes | memoryview] = {}
    at = 0
    for wire, key in wires.items():
        head = b"VALUE %b 0 " % wire
        if not data.startswith(head, at):
            continue
        end = data.find(b"\r\n", at)
        digits = data[at + len(head) : end]
        if end < 0 or not digits.isdigit():
            return None
        start, at = end + 2, end + 4 + int(digits[:12])
        if data[at - 2 : at] != b"\r\n":
            return None
        values[key] = data[start : at - 2]
    return values if data[at:] == b"END\r\n" else None


def _last_value(data: bytes, at: int, wire: bytes) -> bytes | None:
    """Read the answer's last value, which begins there and has come whole; None for anything else."""
    size_at = at + len(wire) + 9  # "VALUE <wire> 0 "
    start = data.find(b"\r\n", size_at) + 2
    size = len(data) - start - _LEAST_AFTER
    if data[at:start] == b"VALUE %b 0 %d\r\n" % (wire, size) and data.endswith(b"\r\nEND\r\n"):
        return data[start:-_LEAST_AFTER]
    return None


class _Reply:
    """The answer to one `get`, read off a socket; trusts no number in it.

    Where the last answer had a long value, only as many bytes are taken at first as came before that value, so that
    this one is received straight into memory of its own. A wrong guess costs a copy or a system call.
    """

    __slots__ = ("_at", "_buffer", "_dropped", "_sock", "_wires", "before_long")

    def __init__(self, sock: socket.socket, wires: dict[bytes, str], came: bytes) -> None:
        self._sock = sock
        self._wires = wires
        self._buffer = came
        self._at = 0
        self._dropped = 0  # bytes of the answer before the buffer
        self.before_long = 0  # bytes of the answer before its first long value

    def read(self) -> dict[str, bytes | memoryview]:
        values: dict[str, bytes | memoryview] = {}
        while (line := self._line()) != b"END":
            key, size = self._value_header(line)
            if key in values:
                raise MemcacheUnknownError("the same key twice")
            values[key] = self._value(size)
        if self._at != len(self._buffer):
            raise MemcacheUnknownError("more than was asked for")
        return values

    def _more(self) -> None:
        """Get what has come, behind what is left."""
        came = self._sock.recv(_CHUNK_BYTES)
        if not came:
            raise MemcacheUnexpectedCloseError
        self._dropped += self._at
        self._buffer, self._at = self._buffer[self._at :] + came, 0

    def _line(self) -> bytes:
        deadline = time.monotonic() + READ_SECONDS
        while (end := self._buffer.find(b"\r\n", self._at)) < 0:
            if len(self._buffer) - self._at > _MAX_LINE or time.monotonic() > deadline:
                raise MemcacheUnknownError("no end of line")
            self._more()
        line, self._at = self._buffer[self._at : end], end + 2
        return line

    def _value_header(self, line: bytes) -> tuple[str, int]:
        words = line.split(b" ")
        if len(words) != 4 or words[0] != b"VALUE" or words[1] not in self._wires or not words[3].isdigit():
            raise MemcacheUnknownError(line[:32])
        size = int(words[3][:12])
        if size > MAX_ITEM_BYTES:
            raise MemcacheUnknownError("a value larger than an item can be")
        return self._wires[words[1]], size

    def _value(self, size: int) -> bytes | memoryview:
        end = self._at + size
        if end + 2 > len(self._buffer):
            return self._long_value(size)
        if self._buffer[end : end + 2] != b"\r\n":
            raise MemcacheUnknownError("a value without its end")
        value = self._buffer[self._at : end]
        self._at = end + 2
        return value

    def _long_value(self, size: int) -> memoryview:
        if size > _CHUNK_BYTES and not self.before_long:
            self.before_long = self._dropped + self._at
        received = self._receive(self._buffer[self._at :], size + _LEAST_AFTER)
        if received[size : size + 2] != b"\r\n":
            raise MemcacheUnknownError("a value without its end")
        self._buffer, self._at = received[size + 2 :], 0
        return memoryview(received)[:size]

    def _receive(self, start: bytes, size: int) -> bytes:
        deadline = time.monotonic() + READ_SECONDS + size / BYTES_PER_SECOND
        received = start
        while len(received) < size:
            more = self._sock.recv(size - len(received), socket.MSG_WAITALL)
            if not more:
                raise MemcacheUnexpectedCloseError
            received = received + more if received else more
            if len(received) < size and time.monotonic() > deadline:
                raise TimeoutError("a value came too slowly")
        return received


class Node:
    """One server: idle connections, a breaker, and one retry when a kept connection turns out to be dead."""

    def __init__(self, address: tuple[str, int] | str) -> None:
        self.address = address
        self.name = address if isinstance(address, str) else f"{address[0]}:{address[1]}"
        self.breaker = Breaker(time.monotonic)
        self._idle: list[FrameClient] = []

    def call(self, operation: Callable[[FrameClient, *Ts], T], *args: *Ts) -> T:
        """Run one operation, with its arguments, on a connection.

        Raises:
            MemcachedTroubleError, ValueRefusedError
        """
        if not self.breaker.allows():
            raise MemcachedTroubleError(f"{self.name} is being skipped")
        try:
            result = self._with_retry(operation, *args)
        except MemcacheServerError as error:
            self.breaker.succeeded()
            raise ValueRefusedError(str(error)) from error
        except (OSError, MemcacheError, ValueError, LookupError) as error:
            self.breaker.failed()
            self.close()
            raise MemcachedTroubleError(f"{self.name}: {type(error).__name__}") from error
        self.breaker.succeeded()
        return result

    def after_fork(self) -> None:
        """Begin anew in a forked child: the connections are the parent's."""
        self.breaker = Breaker(time.monotonic)
        self._idle = []

    def close(self) -> None:
        """Close the idle connections."""
        idle, self._idle = self._idle, []
        for client in idle:
            client.close()

    def _with_retry(self, operation: Callable[[FrameClient, *Ts], T], *args: *Ts) -> T:
        try:
            client = self._idle.pop()  # atomic: no lock is needed
        except IndexError:
            client = self._new()
        kept = client.sock is not None
        try:
            result = operation(client, *args)
        except _STALE:
            if not kept:  # a new connection that is cut is no accident
                raise
            self.close()
            client = self._new()
            result = operation(client, *args)
        if len(self._idle) < _MAX_IDLE:
            self._idle.append(client)
        else:
            client.close()
        return result

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
        token = _TOKEN_KEY.match(key)  # tokens lie together: a clear needs one node, and is whole or not at all
        name = (token[0] if token else key).encode("utf-8", "surrogatepass")
        return max(self.nodes, key=lambda node: blake2b(name, digest_size=8, key=node.name.encode()[-64:]).digest())

    def fetch(self, keys: Iterable[str], prefix: str = "") -> dict[str, bytes | memoryview]:
        """Get some keys, each with a prefix on the wire, in one trip per node that holds any.

        Raises:
            MemcachedTroubleError: a node failed.
        """
        if len(self.nodes) == 1:
            return self.nodes[0].call(FrameClient.fetch, {(prefix + key).encode(): key for key in keys})
        groups: dict[Node, dict[bytes, str]] = {}
        for key in keys:
            groups.setdefault(self.node_of(prefix + key), {})[(prefix + key).encode()] = key
        found: dict[str, bytes | memoryview] = {}
        for node, wires in groups.items():
            found |= node.call(FrameClient.fetch, wires)
        return found

    def fetch_guarded(self, guard: Guard, key: str) -> tuple[bool, bytes | memoryview | None]:
        """Get a key and tell whether its guard holds: in one trip, or one per node that has either.

        Raises:
            MemcachedTroubleError
        """
        if len(self.nodes) == 1:
            return self.nodes[0].call(FrameClient.fetch_guarded, guard, key.encode())
        found = self.fetch((guard.key, key))
        return found.get(guard.key) == guard.data, found.get(key)

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
            node.after_fork()


def wire_ttl(ttl: float | None) -> int:
    """Give Memcached's expiry in whole seconds, rounded up; 0 (none: the frame knows) where it would be a date."""
    if ttl is None or ttl > MAX_RELATIVE_TTL:
        return 0
    return max(1, int(-(-ttl // 1)))


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
