"""The running service on a full, read-only or failing disk, and without descriptors: refused, told, recovered."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.stand import Stand, body_of
from tests.faults.strace import injected, require_strace, web_processes
from tests.server.wire import Answer, Wire

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


def test_service_without_descriptors_refuses_and_recovers(stands: Stands) -> None:
    stand = stands()
    for number in range(4):
        stand.put(f"k{number}", body_of(f"{number}", 300_000))
    wires = [Wire(stand.service.port) for _ in range(12)]
    for wire in wires:
        assert wire.ask("GET", "/storage/assets/k0").status == 200
    processes = web_processes(stand.service)
    hard = {pid: resource.prlimit(pid, resource.RLIMIT_NOFILE)[1] for pid in processes}
    for pid in processes:
        used = max(int(name) for name in os.listdir(f"/proc/{pid}/fd")) + 1
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, hard[pid]))
    answers = []
    for number, (writer, reader) in enumerate(zip(wires[::2], wires[1::2], strict=True)):
        body = body_of(f"without {number}", 300_000)
        answers.append(writer.ask("PUT", f"/storage/assets/none-{number}", body=body))
        if answers[-1].status == 201:
            stand.ledger[f"none-{number}"] = body
        got = reader.ask("GET", "/storage/assets/k1")
        assert got.status == 503 or got.body == stand.ledger["k1"], got
    assert any(answer.status == 503 for answer in answers)
    for answer in answers:
        if answer.status != 201:
            assert_refused(answer, 503)
    for pid in processes:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard[pid], hard[pid]))
    for wire in wires:
        wire.close()
    stand.recover()
    stand.read_all()
    stand.look()
