"""How storages read: sources that are to be stored, read whole, and parts of files, read bounded. Knows no backend."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, BinaryIO, Final, Protocol

BLOCK_BYTES: Final = 1024 * 1024


class Source(Protocol):
    """Anything whose bytes can be stored: `read(n)` gives at most n bytes, and none at the end only."""

    def read(self, size: int, /) -> bytes:
        """Read at most `size` bytes."""
        ...


def rewind(source: object) -> None:
    """Put a seekable source back to its first byte, as Django's `File.chunks` does; others stay where they are."""
    with suppress(AttributeError, io.UnsupportedOperation):
        if source.seekable():  # type: ignore[attr-defined]
            source.seek(0)  # type: ignore[attr-defined]


def read_full(source: Source, size: int) -> bytes:
    """Read exactly `size` bytes; fewer only at the end of the source.

    A `read(n)` may be short in the middle of a socket or pipe; taken for the end it truncates the object
    (boto/s3transfer does so).

    Raises:
        BlockingIOError: the source is non-blocking and has nothing now, which is not its end.
    """
    first = _read(source, size)
    if len(first) in (0, size):
        return first
    pieces, missing = [first], size - len(first)
    while missing and (piece := _read(source, missing)):
        pieces.append(piece)
        missing -= len(piece)
    return b"".join(pieces)


def blocks(source: Source, size: int = BLOCK_BYTES) -> Iterator[bytes]:
    """Yield the whole source in pieces of at most `size` bytes."""
    while piece := _read(source, size):
        yield piece


def bounded(file: BinaryIO, length: int) -> BinaryIO:
    """Give the next `length` bytes of `file` as a stream of its own; closing it closes the file."""
    return io.BufferedReader(_BoundedReader(file, length), buffer_size=64 * 1024)


def _read(source: Source, size: int) -> bytes:
    piece = source.read(size)
    if piece is None:
        raise BlockingIOError("the source is non-blocking and has no bytes now")
    return piece


class _BoundedReader(io.RawIOBase):
    def __init__(self, file: IO[bytes], length: int) -> None:
        self._file = file
        self._remaining = length

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        piece = self._file.read(min(len(buffer), self._remaining))
        buffer[: len(piece)] = piece
        self._remaining -= len(piece)
        return len(piece)

    def close(self) -> None:
        self._file.close()
        super().close()
