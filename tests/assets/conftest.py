"""What the tests of the catalog share: an owner, real buckets of each kind, and ways to run two things at once."""

from __future__ import annotations

import contextlib
import hashlib
import io
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.storage import storages
from django.db import connection
from django.utils import timezone

from assets.models import Account, Asset, StoredObject, fold_name
from assets.services import open_asset, put_content, release_connection
from storagecache.environment import Environment

ALIASES = ("assets", "temp")
BLOCKED = 0.05  # seconds after which a call counts as blocked by the one beside it
KINDS = ("memory", "filesystem", "s3")


@dataclass(slots=True)
class Buckets:
    """The two buckets of a test, on one kind of storage."""

    kind: str
    staging_folders: tuple[Path, ...]

    def keys(self) -> set[str]:
        """List what the buckets really hold."""
        return {f"{storages[alias].bucket}/{info.key}" for alias in ALIASES for info in storages[alias].list_objects()}

    def staged(self) -> list[Path]:
        """List staged files that have a name."""
        return [path for folder in self.staging_folders if folder.is_dir() for path in folder.iterdir()]


def _memory(tmp_path: Path, request: pytest.FixtureRequest) -> dict[str, Any]:
    backend = "storagecache.storages.memory.MemoryObjectStorage"
    return {alias: {"BACKEND": backend, "OPTIONS": {"bucket": alias}} for alias in ALIASES}


def _filesystem(tmp_path: Path, request: pytest.FixtureRequest) -> dict[str, Any]:
    backend = "storagecache.storages.filesystem.FilesystemObjectStorage"
    return {alias: {"BACKEND": backend, "OPTIONS": {"location": str(tmp_path / alias)}} for alias in ALIASES}


def _s3(tmp_path: Path, request: pytest.FixtureRequest) -> dict[str, Any]:
    backend = "storagecache.storages.s3.S3ObjectStorage"
    server = request.getfixturevalue("seaweedfs")
    return {alias: {"BACKEND": backend, "OPTIONS": server.options(server.new_bucket())} for alias in ALIASES}


def make_buckets(kind: str, tmp_path: Path, request: pytest.FixtureRequest, settings: Any) -> Buckets:
    """Point the aliases at new empty buckets of one kind."""
    made = {"memory": _memory, "filesystem": _filesystem, "s3": _s3}[kind](tmp_path, request)
    settings.STORAGES = settings.STORAGES | made
    own = Environment.current().staging_folder
    return Buckets(kind, (own, *(tmp_path / alias / ".staging" for alias in ALIASES)))


@pytest.fixture(params=KINDS)
def buckets(request: pytest.FixtureRequest, tmp_path: Path, settings: Any) -> Buckets:
    """Give empty buckets, once of each kind."""
    return make_buckets(request.param, tmp_path, request, settings)


@pytest.fixture
def disk(request: pytest.FixtureRequest, tmp_path: Path, settings: Any) -> Buckets:
    """Give empty buckets on disk."""
    return make_buckets("filesystem", tmp_path, request, settings)


@pytest.fixture
def memory(request: pytest.FixtureRequest, tmp_path: Path, settings: Any) -> Buckets:
    """Give empty buckets in memory."""
    return make_buckets("memory", tmp_path, request, settings)


def put(owner: User, key: str, data: bytes, *, bucket: str = "assets", **options: Any) -> Asset:
    """Put bytes at an address."""
    return put_content(owner=owner, bucket=bucket, key=key, content=io.BytesIO(data), **options).asset


def make_folder(owner: User, name: str = "folder", parent: Asset | None = None) -> Asset:
    """Make a folder's row."""
    now = timezone.now()
    return Asset.objects.create(
        owner=owner, name=name, name_folded=fold_name(name), parent=parent, is_folder=True, content_type="folder",
        created_at=now, updated_at=now,
    )  # fmt: skip


def read(asset: Asset) -> bytes:
    """Read all bytes of an asset."""
    with open_asset(asset) as stream:
        return stream.read()


def assert_whole() -> None:
    """Assert that every asset reads back, byte for byte, and refers to a ready object; and that accounts are exact."""
    for asset in Asset.objects.filter(is_folder=False).select_related("object"):
        assert asset.object is not None
        assert asset.object.state == StoredObject.State.READY
        data = read(asset)
        assert (len(data), hashlib.sha256(data).hexdigest()) == (asset.size, asset.object.sha256)
    assert_accounts()


def assert_accounts() -> None:
    """Assert that every account says what its owner's assets add up to."""
    for account in Account.objects.all():
        assert account.used_bytes == sum(asset.size or 0 for asset in Asset.objects.filter(owner_id=account.pk))


def assert_equal_sides(buckets: Buckets) -> None:
    """Assert that catalog and buckets name the same objects, all ready, and that nothing is staged."""
    rows = StoredObject.objects.all()
    assert {str(row) for row in rows} == buckets.keys()
    assert {row.state for row in rows} <= {StoredObject.State.READY}
    assert buckets.staged() == []


@dataclass(slots=True)
class Background:
    """A call in a thread of its own, with a database connection of its own."""

    call: Callable[[], Any]
    result: Any = None
    error: BaseException | None = None
    _thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> Background:
        """Start the call."""
        self._thread.start()
        return self

    def wait(self, seconds: float = 30) -> bool:
        """Wait for the end; tells whether it ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def outcome(self) -> Any:
        """Give what the call returned, or raise what it raised."""
        assert self.wait(), "still blocked"
        if self.error is not None:
            raise self.error
        return self.result

    def _run(self) -> None:
        try:
            self.result = self.call()
        except BaseException as error:  # noqa: BLE001  # handed to the test
            self.error = error
        finally:
            connection.close()


def at_once(*calls: Callable[[], Any]) -> list[Background]:
    """Run calls side by side, started by one barrier; returns them ended."""
    barrier = threading.Barrier(len(calls))

    def after_barrier(call: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> Any:
            barrier.wait(10)
            return call()

        return run

    running = [Background(after_barrier(call)).start() for call in calls]
    for task in running:
        assert task.wait(), "still blocked"
    return running


def interleaved(
    number: int, first: Callable[[], Any], second: Callable[[], Any], allowed: tuple[type[Exception], ...]
) -> list[Any]:
    """Call `first`, and `second` before statement `number` of it: to its end, or until it waits for the first.

    Behind the last statement the second comes after the first. Gives what the two returned, or the allowed error.
    """
    other = Background(second)
    result: Any = None
    with before_statement(number, lambda: other.start().wait(BLOCKED)) as seen:
        try:
            result = first()
        except allowed as error:
            result = error
    if number >= len(seen):
        other.start()
    assert other.wait(), "a deadlock"
    if other.error is not None and not isinstance(other.error, allowed):
        raise other.error
    release_connection()
    return [result, other.error or other.result]


@contextlib.contextmanager
def before_statement(number: int, action: Callable[[], Any]) -> Iterator[list[str]]:
    """Call `action` before this thread's statement `number` (from 0) inside the block; yields the statements."""
    seen: list[str] = []

    def hook(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if len(seen) == number:
            seen.append(sql)
            action()
        else:
            seen.append(sql)
        return execute(sql, params, many, context)

    release_connection()
    with connection.execute_wrapper(hook):
        yield seen


@contextlib.contextmanager
def statements() -> Iterator[list[str]]:
    """Collect this thread's statements inside the block."""
    with before_statement(-1, lambda: None) as seen:
        yield seen
