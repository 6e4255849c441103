"""The running service on a full, read-only or failing disk, and without descriptors: refused, told, recovered."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count, islice
from pathlib import Path

import pytest

from tests.faults.stand import Stand, body_of
from tests.faults.strace import injected, require_strace, web_processes
from tests.server.processes import until
from tests.server.wire import Answer

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

Stands = Callable[..., Stand]
Disks = Callable[[str], Path]
MEGABYTE = 1 << 20


def assert_refused(answer: Answer | None, status: int) -> None:
    """A refusal says why, and that one may come again if one may."""
    assert answer is not None
    assert answer.status == status, (answer.status, answer.body)
    assert answer.detail()
    assert (status == 503) == ("retry-after" in answer.headers)


def test_full_disk_is_507_nothing_is_half_written_and_room_is_used_at_once(stands: Stands, small_disk: Disks) -> None:
    disk = small_disk("size=8m")
    stand = stands(ASSET_FOLDER=str(disk / "assets"), TEMP_FOLDER=str(disk / "temp"))
    full = 0
    for number in range(14):
        answer = stand.put(f"k{number % 10}", body_of(f"{number}", MEGABYTE))
        assert answer is not None
        if answer.status not in (200, 201):
            full += 1
            assert_refused(answer, 507)
    assert full > 3
    assert_refused(stand.post("posted", body_of("posted", 3 * MEGABYTE)), 507)
    stand.read_all()
    stand.look()
    for key in list(stand.ledger)[:3]:
        stand.delete(key)
    stand.judge.ask("purge")
    answer = stand.put("room", body_of("room", 2 * MEGABYTE))
    assert answer is not None
    assert answer.status == 201
    stand.look()


def test_full_disk_under_the_catalog_too_refuses_writes_and_goes_on_reading(stands: Stands, small_disk: Disks) -> None:
    disk = small_disk("size=24m")
    stand = stands(NODETOOL_CONFIG_DIR=str(disk / "config"))
    for number in range(4):
        stand.put(f"k{number}", body_of(f"{number}", 70_000))
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as stream:
        for size in (MEGABYTE, 4096):
            try:
                while True:
                    stream.write(bytes(size))
            except OSError:
                pass
    for number in range(6):
        answer = stand.put(f"k{number}", body_of(f"more {number}", 5_000 if number % 2 else 70_000))
        assert answer is not None
        assert_refused(answer, 507 if answer.status == 507 else 503)
        stand.read_all()
    filler.unlink()
    stand.recover()
    stand.look()


def test_read_only_disk_is_503_and_reads_go_on(stands: Stands, small_disk: Disks) -> None:
    disk = small_disk("size=16m")
    stand = stands(ASSET_FOLDER=str(disk / "assets"), TEMP_FOLDER=str(disk / "temp"))
    stand.put("k", body_of("old", 70_000))
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for key in ("k", "new"):
        assert_refused(stand.put(key, body_of("new", 70_000)), 503)
    assert_refused(stand.post("posted", body_of("posted", 70_000)), 503)
    assert stand.service.ask("GET", "/readyz").status == 503
    stand.read_all()
    stand.delete("k")  # the catalog is elsewhere: rows go, and bytes when they can
    assert "k" not in stand.ledger
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    stand.recover()
    stand.look()


ERRORS = ("error=EIO", "error=EIO:when=1", "error=EIO:when=2", "error=EIO:when=3+", "error=ENOSPC:when=1")


def test_failing_fsync_acknowledges_nothing(stands: Stands) -> None:
    require_strace()
    stand = stands()
    stand.put("k", body_of("old", 70_000))
    for number, what in enumerate(ERRORS):
        statuses = []
        with injected(web_processes(stand.service), "fsync,fdatasync", what):
            for key in ("k", f"new-{number}"):
                answer = stand.put(key, body_of(f"{what} {key}", 70_000))
                assert answer is not None
                statuses.append(answer.status)
        assert set(statuses) <= {200, 201, 503, 507}
        assert statuses[0] >= 500, what
        stand.read_all()
        stand.recover()
        stand.look()


ASKED = (
    ("DELETE", "/storage/assets/k2"),
    ("PUT", "/storage/assets/k1"),
    ("GET", "/storage/assets/k0"),
    ("HEAD", "/storage/assets/k0"),
    ("GET", "/api/assets"),
    ("GET", "/metrics"),
)


def _answering(stand: Stand) -> Iterator[str]:
    """Tell which process answers, again and again: ids of refused requests begin with a number of theirs."""
    while True:
        yield stand.service.ask("GET", "/nowhere").headers["x-request-id"][:16]


@contextmanager
def few_descriptors(processes: list[int], spare: int) -> Iterator[None]:
    """Let the processes open so many files more, and no others, inside the block."""
    limits = {pid: resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in processes}
    try:
        for pid, (_, hard) in limits.items():
            used = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
            free = (number for number in count() if number not in used)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (next(islice(free, spare, None)), hard))
        yield
    finally:
        for pid, limit in limits.items():
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limit)


def test_service_without_descriptors_refuses_and_recovers(stands: Stands) -> None:
    stand = stands()
    for number in range(4):
        stand.put(f"k{number}", body_of(f"{number}", 300_000))
    until(lambda: len(set(islice(_answering(stand), 8))) == len(web_processes(stand.service)))
    refused = set()
    for spare in range(6):
        with ExitStack() as open_wires:
            # Each on a connection of its own, made before: nothing is accepted without a descriptor.
            wires = [open_wires.enter_context(stand.service.connected()) for _ in ASKED]
            for wire in wires:
                assert wire.ask("GET", "/storage/assets/k0").status == 200
            with few_descriptors(web_processes(stand.service), spare):
                answers = []
                for (method, target), wire in zip(ASKED, wires, strict=True):
                    body = body_of(f"without {spare}", 300_000) if method == "PUT" else None
                    answers.append(wire.ask(method, target, body=body))
        for (method, target), answer in zip(ASKED, answers, strict=True):
            if answer.status not in (200, 201, 204):
                refused.add(method)
                assert_refused(answer, 503)
            elif method == "PUT":
                stand.ledger["k1"] = body_of(f"without {spare}", 300_000)
            elif method == "DELETE":
                del stand.ledger["k2"]
                stand.place("k2", body_of("2", 300_000))
            elif method == "GET" and target.startswith("/storage"):
                assert answer.body == stand.ledger["k0"]
    assert refused >= {"PUT", "DELETE", "GET"}
    stand.recover()
    stand.read_all()
    stand.look()
