"""Bytes on their way in: one pass, and nothing left behind."""

from __future__ import annotations

import base64
import hashlib
import io
import os
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import storages

from assets.staging import BLOCK, Expected, decode_digest, stage_stream
from storagecache.errors import DigestMismatchError, ObjectTooLargeError
from tests.assets.conftest import Buckets

DATA = os.urandom(3 * BLOCK + 17)


class Trickle(io.RawIOBase):
    """A source whose reads are short, as a socket's are; raises `error` after `until` bytes."""

    def __init__(
        self, data: bytes, *, step: int = 1000, until: int | None = None, error: Exception | None = None
    ) -> None:
        self.taken = 0
        self._data = data
        self._step = step
        self._until = until
        self._error = error

    def read(self, size: int = -1, /) -> bytes:
        if self._error is not None and self.taken >= (self._until or 0):
            raise self._error
        block = self._data[self.taken : self.taken + min(size, self._step)]
        self.taken += len(block)
        return block


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def stage(source: Any, **options: Any) -> Any:
    return stage_stream(source, storages["assets"], **options)


@pytest.mark.parametrize("data", [b"", b"x", DATA[:BLOCK], DATA], ids=["0", "1", "block", "more"])
def test_stage_stream_of_short_reads_holds_every_byte(disk: Buckets, data: bytes) -> None:
    with stage(Trickle(data), name="x.bin") as staged:
        assert staged.stream.read() == data
        assert (staged.size, staged.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert disk.staged() == []


def test_stage_stream_reads_nothing_past_the_limit(disk: Buckets) -> None:
    source = Trickle(DATA, step=BLOCK)
    with pytest.raises(ObjectTooLargeError), stage(source, limit=1000):
        pytest.fail("staged")
    assert source.taken == 1001


def test_stage_stream_of_exactly_the_limit_is_taken(disk: Buckets) -> None:
    with stage(Trickle(DATA), limit=len(DATA)) as staged:
        assert staged.size == len(DATA)


def test_stage_stream_announced_too_long_is_refused_unread(disk: Buckets) -> None:
    source = Trickle(DATA)
    with pytest.raises(ObjectTooLargeError), stage(source, limit=10, expected=Expected(length=11)):
        pytest.fail("staged")
    assert source.taken == 0


@pytest.mark.parametrize(
    "expected",
    [
        Expected(length=len(DATA) + 1),
        Expected(length=len(DATA) - 1),
        Expected(length=0),
        Expected(md5=bytes(16)),
        Expected(sha256=bytes(32)),
        Expected(length=len(DATA), md5=hashlib.md5(DATA).digest(), sha256=hashlib.sha256(DATA[:-1]).digest()),
    ],
)
def test_stage_stream_of_other_bytes_than_announced_is_refused(disk: Buckets, expected: Expected) -> None:
    before = descriptors()
    with pytest.raises(DigestMismatchError), stage(io.BytesIO(DATA), expected=expected):
        pytest.fail("staged")
    assert (disk.staged(), descriptors()) == ([], before)


def test_stage_stream_of_announced_bytes_is_taken(disk: Buckets) -> None:
    digests = Expected(length=len(DATA), md5=hashlib.md5(DATA).digest(), sha256=hashlib.sha256(DATA).digest())
    with stage(io.BytesIO(DATA), expected=digests) as staged:
        assert staged.size == len(DATA)


@pytest.mark.parametrize("until", [0, 1000, BLOCK, len(DATA)])
def test_stage_stream_of_a_broken_source_raises_its_error_and_leaves_nothing(disk: Buckets, until: int) -> None:
    before = descriptors()
    broken = Trickle(DATA, until=until, error=ConnectionResetError("gone"))
    with pytest.raises(ConnectionResetError, match="gone"), stage(broken):
        pytest.fail("staged")
    assert (disk.staged(), descriptors()) == ([], before)


def test_stage_stream_with_a_failing_block_leaves_nothing(disk: Buckets) -> None:
    before = descriptors()
    with pytest.raises(RuntimeError, match="inside"), stage(io.BytesIO(DATA)):
        raise RuntimeError("inside")
    assert (disk.staged(), descriptors()) == ([], before)


def test_stage_stream_makes_private_files(disk: Buckets) -> None:
    with stage(io.BytesIO(DATA)) as staged:
        assert os.fstat(staged.stream.fileno()).st_mode & 0o077 == 0


def test_stage_stream_judges_the_type_by_the_first_bytes(disk: Buckets, tmp_path: Path) -> None:
    with stage(Trickle(b"<html>" + bytes(5000), step=3), content_type="image/png") as staged:
        assert staged.content_type == "application/octet-stream"
    with stage(Trickle(b"\x89PNG\r\n\x1a\n" + bytes(5000), step=3), content_type="image/png") as staged:
        assert staged.content_type == "image/png"


def test_decode_digest_of_the_right_size_is_decoded() -> None:
    assert decode_digest(base64.b64encode(bytes(16)).decode(), 16) == bytes(16)


@pytest.mark.parametrize("text", ["", "x", "é", "AAAA", base64.b64encode(bytes(17)).decode(), "=" * 24, "AA AA"])
def test_decode_digest_of_anything_else_is_refused(text: str) -> None:
    with pytest.raises(DigestMismatchError):
        decode_digest(text, 16)
