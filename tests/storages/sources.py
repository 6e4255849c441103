"""Sources of bytes for tests of storages: of any size without holding them, and as awkward as sockets are."""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Iterator
from itertools import count
from typing import IO

_PERIOD = 1_000_003  # prime: the pattern never repeats in step with a part or a block
_PATTERN = random.Random(8).randbytes(_PERIOD) * 2
_serial = count(random.SystemRandom().getrandbits(96))


class PatternSource(io.RawIOBase):
    """`size` bytes that depend on their position only; not seekable, as a request body is not.

    A read gives at most `most` bytes, and never more than about a million: it is short for who asks for 8 MiB.
    """

    def __init__(self, size: int, *, most: int = _PERIOD) -> None:
        self.size = size
        self._position = 0
        self._most = min(most, _PERIOD)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        wanted = min(len(buffer), self.size - self._position, self._most)
        start = self._position % _PERIOD
        buffer[:wanted] = _PATTERN[start : start + wanted]
        self._position += wanted
        return wanted


class FailingSource(PatternSource):
    """A body that breaks off with `error` behind its `size` bytes."""

    def __init__(self, size: int, error: Exception) -> None:
        super().__init__(size)
        self._error = error

    def readinto(self, buffer: memoryview) -> int:
        count_read = super().readinto(buffer)
        if not count_read:
            raise self._error
        return count_read


def digest_of(stream: IO[bytes] | io.RawIOBase) -> str:
    """Give the sha256 of what is left in a stream, and close it."""
    digest = hashlib.sha256()
    with stream:
        while piece := stream.read(256 * 1024):
            digest.update(piece)
    return digest.hexdigest()


def new_name(prefix: str = "", folder: str = "") -> str:
    """Make an object name as the service does; never twice the same."""
    text = f"{next(_serial):032x}"
    return f"{prefix}{folder or text[-2:]}/{text}.bin"


def new_names(number: int) -> Iterator[str]:
    """Make many."""
    return (new_name() for _number in range(number))
