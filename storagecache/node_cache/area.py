"""The storage alias `cache` as a place for whole byte strings: big values, and small files that are replaced.

Names are ours: big values lie under the hour of their expiry (`2026112321/7f/<random>`), small files under a letter.
Anything here may vanish at any time. Of what the files mean only a frame's expiry is known here.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain, takewhile
from typing import Final

from django.core.files.base import ContentFile
from django.core.files.storage import Storage

from storagecache.capabilities import BulkDeleter, FolderStaging, ObjectInfo, ObjectLister, Overwriter, RangeReader
from storagecache.node_cache.frames import expiry_of

HOUR_FORMAT: Final = "%Y%m%d%H"
HOUR_DIGITS: Final = 10
BEHIND_HOURS: Final = "a"  # sorts behind every digit and before the small files' letters
LONGEST_TTL: Final = 60 * 60 * 24 * 30  # seconds; a value without an end is kept as long in the area
TOMBSTONE_LIFE: Final = timedelta(days=31)  # longer than any value that it could hide
STATS_LIFE: Final = timedelta(days=7)

_RACY_NANOSECONDS: Final = 100_000_000
_BLOCK_BYTES: Final = 4096  # of filesystems: a file takes whole ones

Piece = bytes | memoryview


class CacheArea:
    """Reads, replaces and deletes whole files of one storage; safe for threads, as the storage is."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._prefix: str = getattr(storage, "object_prefix", "")
        self._is_local = isinstance(storage, FolderStaging)  # LocalFiles is no answer: all of Django's have a `path`
        self._paths: dict[str, str] = {}  # of the few files whose signature is asked for

    def read(self, name: str) -> bytes | None:
        """Give a file's bytes, or None when it is absent.

        Raises:
            OSError, StorageError: the storage cannot tell.
        """
        if self._is_local:
            return _read_path(self.storage.path(self._prefix + name))
        try:
            return self._read_stream(self._prefix + name)
        except FileNotFoundError:
            return None

    def signature(self, name: str) -> tuple[int, ...] | None:
        """Give what changes whenever a local file is replaced, without opening it; None where that is not to be had.

        A file that was replaced in the last moments gives None, too: the kernel's clock ticks in milliseconds, so that
        a second change in the same tick could look like the first (as git's "racy" index entries).
        """
        if not self._is_local:
            return None
        try:
            if name not in self._paths:
                self._paths[name] = self.storage.path(self._prefix + name)
            status = os.stat(self._paths[name])
        except OSError:
            return None
        if time.time_ns() - status.st_ctime_ns < _RACY_NANOSECONDS:
            return None
        return status.st_ino, status.st_ctime_ns, status.st_size, status.st_dev

    def local_path(self, name: str) -> str | None:
        """Give where a file lies on disk; None where the storage is no folder."""
        return self.storage.path(self._prefix + name) if self._is_local else None

    def replace(self, name: str, pieces: Iterable[Piece]) -> None:
        """Put a file, whole for every reader; one of that name is replaced.

        Raises:
            OSError, StorageError
        """
        full = self._prefix + name
        if isinstance(self.storage, Overwriter):
            self.storage.overwrite(full, pieces)
            return
        self.storage.delete(full)
        self.storage.save(full, ContentFile(b"".join(pieces)))

    def create(self, name: str, data: bytes) -> bool:
        """Put a file unless it is there; of many at once, in all processes, one succeeds.

        Raises:
            OSError, StorageError
        """
        try:
            self.storage.save(self._prefix + name, ContentFile(data))
        except FileExistsError:
            return False
        return True

    def delete(self, names: Iterable[str]) -> None:
        """Delete files; absent ones do not matter.

        Raises:
            OSError, StorageError
        """
        full = [self._prefix + name for name in names]
        if isinstance(self.storage, BulkDeleter):
            self.storage.delete_many(full)
            return
        for name in full:
            self.storage.delete(name)

    def listing(self, start_after: str = "") -> Iterable[ObjectInfo]:
        """Yield the area's objects in order; their keys are full names."""
        if not isinstance(self.storage, ObjectLister):
            return
        for info in self.storage.list_objects(start_after=self._prefix + start_after):
            if not info.key.startswith(self._prefix):
                return
            yield info

    def names(self, folder: str) -> Iterable[str]:
        """Yield the names of a folder's files, without the storage's prefix."""
        for info in self.listing(start_after=folder):
            name = info.key.removeprefix(self._prefix)
            if not name.startswith(folder):
                return
            yield name

    def short(self, info: ObjectInfo) -> str:
        """Give a listed object's name without the storage's prefix."""
        return info.key.removeprefix(self._prefix)

    def _read_stream(self, full: str) -> bytes:
        if isinstance(self.storage, RangeReader):
            with self.storage.open_stream(full) as stream:
                return b"".join(iter(lambda: stream.read(1 << 20), b""))
        with self.storage.open(full) as file:
            data: bytes = file.read()
            return data


def blob_name(now: float, ttl: float | None) -> str:
    """Make a new name for a big value that lives `ttl` seconds from `now`."""
    life = LONGEST_TTL if ttl is None else min(ttl, LONGEST_TTL)
    hour = datetime.fromtimestamp(now + life, UTC) + timedelta(hours=1)  # rounded up: not dropped before its time
    token = secrets.token_hex(16)
    return f"{hour.strftime(HOUR_FORMAT)}/{token[:2]}/{token}"


def drop_expired(storage: Storage, now: datetime, limit: int | None = None) -> tuple[int, int]:
    """Delete what is over in the `cache` storage: hours before `now`, small files past use; returns (files, bytes).

    At most `limit` files are deleted. Idempotent, safe beside readers and writers (they miss). Lists the expired hours
    and the small files only.

    Raises:
        StorageError, OSError: the storage failed; what was deleted stays deleted.
    """
    area = CacheArea(storage)
    return _delete_batches(area, chain(_expired_hours(area, now), _spent_files(area, now)), limit)


def trim(storage: Storage, max_bytes: int) -> tuple[int, int]:
    """Delete files until the area holds at most `max_bytes`, what expires first before the rest; (files, bytes).

    Raises:
        StorageError, OSError
    """
    trimmed = make_room(CacheArea(storage), max_bytes)
    return trimmed.files, trimmed.size


@dataclass(frozen=True, slots=True)
class Trimmed:
    """How many files were deleted, of how many bytes, and how many bytes of disk the rest takes."""

    files: int
    size: int
    left: int


def make_room(area: CacheArea, max_bytes: int) -> Trimmed:
    """Do as `trim` does, and tell what is left.

    Raises:
        StorageError, OSError
    """
    used = sum(on_disk(info.size) for info in area.listing())
    if used <= max_bytes:
        return Trimmed(0, 0, used)
    doomed = list(_first_bytes(area, used - max_bytes))
    files, size = _delete_batches(area, doomed, None)
    return Trimmed(files, size, used - sum(on_disk(info.size) for info in doomed))


def on_disk(size: int) -> int:
    """Give the bytes of disk that a file of `size` bytes takes."""
    return -(-size // _BLOCK_BYTES) * _BLOCK_BYTES


def _first_bytes(area: CacheArea, excess: int) -> Iterable[ObjectInfo]:
    """Yield objects in order until `excess` bytes are reached: hours first, then values, never a token."""
    for info in area.listing():
        if excess <= 0:
            return
        if area.short(info)[0].isdigit() or area.short(info).startswith("v/"):
            excess -= on_disk(info.size)
            yield info


def _expired_hours(area: CacheArea, now: datetime) -> Iterable[ObjectInfo]:
    """Yield what lies under hours before `now`; they come first in the listing."""
    hour = now.strftime(HOUR_FORMAT)
    return takewhile(lambda info: area.short(info)[:HOUR_DIGITS] < hour, area.listing())


def _spent_files(area: CacheArea, now: datetime) -> Iterable[ObjectInfo]:
    """Yield the small files that are past their use; they come behind all hours."""
    return (info for info in area.listing(start_after=BEHIND_HOURS) if _is_spent(area, info, now))


def _is_spent(area: CacheArea, info: ObjectInfo, now: datetime) -> bool:
    name, age = area.short(info), now - info.modified_at
    if name.startswith("v/"):
        return age > timedelta(hours=1) and _value_is_over(area, name, now)
    life = {"d/": TOMBSTONE_LIFE, "r/": TOMBSTONE_LIFE, "s/": STATS_LIFE}.get(name[:2])
    return life is not None and age > life


def _value_is_over(area: CacheArea, name: str, now: datetime) -> bool:
    data = area.read(name)
    return data is not None and expiry_of(data) <= now.timestamp()


def _delete_batches(area: CacheArea, found: Iterable[ObjectInfo], limit: int | None) -> tuple[int, int]:
    files = size = 0
    batch: list[str] = []
    for info in found:
        if limit is not None and files >= limit:
            break
        files, size = files + 1, size + info.size
        batch.append(area.short(info))
        if len(batch) >= 1000:
            area.delete(batch)
            batch = []
    area.delete(batch)
    return files, size


def _read_path(path: str) -> bytes | None:
    try:
        fd = os.open(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return _read_all(fd, os.fstat(fd).st_size)
    finally:
        os.close(fd)


def _read_all(fd: int, size: int) -> bytes:
    data = os.read(fd, size)  # one allocation, one read(2) up to 2 GiB
    while len(data) < size:
        more = os.read(fd, size - len(data))
        if not more:
            break
        data += more
    return data
