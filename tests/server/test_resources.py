"""What hundreds of slow clients and huge objects cost the real service: connections to the catalog, and memory."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from assets.services.lookups import CONNECTIONS as LOOKUP_CONNECTIONS
from storagecache.config import SQLITE_CONNECTIONS
from tests.server.service import Service, serving
from tests.server.wire import Wire, request

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]

SLOW = 300  # readers, and as many writers
CONNECTIONS = 2 * (SQLITE_CONNECTIONS + LOOKUP_CONNECTIONS) + 2  # of two web processes, and the worker's
GIB = 1 << 30
MIB = 1 << 20
BLOCK = os.urandom(MIB)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path) as running:
        yield running


def catalog_connections(service: Service) -> int:
    """Count the open files that are the catalog itself (each connection holds one)."""
    catalog = str(service.folder / "config" / "nodetool.sqlite3")
    return sum(_links(process).count(catalog) for process in service.members())


def _links(process: int) -> list[str]:
    found = []
    for link in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(os.readlink(link))
    return found


def memory(service: Service) -> int:
    """Give the bytes of the whole tree; shared pages count once (PSS)."""
    return sum(_pss(process) for process in service.members())


def _pss(process: int) -> int:
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))


class Peak:
    """Watches the memory of the service inside a `with` block; `grown` is the most above its beginning."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.before = memory(service)
        self.grown = 0

    def _watch(self) -> None:
        while not self._done.wait(0.05):
            self.grown = max(self.grown, memory(self._service) - self.before)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


@contextlib.contextmanager
def slow_reader(service: Service, target: str) -> Iterator[None]:
    """Ask for a big object and read its first kilobytes only; the receive buffer is small, so the service must wait."""
    wire = Wire(service.port, receive_buffer=8192)
    with contextlib.closing(wire):
        wire.send(request("GET", target))
        assert wire.head() == 200
        yield


@contextlib.contextmanager
def slow_writer(service: Service, number: int) -> Iterator[Wire]:
    """Announce a megabyte and send the half of it."""
    with service.connected() as wire:
        wire.send(request("PUT", f"/storage/temp/slow-{number}", f"Content-Length: {MIB}") + BLOCK[: MIB // 2])
        yield wire


def test_slow_clients_hold_no_catalog_connection_and_block_nobody(service: Service) -> None:
    service.ask("PUT", "/storage/assets/big", body=BLOCK * 32)
    with contextlib.ExitStack() as stack, Peak(service) as peak:
        writers = [stack.enter_context(slow_writer(service, number)) for number in range(SLOW)]
        for _ in range(SLOW):
            stack.enter_context(slow_reader(service, "/storage/assets/big"))
        waits = [_probe(service) for _ in range(20)]
        held = catalog_connections(service)
        for wire in writers:
            wire.send(BLOCK[MIB // 2 :])
        assert [wire.answer().status for wire in writers] == [201] * SLOW
    print(f"connections={held} slowest_probe={max(waits):.3f}s memory=+{peak.grown >> 20}MB")  # noqa: T201 (shown by -s)
    assert held <= CONNECTIONS
    assert catalog_connections(service) <= CONNECTIONS


def _probe(service: Service) -> float:
    """Make a small request that must be answered beside the slow ones; gives the seconds it took."""
    start = time.monotonic()
    answer = service.ask("GET", "/storage/assets/big", "Range: bytes=5-9")
    assert answer.body == BLOCK[5:10]
    return time.monotonic() - start


def test_memory_of_a_gigabyte_both_ways_is_bounded(service: Service) -> None:
    service.ask("PUT", "/storage/assets/warm", body=BLOCK)
    service.ask("GET", "/storage/assets/warm")
    with service.connected() as wire, Peak(service) as upload:
        wire.send(request("PUT", "/storage/assets/huge", f"Content-Length: {GIB}"))
        for _ in range(GIB // MIB):
            wire.send(BLOCK)
        wire.socket.settimeout(120)  # the disk may be slow to sync
        assert wire.answer().status == 201
    with service.connected() as wire, Peak(service) as tail:
        answer = wire.ask("GET", "/storage/assets/huge", "Range: bytes=-65536")
        assert answer.body == BLOCK[-65536:]
    with service.connected() as wire, Peak(service) as download:
        wire.send(request("GET", "/storage/assets/huge"))
        assert wire.head() == 200
        _drain(wire.socket, GIB - wire.buffered)
    print(f"put=+{upload.grown >> 20}MB tail=+{tail.grown >> 20}MB get=+{download.grown >> 20}MB")  # noqa: T201
    assert upload.grown < 64 * MIB
    assert tail.grown < 8 * MIB
    assert download.grown < 64 * MIB


def test_memory_of_a_big_form_is_bounded(service: Service) -> None:
    length = 300 * MIB
    service.ask("PUT", "/storage/assets/warm", body=BLOCK)
    head = (
        b'--edge\r\nContent-Disposition: form-data; name="json"\r\n\r\n{"name": "big.bin"}\r\n'
        b'--edge\r\nContent-Disposition: form-data; name="file"; filename="big.bin"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n"
    )
    tail = b"\r\n--edge--\r\n"
    whole = f"Content-Length: {len(head) + length + len(tail)}"
    with service.connected() as wire, Peak(service) as upload:
        wire.send(request("POST", "/api/assets", whole, "Content-Type: multipart/form-data; boundary=edge") + head)
        for _ in range(length // MIB):
            wire.send(bytes(MIB))
        wire.send(tail)
        wire.socket.settimeout(120)
        answer = wire.answer()
    assert (answer.status, json.loads(answer.body)["size"]) == (200, length)
    print(f"form=+{upload.grown >> 20}MB")  # noqa: T201
    assert upload.grown < 64 * MIB


def _drain(connection: socket.socket, left: int) -> None:
    while left:
        received = len(connection.recv(min(left, MIB)))
        assert received, f"cut {left} bytes early"
        left -= received
