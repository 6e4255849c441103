"""Faults at every step of every flow: killed processes, full disks, a bucket that fails, lies still or dies.

Behind each of them every committed asset reads back whole, nothing half-made is visible, and one purge without grace
leaves catalog and buckets equal, and the staging folder empty.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.storage import storages
from django.db import DatabaseError, connection

from assets.models import Asset, StoredObject
from assets.services import delete_at, find_asset_at, purge
from assets.staging import BLOCK
from storagecache.errors import BackendUnavailableError, StorageError, StorageFullError
from tests.assets.conftest import ALIASES, Buckets, assert_equal_sides, assert_whole, before_statement, put, read
from tests.assets.test_uploads import ZERO
from tests.faults.backends import program_variables
from tests.faults.proxy import Fault, FaultProxy, before
from tests.servers import SeaweedServer

ROOT = Path(__file__).resolve().parents[2]
OPERATIONS = ("create", "replace", "dedupe", "delete", "purge")


# --- an exception at every statement -----------------------------------------------------------


class InjectedError(DatabaseError):
    """The database failed here."""


def _fail() -> None:
    raise InjectedError("injected")


@pytest.mark.parametrize("operation", ["create", "replace", "delete", "purge"])
def test_operation_with_a_failing_statement_leaves_a_whole_catalog(
    memory: Buckets, owner: User, operation: str
) -> None:
    number, failed = 0, True
    while failed:
        put(owner, "k", b"old-%d" % number)
        put(owner, "t", b"temp", bucket="temp", expires_in=0)
        run = {
            "create": lambda n=number: put(owner, f"new-{n}", b"new-%d" % n),
            "replace": lambda n=number: put(owner, "k", b"new-%d" % n),
            "delete": lambda: delete_at(owner.pk, "assets", "k"),
            "purge": lambda: purge(grace=ZERO),
        }[operation]
        with before_statement(number, _fail) as seen, contextlib.suppress(InjectedError):
            run()
        failed = number < len(seen)
        _assert_settled(memory)
        if failed and operation == "replace":
            assert read(find_asset_at("assets", "k")) == b"old-%d" % number
        number += 1
    assert number > 3


def _assert_settled(buckets: Buckets) -> None:
    assert_whole()
    assert purge(grace=ZERO).failures == ()
    assert_whole()
    assert_equal_sides(buckets)


# --- killed processes --------------------------------------------------------------------------


def _kill(operation: str, points: int | str, environment: dict[str, str]) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "tests.assets.victim", operation, str(points)]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    lines = [line for line in ended.stdout.splitlines() if line.startswith("{")]
    reports: list[dict[str, Any]] = [json.loads(line) for line in lines]
    bad = [report for report in reports if report["told"]]
    assert not bad, bad[0]
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return [report for report in reports if report["killed"]]


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "s3"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_kill_anywhere_leaves_a_whole_catalog(
    operation: str, kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    assert len(_kill(operation, 5, program_variables(kind, request, tmp_path))) == 5


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_kill_between_charge_and_commit_leaves_an_exact_account(
    operation: str, kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    (killed,) = _kill(operation, "charge", program_variables(kind, request, tmp_path))
    assert killed["where"] == "charge has returned"


@pytest.mark.nightly
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "s3"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_kill_at_every_line_leaves_a_whole_catalog(
    operation: str, kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    assert len(_kill(operation, 0, program_variables(kind, request, tmp_path))) > 50


# --- full disks --------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path, settings: Any, owner: User, request: pytest.FixtureRequest) -> Iterator[Buckets]:
    """Give buckets on a filesystem of 2 MB, or of the size and inodes that a test asks for."""
    folder = tmp_path / "small"
    folder.mkdir()
    options = getattr(request, "param", "size=2m")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root can mount a small filesystem")
    backend = "storagecache.storages.filesystem.FilesystemObjectStorage"
    made = {alias: {"BACKEND": backend, "OPTIONS": {"location": str(folder / alias)}} for alias in ALIASES}
    settings.STORAGES = settings.STORAGES | made
    for alias in ALIASES:
        storages[alias].staging_folder()
    yield Buckets("filesystem", tuple(folder / alias / ".staging" for alias in ALIASES))
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.faults
def test_put_on_a_full_disk_is_refused_and_leaves_the_old_bytes(small_disk: Buckets, owner: User) -> None:
    old = os.urandom(1 << 20)
    put(owner, "k", old)
    for size in range(BLOCK, 6 * BLOCK, BLOCK // 2 + 13):
        for key in ("k", f"new-{size}"):
            with contextlib.suppress(StorageFullError):
                put(owner, key, os.urandom(size))
        _assert_settled(small_disk)
    with pytest.raises(StorageFullError):
        put(owner, "k", os.urandom(3 << 20))
    _assert_settled(small_disk)
    put(owner, "k", b"room again")


@pytest.mark.faults
@pytest.mark.parametrize("small_disk", [f"size=2m,nr_inodes={n}" for n in range(6, 15)], indirect=True)
def test_put_without_inodes_is_refused_and_leaves_nothing(small_disk: Buckets, owner: User) -> None:
    full = 0
    for number in range(12):
        try:
            put(owner, f"k-{number}", b"%d" % number)
        except StorageFullError:
            full += 1
    assert full
    assert Asset.objects.count() == 12 - full
    _assert_settled(small_disk)


# --- a bucket that fails -----------------------------------------------------------------------


@pytest.fixture
def failing_s3(settings: Any, seaweedfs: SeaweedServer) -> Iterator[tuple[FaultProxy, Buckets]]:
    """Give S3 buckets behind a proxy that can fail."""
    with before(seaweedfs) as proxy:
        backend = "storagecache.storages.s3.S3ObjectStorage"
        endpoint = {"endpoint_url": proxy.url, "max_attempts": 1}
        made = {
            alias: {"BACKEND": backend, "OPTIONS": seaweedfs.options(seaweedfs.new_bucket()) | endpoint}
            for alias in ALIASES
        }
        settings.STORAGES = settings.STORAGES | made
        yield proxy, Buckets("s3", ())


@pytest.mark.faults
@pytest.mark.parametrize("fault", [Fault.ERROR, Fault.LOST_ANSWER], ids=["refused", "answer-lost"])
@pytest.mark.parametrize("size", [1000, 20 << 20], ids=["one-call", "parts"])
@pytest.mark.parametrize("operation", ["create", "replace", "purge"])
def test_request_that_s3_answers_by_500_leaves_a_whole_catalog(
    failing_s3: tuple[FaultProxy, Buckets], owner: User, operation: str, size: int, fault: Fault
) -> None:
    proxy, buckets = failing_s3
    step, failed = 0, True
    while failed:
        proxy.mend()
        put(owner, "k", b"old-%d" % step)
        put(owner, "t", b"temp-%d" % step, bucket="temp", expires_in=0)
        proxy.spoil(fault, first=step, times=1)
        try:
            if operation == "purge":
                purge(grace=ZERO)
            else:
                put(owner, "k" if operation == "replace" else f"new-{step}", bytes([step]) * size)
        except BackendUnavailableError:
            assert read(find_asset_at("assets", "k")) == b"old-%d" % step
        failed = proxy.requests > step
        proxy.mend()
        _assert_settled(buckets)
        step += 1
    assert step > 1


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_put_to_a_stalled_s3_fails_soon_and_leaves_a_whole_catalog(
    settings: Any, seaweedfs: SeaweedServer, owner: User
) -> None:
    backend = "storagecache.storages.s3.S3ObjectStorage"
    made = {
        alias: {"BACKEND": backend, "OPTIONS": seaweedfs.options(seaweedfs.new_bucket()) | {"read_timeout": 1}}
        for alias in ALIASES
    }
    settings.STORAGES = settings.STORAGES | made
    put(owner, "k", b"old")
    with seaweedfs.server.paused(), pytest.raises(StorageError):
        put(owner, "k", b"new" * 1000)
    left = StoredObject.objects.get(state=StoredObject.State.PENDING)
    for _ in range(200):  # the request that stalled may be worked off now
        if storages["assets"].exists(left.key):
            break
    assert read(find_asset_at("assets", "k")) == b"old"
    _assert_settled(Buckets("s3", ()))


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_purge_of_a_dead_s3_tells_and_goes_on_when_it_is_back(
    settings: Any, seaweedfs: SeaweedServer, owner: User
) -> None:
    backend = "storagecache.storages.s3.S3ObjectStorage"
    options = {"read_timeout": 1, "connect_timeout": 1, "max_attempts": 1}
    made = {
        alias: {"BACKEND": backend, "OPTIONS": seaweedfs.options(seaweedfs.new_bucket()) | options} for alias in ALIASES
    }
    settings.STORAGES = settings.STORAGES | made
    for number in range(3):
        put(owner, f"t-{number}", b"temp", bucket="temp", expires_in=0)
    put(owner, "k", b"old")
    with seaweedfs.server.down():
        report = purge(grace=ZERO)
        assert (report.objects, len(report.failures)) == (0, 3)
    assert purge(grace=timedelta(hours=2)).objects == 3
    _assert_settled(Buckets("s3", ()))


def test_catalog_of_these_tests_is_the_engine_that_was_asked_for() -> None:
    wanted = "postgresql" if os.environ.get("DATABASE_URL", "").startswith("postgres") else "sqlite"
    assert connection.vendor == wanted
