"""Bytes that a context has found and not opened yet: an asset's, a file's, or some in memory; and checked copies."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Protocol
from urllib.parse import unquote_to_bytes

from assets.content_types import OCTET_STREAM, clean_content_type
from assets.models import Asset
from assets.services import open_asset, release_connection, storage_for
from assets.workflows.errors import RefusedUriError
from assets.workflows.references import decode_base64
from storagecache.errors import DigestMismatchError, RangeNotSatisfiableError

BLOCK: Final = 256 << 10  # bytes


class Sink(Protocol):
    """Where bytes go."""

    def write(self, data: bytes, /) -> int | None:
        """Take bytes; returns how many it took (None: all)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What is known of some bytes, and how they are opened. They must turn out to have this `size` and `sha256` (hex).

    `open_range(start, length)` gives a stream that may hold more than `length` bytes; `open_whole()` a seekable file.
    """

    open_range: Callable[[int, int | None], BinaryIO]
    open_whole: Callable[[], BinaryIO]
    content_type: str = OCTET_STREAM
    size: int | None = None
    sha256: str = ""


def of_asset(asset: Asset) -> Content:
    """Describe a stored asset; opening its bytes costs one trip to the bucket, and holds no database connection."""
    storage, stored = storage_for(asset), asset.object
    assert stored is not None  # else storage_for refuses

    def open_range(start: int, length: int | None) -> BinaryIO:
        release_connection()
        return open_asset(asset, start=start, length=length)

    def open_whole() -> BinaryIO:
        release_connection()
        opened = storage.open(stored.key).file
        assert opened is not None
        return opened  # type: ignore[return-value]  # of bytes: storages open in mode rb only

    return Content(
        open_range=open_range,
        open_whole=open_whole,
        content_type=asset.content_type,
        size=stored.size,
        sha256=stored.sha256,
    )


def of_opener(open_whole: Callable[[], BinaryIO], *, content_type: str = OCTET_STREAM, sha256: str = "") -> Content:
    """Describe bytes that open as a seekable file."""

    def open_range(start: int, length: int | None) -> BinaryIO:
        stream = open_whole()
        stream.seek(start)
        return stream

    return Content(open_range=open_range, open_whole=open_whole, content_type=content_type, sha256=sha256)


def of_bytes(data: bytes, content_type: str = OCTET_STREAM) -> Content:
    """Describe bytes in memory."""
    described = of_opener(lambda: io.BytesIO(data), content_type=content_type)
    return Content(
        open_range=described.open_range, open_whole=described.open_whole, content_type=content_type, size=len(data)
    )


def of_data_uri(uri: str) -> Content:
    """Describe the bytes in a data: URI (RFC 2397).

    Raises:
        RefusedUriError: it is none.
    """
    head, comma, payload = uri.partition(",")
    media_type = head[len("data:") :]
    if not comma:
        raise RefusedUriError("Not a data: URI: it has no comma.")
    base = media_type.lower().endswith(";base64")
    content_type = clean_content_type(media_type[:-7] if base else media_type) or "text/plain"
    raw = unquote_to_bytes(payload)
    try:
        return of_bytes(decode_base64(raw.decode("ascii")) if base else raw, content_type)
    except ValueError as error:
        raise RefusedUriError("Not a data: URI: its data is not base64.") from error


def copy_checked(content: Content, stream: Sink, start: int, length: int | None) -> int:
    """Copy `length` bytes from `start` in constant memory; returns how many. A whole is held against its digest.

    Raises:
        RangeNotSatisfiableError: the range starts behind the end, or is negative.
        DigestMismatchError: other bytes than were recorded, or fewer; those that came are in `stream` already.
    """
    _refuse_range(content, start, length)
    due = None if content.size is None else max(0, content.size - start)
    wanted = min((bound for bound in (length, due) if bound is not None), default=None)
    hasher = hashlib.sha256()
    with content.open_range(start, wanted) as source:
        copied = _copy(source, stream, wanted, hasher.update)
    if due is not None and wanted is not None and copied != wanted:
        raise DigestMismatchError(f"The bytes end after {copied} of {wanted}.")
    if start == 0 and content.sha256 and wanted in (None, content.size) and hasher.hexdigest() != content.sha256:
        raise DigestMismatchError("The bytes are not those that were stored: their SHA-256 is another one.")
    return copied


def read_checked(content: Content) -> bytes:
    """Read all bytes into memory and hold them against their digest.

    Raises:
        DigestMismatchError
    """
    buffer = io.BytesIO()
    copy_checked(content, buffer, 0, None)
    return buffer.getvalue()


def open_path(path: Path) -> BinaryIO:
    """Open a file that the service itself named."""
    return path.open("rb")


def _copy(source: BinaryIO, stream: Sink, wanted: int | None, note: Callable[[bytes], None]) -> int:
    copied = 0
    while wanted is None or copied < wanted:
        block = source.read(BLOCK if wanted is None else min(BLOCK, wanted - copied))
        if not block:
            break
        note(block)
        _write(stream, block)
        copied += len(block)
    return copied


def _write(stream: Sink, block: bytes) -> None:
    """Write all of a block: a raw stream may take less than it is given."""
    taken = stream.write(block)
    while taken is not None and taken < len(block):
        block = block[taken:]
        taken = stream.write(block)


def _refuse_range(content: Content, start: int, length: int | None) -> None:
    if start < 0 or (length is not None and length < 0):
        raise RangeNotSatisfiableError("A range has no negative start or length.")
    if content.size is not None and start > content.size:
        raise RangeNotSatisfiableError(f"The range starts at {start}, behind the end at {content.size}.")
