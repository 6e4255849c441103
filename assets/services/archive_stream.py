"""Write an archive while it is read, in constant memory: one object is open at a time, and no connection is held.

What a file is called and where its bytes lie is read 500 at a time. Bytes are stored, not deflated: media do not
shrink. The format is written by Python's `zipfile` into a sink that cannot seek (docs/decisions/0021-archives.md).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, islice
from typing import BinaryIO, Final
from uuid import UUID
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from django.utils import timezone

from assets.models import Asset
from assets.services.archive import ID_BYTES, Archive, Folder
from assets.services.archive_names import PATH_BYTES, Names
from assets.services.reading import open_object
from assets.services.sections import catalog_errors, release_connection
from storagecache.errors import BackendUnavailableError, ObjectNotFoundError, StorageError

logger = logging.getLogger(__name__)

ERRORS_NAME: Final = "_errors.txt"
BLOCK: Final = 256 << 10  # bytes
_PAGE: Final = 500  # files whose rows are held at a time
_PATIENCE: Final = 10  # objects in a row that do not open before the bucket is taken for down
_MODES: Final = {True: 0o40755 << 16 | 0x10, False: 0o100644 << 16}  # folder or file, for unpackers on Unix; DOS's bit

Blocks = Generator[bytes, None, None]


@dataclass(frozen=True, slots=True)
class _File:
    """What is needed to write one file, and where its bytes lie (`Placed`)."""

    id: UUID
    name: str
    changed_at: datetime
    size: int  # bytes
    storage: str
    bucket: str
    key: str


_COLUMNS: Final = (
    "pk",
    "name",
    "content_changed_at",
    "object__size",
    "object__storage",
    "object__bucket",
    "object__key",
)


@dataclass(frozen=True, slots=True)
class _Place:
    """A folder of the archive: its path, "" or ending in a slash, and the names that it has given."""

    path: str
    names: Names


class _Sink:
    """Where `zipfile` writes to: it cannot seek, and keeps what was written until it is drained."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._is_wanted = True

    def write(self, data: bytes) -> int:
        """Keep the bytes, uncopied."""
        if self._is_wanted:
            self._pieces.append(data)
        return len(data)

    def flush(self) -> None:
        """Do nothing: `zipfile` asks for it."""

    def drain(self) -> list[bytes]:
        """Give what was written since, and forget it."""
        pieces, self._pieces = self._pieces, []
        return pieces

    def stop(self) -> None:
        """Drop what is written from now on: the reader has gone."""
        self._is_wanted = False
        self._pieces.clear()


class ArchiveStream:
    """The bytes of an archive, block by block. Whoever stops before the end closes it, and nothing stays open.

    A file whose bytes are missing or unreadable is left out; one that breaks off in the middle ends there. Either is
    named in `_errors.txt`, the last entry, which is there only then.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._sink = _Sink()
        self._zip = ZipFile(self._sink, "w", ZIP_STORED)  # type: ignore[call-overload]  # it only writes
        self._errors: list[str] = []
        self._unopened = 0  # in a row, because the bucket did not answer
        self._blocks = self._run()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        """Give the next block."""
        return next(self._blocks)

    def close(self) -> None:
        """Close the object that is being read; what `zipfile` writes to end itself goes nowhere."""
        self._sink.stop()
        self._blocks.close()
        self._zip.close()

    def _run(self) -> Blocks:
        items = self._items()
        while page := list(islice(items, _PAGE)):
            files = self._read([file_id for _, file_id in page if file_id])
            for place, file_id in page:
                yield from self._write(place, file_id, files)
        if self._errors:
            text = "These files are not in this archive, or not whole:\n\n" + "".join(self._errors)
            self._zip.writestr(_entry(ERRORS_NAME, timezone.now()), text)
        self._zip.close()
        yield from self._sink.drain()
        logger.info("archive sent entries=%d errors=%d", len(self._zip.filelist), len(self._errors))

    def _items(self) -> Iterator[tuple[_Place, UUID | None]]:
        """Give each folder (None) before its files, depth first."""
        for place, folder in self._places():
            yield place, None
            for start in range(0, len(folder.files), ID_BYTES):
                yield place, UUID(bytes=bytes(folder.files[start : start + ID_BYTES]))

    def _places(self) -> Iterator[tuple[_Place, Folder]]:
        """Name folders, each before the files beside it; one whose path is too long for systems moves to the top."""
        folders, top = dict(self._archive.folders), _Place("", Names(ERRORS_NAME))
        waiting = [(top, self._archive.top)]
        while waiting:
            place, folder = waiting.pop()
            inner = [found for child in folder.folders if (found := folders.pop(child, None))]
            named = [(self._inside(place, child.name, top), child) for child in inner]
            waiting += reversed(named)
            yield place, folder

    def _inside(self, place: _Place, name: str, top: _Place) -> _Place:
        path = f"{place.path}{place.names.take(name)}/"
        if len(path.encode()) > PATH_BYTES:
            moved = f"{top.names.take(name)}/"
            self._note(path, f"moved to {moved}, for its path was too long")
            path = moved
        return _Place(path, Names())

    def _read(self, ids: list[UUID]) -> dict[UUID, _File]:
        """Read the rows of one page; costs one SELECT."""
        with catalog_errors():
            live = Asset.objects.filter(pk__in=ids, owner_id=self._archive.owner_id).alive(timezone.now())
            files = {row[0]: _File(*row) for row in live.filter(is_folder=False).values_list(*_COLUMNS)}
        release_connection()
        return files

    def _write(self, place: _Place, file_id: UUID | None, files: dict[UUID, _File]) -> Blocks:
        """Write a folder or a file."""
        if file_id is None:
            if place.path:
                self._zip.mkdir(_entry(place.path, timezone.now()))
        elif file := files.get(file_id):
            yield from self._write_file(place.path + place.names.take(file.name), file)
        else:
            self._note(f"{place.path}{file_id.hex}", "deleted while the archive was written")
        yield from self._sink.drain()

    def _write_file(self, path: str, file: _File) -> Blocks:
        """Write a file; its first block is read before its entry begins, so that most failures leave no entry."""
        with contextlib.closing(self._blocks_of(path, file)) as blocks:
            first = next(blocks, None)
            if first is None:
                return
            with self._zip.open(_entry(path, file.changed_at, file.size), "w") as entry:
                for block in chain([first], blocks):
                    entry.write(block)
                    yield from self._sink.drain()

    def _blocks_of(self, path: str, file: _File) -> Blocks:
        """Yield the bytes of a file; what goes wrong is noted, and ends them."""
        try:
            stream, left = self._open(file)
            with contextlib.closing(stream):
                if not left:
                    yield b""
                while left and (block := stream.read(min(BLOCK, left))):
                    left -= len(block)
                    yield block
            if left:
                self._note(path, f"{left} of {file.size} bytes are missing")
        except (StorageError, OSError) as error:
            self._note(path, f"unreadable: {error}")

    def _open(self, file: _File) -> tuple[BinaryIO, int]:
        """Open the bytes, the new ones if the asset was replaced since its row was read; tells how many there are.

        Raises:
            ObjectNotFoundError: they are gone.
            BackendUnavailableError: the bucket does not answer, or did not for many objects in a row.
        """
        if self._unopened >= _PATIENCE:
            raise BackendUnavailableError("not tried, for the bucket does not answer")
        try:
            opened = self._open_current(file)
        except BackendUnavailableError:
            self._unopened += 1
            raise
        self._unopened = 0
        return opened

    def _open_current(self, file: _File) -> tuple[BinaryIO, int]:
        try:
            return open_object(file, 0, file.size), file.size
        except ObjectNotFoundError:
            current = self._read([file.id]).get(file.id)
            if current is None or (current.key, current.size) == (file.key, file.size):
                raise
        return open_object(current, 0, current.size), current.size

    def _note(self, path: str, reason: str) -> None:
        self._errors.append(f"{path}: {' '.join(reason.split())}\n")


def _entry(path: str, changed_at: datetime, size: int = 0) -> ZipInfo:
    """Describe an entry; a path that ends in a slash is a folder. Times are UTC: the format has no zones."""
    moment = changed_at.astimezone(UTC)
    entry = ZipInfo(path, (min(max(moment.year, 1980), 2107), *moment.timetuple()[1:6]))
    entry.file_size = size  # tells `zipfile` whether the entry needs zip64
    entry.CRC = entry.compress_size = 0  # a folder's are asked for, and never set
    entry.external_attr = _MODES[entry.is_dir()]
    return entry
