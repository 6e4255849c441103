"""The bytes of an object as a file on this machine, whatever bucket they lie in, at constant memory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Final, cast

from django.core.files.storage import Storage

from assets.media.kinds import Kind
from assets.media.sandbox import NoPreviewError
from storagecache.capabilities import LocalFiles, RangeReader
from storagecache.storages.durable import disk_errors

WHOLE: Final = 256 << 20  # bytes fetched at most; of a longer film its two ends are
END: Final = 32 << 20  # bytes of each end: the index is in one of them, the first pictures or rows in the other
_BLOCK: Final = 256 << 10


@contextmanager
def local_file(storage: Storage, key: str, *, size: int, kind: Kind, folder: str) -> Iterator[BinaryIO]:
    """Give an object of `size` bytes as a seekable file with a descriptor: its own, or a nameless copy in `folder`.

    Raises:
        NoPreviewError: an image that is larger than WHOLE and lies elsewhere.
        ObjectNotFoundError, BackendUnavailableError, StorageFullError
    """
    reader = cast("RangeReader", storage)
    if isinstance(storage, LocalFiles):
        with reader.open_stream(key) as stream:
            yield stream
        return
    if kind == "image" and size > WHOLE:
        raise NoPreviewError(f"more than {WHOLE} bytes to fetch")
    with tempfile.TemporaryFile(dir=folder) as copy:
        with disk_errors("Cannot fetch a file to look into it"):
            whole = 2 * END if kind == "table" else WHOLE  # somebody waits for a table
            _fetch(reader, key, cast("BinaryIO", copy), size=size, whole=whole)
        yield cast("BinaryIO", copy)


def _fetch(reader: RangeReader, key: str, copy: BinaryIO, *, size: int, whole: int) -> None:
    """Fetch all of it, or both ends of a long film or table into a file with a hole between them."""
    if size <= whole:
        _copy(reader, key, copy, 0, size)
        return
    copy.truncate(size)
    _copy(reader, key, copy, 0, END)
    copy.seek(size - END, os.SEEK_SET)
    _copy(reader, key, copy, size - END, END)


def _copy(reader: RangeReader, key: str, copy: BinaryIO, start: int, length: int) -> None:
    with reader.open_stream(key, start, length) as stream:
        while block := stream.read(_BLOCK):
            copy.write(block)
    copy.flush()
