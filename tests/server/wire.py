"""HTTP/1.1 over a plain socket: sends exactly the bytes a test wants, and notices an answer that was cut."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

TIMEOUT = 60  # seconds; a generous bound, so that a failing test ends
_LIFE = re.compile(r"max-age=(\d{3,4})\b")  # of a link, in seconds; what is kept for longer is policy


class CutError(Exception):
    """The connection ended inside an answer, or where one should have been."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole answer. `headers` by lower-case name; those sent twice are joined by a comma."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def etag(self) -> str:
        """The ETag, which must be there."""
        return self.headers["etag"]

    @property
    def lasting(self) -> dict[str, str]:
        """The headers without the clock: answers a second apart differ in Date and in what is left of a link's life."""
        lasting = {name: value for name, value in self.headers.items() if name != "date"}
        if "cache-control" in lasting:
            lasting["cache-control"] = _LIFE.sub("max-age=LIFE", lasting["cache-control"])
        return lasting

    @property
    def life(self) -> int:
        """What is left of a link's life in seconds, which must be told."""
        found = _LIFE.search(self.headers["cache-control"])
        assert found
        return int(found[1])

    def detail(self) -> str:
        """Give the text of an error, which must be JSON that is never stored."""
        assert self.headers["content-type"] == "application/json"
        assert self.headers["cache-control"] == "no-store"
        error: dict[str, Any] = json.loads(self.body)
        assert error.keys() == {"detail"}
        assert error["detail"]
        return str(error["detail"])


class Wire:
    """One connection."""

    def __init__(self, port: int, *, receive_buffer: int | None = None) -> None:
        """Connect; `receive_buffer` is in bytes (None: the system's)."""
        self.socket = socket.socket()
        self.socket.settimeout(TIMEOUT)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            self.socket.connect(("127.0.0.1", port))
        except OSError:
            self.socket.close()
            raise
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()

    @property
    def buffered(self) -> int:
        """The bytes that came behind the last head."""
        return len(self._buffer)

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def send_until_refused(self, data: bytes) -> None:
        """Send bytes to a server that may answer and close before their end: its answer is there (RFC 9112 9.5)."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.send(data)

    def ask(self, method: str, target: str, *headers: str, body: bytes | None = None) -> Answer:
        """Send a request and read its answer; a body brings its Content-Length along."""
        length = () if body is None else (f"Content-Length: {len(body)}",)
        self.send_until_refused(request(method, target, *headers, *length) + (body or b""))
        return self.answer(method)

    def answer(self, method: str = "GET") -> Answer:
        """Read the next final answer.

        Raises:
            CutError: it never came, or not whole.
        """
        while True:
            status, headers = self._head()
            if status >= 200:
                return Answer(status, headers, b"" if _bodyless(method, status) else self._body(headers))

    def head(self) -> int:
        """Read the next head and give its status, interim ones too."""
        return self._head()[0]

    def head_of_answer(self) -> tuple[int, dict[str, str]]:
        """Read the next head: status, and headers by lower-case name."""
        return self._head()

    def fill(self, target: memoryview) -> None:
        """Read bytes of a body right into a buffer, all of it.

        Raises:
            CutError: there were not so many.
        """
        done = min(len(self._buffer), len(target))
        target[:done] = self._buffer[:done]
        del self._buffer[:done]
        while done < len(target):
            count = self.socket.recv_into(target[done:])
            if not count:
                raise CutError(f"the connection ended after {done} of {len(target)} bytes")
            done += count

    def is_closed(self) -> bool:
        """Tell whether the server ended the connection without another byte."""
        try:
            return not self._buffer and self.socket.recv(1) == b""
        except ConnectionError:
            return True

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def _head(self) -> tuple[int, dict[str, str]]:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            self._more()
        lines = bytes(self._buffer[:end]).decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            name, value = name.lower(), value.strip()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return int(lines[0].split()[1]), headers

    def _body(self, headers: dict[str, str]) -> bytes:
        if "chunked" in headers.get("transfer-encoding", ""):
            return b"".join(self._chunks())
        return self._exactly(int(headers["content-length"]))

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self._line(), 16):
            yield self._exactly(size)
            self._line()
        self._line()

    def _line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            self._more()
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._more()
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def _more(self) -> None:
        try:
            data = self.socket.recv(1 << 18)
        except ConnectionError as error:
            raise CutError("the connection was reset") from error
        if not data:
            raise CutError(f"the connection ended, {len(self._buffer)} bytes of an answer came")
        self._buffer += data


def request(method: str, target: str, *headers: str) -> bytes:
    """Write the head of a request; a Host of this machine unless one is given."""
    host = () if any(header.lower().startswith("host:") for header in headers) else ("Host: 127.0.0.1",)
    return "\r\n".join((f"{method} {target} HTTP/1.1", *host, *headers, "", "")).encode("latin-1")


@contextmanager
def connected(port: int) -> Iterator[Wire]:
    """Give a connection that is closed after the block."""
    wire = Wire(port)
    try:
        yield wire
    finally:
        wire.close()


def ask(port: int, method: str, target: str, *headers: str, body: bytes | None = None) -> Answer:
    """Make one request on a connection of its own."""
    with connected(port) as wire:
        return wire.ask(method, target, *headers, body=body)


def _bodyless(method: str, status: int) -> bool:
    return method == "HEAD" or status in (204, 304)
