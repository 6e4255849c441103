"""The bytes of an S3 object as files: the body of one answer, and a whole object that can be sought in.

The calls themselves are made in `s3`.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, Final

from botocore.exceptions import BotoCoreError

from storagecache.storages.s3_connection import s3_error

if TYPE_CHECKING:
    from botocore.response import StreamingBody

_READ_BYTES: Final = 64 * 1024


def buffered(body: StreamingBody, what: str) -> BinaryIO:
    """Give the body of an answer as a buffered stream; `what` begins the message of its errors."""
    return io.BufferedReader(_BodyReader(body, what), buffer_size=_READ_BYTES)


def seekable(first: BinaryIO, size: int, reopen: Callable[[int], BinaryIO]) -> BinaryIO:
    """Give an object of `size` bytes as a seekable file: `first` is all of it, `reopen` gives it from a byte on.

    It is reopened for each read behind a seek, and not for a seek alone.
    """
    return io.BufferedReader(_ObjectReader(first, size, reopen), buffer_size=_READ_BYTES)


class _BodyReader(io.RawIOBase):
    """The body of one answer, with botocore's errors made ours. Closing it early drops the connection."""

    def __init__(self, body: StreamingBody, what: str) -> None:
        self._body = body
        self._what = what

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        try:
            return self._body.readinto(buffer)  # type: ignore[arg-type]  # any buffer, says urllib3
        except BotoCoreError as error:
            raise s3_error(error, self._what) from error

    def close(self) -> None:
        self._body.close()
        super().close()


class _ObjectReader(io.RawIOBase):
    """What `seekable` gives, unbuffered."""

    def __init__(self, first: BinaryIO, size: int, reopen: Callable[[int], BinaryIO]) -> None:
        self._stream: BinaryIO | None = first
        self._size = size
        self._reopen = reopen
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"negative seek position {base + offset}")
        if base + offset != self._position:
            self._drop_stream()
            self._position = base + offset
        return self._position

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        if self._position >= self._size:
            return 0
        if self._stream is None:
            self._stream = self._reopen(self._position)
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        self._drop_stream()
        super().close()

    def _drop_stream(self) -> None:
        if self._stream is not None:
            self._stream.close()
        self._stream = None
