"""A proxy before a real S3 server that spoils what passes through it. Knows HTTP/1.1; of S3, one error."""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto

from tests.servers import HOST, SeaweedServer

EMPTY_500 = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
SLOW_DOWN = b"HTTP/1.1 503 Slow Down\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (
    len(_SLOW_DOWN),
    _SLOW_DOWN,
)
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Fault(Enum):
    """What happens to a request."""

    ERROR = auto()  # 500, and the server never hears of it
    SLOW_DOWN = auto()  # 503 as AWS says it
    STALL = auto()  # no answer; the server never hears of it
    RESET = auto()  # the connection is reset
    CUT_REQUEST = auto()  # reset in the middle of the request, which reaches the server as far as that
    CUT_ANSWER = auto()  # reset in the middle of the answer
    LOST_ANSWER = auto()  # the server does it, and its answer becomes a 500


@dataclass(frozen=True, slots=True)
class Message:
    """One request or answer."""

    head: bytes
    body: bytes

    @property
    def whole(self) -> bytes:
        """The bytes of it."""
        return self.head + self.body

    @property
    def half(self) -> bytes:
        """Its head and half of its body; half of the head where there is no body."""
        return self.head + self.body[: len(self.body) // 2] if self.body else self.head[: len(self.head) // 2]


class FaultProxy(socketserver.ThreadingTCPServer):
    """Passes requests on. `fault` spoils those from number `first` on, `times` of them (None: all)."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__((HOST, 0), _Relay)
        self.target = target
        self.fault: Fault | None = None
        self.first = 0
        self.times: int | None = None
        self.requests = 0
        self.turn = threading.Lock()
        self.mended = threading.Event()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self.server_address[1]}"

    def spoil(self, fault: Fault, *, first: int = 0, times: int | None = None) -> None:
        """Count requests from 0 on, and spoil those from `first` on."""
        with self.turn:
            self.fault, self.first, self.times, self.requests = fault, first, times, 0
            self.mended.clear()

    def mend(self) -> None:
        """Spoil nothing any more; what stalls is dropped."""
        with self.turn:
            self.fault = None
            self.mended.set()

    def next_fault(self) -> Fault | None:
        """Give the fate of the next request."""
        with self.turn:
            number, self.requests = self.requests, self.requests + 1
            late = self.times is not None and number >= self.first + self.times
            return None if number < self.first or late else self.fault

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hung up is no news."""


class _Relay(socketserver.BaseRequestHandler):
    server: FaultProxy

    def handle(self) -> None:
        while (request := read_message(self.request, asked=True)) is not None:
            fault = self.server.next_fault()
            if fault is None:
                answer = self._forward(request)
                if answer is None:
                    return
                self.request.sendall(answer.whole)
            else:
                self._spoil(fault, request)
                return

    def _spoil(self, fault: Fault, request: Message) -> None:
        if fault is Fault.STALL:
            self.server.mended.wait()
        elif fault is Fault.CUT_REQUEST:
            with socket.create_connection(self.server.target, timeout=10) as upstream:
                upstream.sendall(request.half)
        elif fault is Fault.CUT_ANSWER:
            answer = self._forward(request)
            self.request.sendall(answer.half if answer else b"")
        elif fault is Fault.LOST_ANSWER:
            self._forward(request)
        if fault in (Fault.ERROR, Fault.LOST_ANSWER):
            self.request.sendall(EMPTY_500)
        elif fault is Fault.SLOW_DOWN:
            self.request.sendall(SLOW_DOWN)
        else:
            self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _forward(self, request: Message) -> Message | None:
        with socket.create_connection(self.server.target, timeout=30) as upstream:
            upstream.sendall(request.whole)
            return read_message(upstream, bodyless=request.head.startswith(b"HEAD"))


def read_message(peer: socket.socket, *, asked: bool = False, bodyless: bool = False) -> Message | None:
    """Read a message with a Content-Length or chunks; None at the end. A client that asks is told to continue."""
    data = b""
    while b"\r\n\r\n" not in data:
        block = peer.recv(65536)
        if not block:
            return None
        data += block
    head, _, rest = data.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"expect:")]
    if asked and len(lines) < head.count(b"\r\n") + 1:
        peer.sendall(CONTINUE)
    head = b"\r\n".join(lines) + b"\r\n\r\n"
    return Message(head, b"" if bodyless else _read_body(peer, lines[1:], bytearray(rest)))


def _read_body(peer: socket.socket, lines: list[bytes], body: bytearray) -> bytes:
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
    chunked = fields.get(b"transfer-encoding", b"") == b"chunked"
    length = int(fields.get(b"content-length", b"0"))
    while (chunked and not body.endswith(b"0\r\n\r\n")) or len(body) < length:
        block = peer.recv(1 << 18)
        if not block:
            raise ConnectionError("cut")
        body += block
    return bytes(body)


@contextmanager
def before(seaweed: SeaweedServer) -> Iterator[FaultProxy]:
    """Run a proxy before a server."""
    port = int(seaweed.endpoint_url.rpartition(":")[2])
    with FaultProxy((HOST, port)) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, daemon=True)
        thread.start()
        yield proxy
        proxy.mend()
        proxy.shutdown()
        thread.join()
