"""Bytes on their way in: one pass writes, counts, hashes and looks at the type; nothing is visible until it is whole.

Every way in ends here in one `StagedFile`. Where the bucket is a folder, the file is written on the bucket's own
filesystem, so that storing it is a link and not a copy.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final, Protocol

from django.core.files.storage import Storage

from assets.content_types import HEAD_BYTES, resolve_content_type
from storagecache.capabilities import FolderStaging
from storagecache.environment import Environment
from storagecache.errors import DigestMismatchError, ObjectTooLargeError
from storagecache.storages.durable import discard, disk_errors, open_staging, reopen, write_all

BLOCK: Final = 256 << 10  # bytes read at a time; each of hundreds of slow senders holds one


class Source(Protocol):
    """Where bytes come from: a file, a request body, an upload of a form."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, and none only at the end."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the sender said about the bytes; None where it said nothing. Digests are raw bytes."""

    length: int | None = None
    md5: bytes | None = None
    sha256: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedFile:
    """A whole upload in a private file: its size in bytes, its hex sha256 and the type that the catalog will record."""

    stream: BinaryIO
    path: str | None
    size: int
    sha256: str
    content_type: str


@contextlib.contextmanager
def stage_stream(
    source: Source,
    storage: Storage,
    *,
    name: str = "",
    content_type: str = "",
    limit: int | None = None,
    expected: Expected = Expected(),  # frozen
) -> Iterator[StagedFile]:
    """Write a source to a private file near `storage` and give it; it is gone when the block ends.

    `name` and `content_type` are what the client claims. `limit` is in bytes, by default MAX_UPLOAD_BYTES.

    Raises:
        ObjectTooLargeError: more bytes than the limit; nothing past it is read.
        DigestMismatchError: another length or digest than `expected`.
        StorageFullError, BackendUnavailableError: the disk cannot take it.
    """
    limit = Environment.current().max_upload_bytes if limit is None else limit
    _refuse_announced(expected, limit)
    descriptor, path = open_staging(staging_folder(storage))
    try:
        writer = StagingWriter(descriptor, limit, want_md5=expected.md5 is not None)
        writer.take(source)
        writer.compare(expected)
        with reopen(descriptor) as stream:
            stream.seek(0)
            yield StagedFile(
                stream=stream,
                path=path,
                size=writer.size,
                sha256=writer.sha256.hexdigest(),
                content_type=resolve_content_type(content_type, name, bytes(writer.head)),
            )
    finally:
        discard(descriptor, path)


def staging_folder(storage: Storage) -> str:
    """Give the folder where bytes on their way into `storage` are written."""
    if isinstance(storage, FolderStaging):
        return storage.staging_folder()
    folder = Environment.current().staging_folder
    with disk_errors("Cannot make the staging folder"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return str(folder)


def _refuse_announced(expected: Expected, limit: int) -> None:
    if expected.length is not None and expected.length > limit:
        raise _too_large(limit)


def _too_large(limit: int) -> ObjectTooLargeError:
    return ObjectTooLargeError(f"The upload has more than {limit} bytes (MAX_UPLOAD_BYTES).")


class StagingWriter:
    """Takes bytes in one pass: to the disk, to the digests, and the first of them aside."""

    def __init__(self, descriptor: int, limit: int, *, want_md5: bool = False) -> None:
        self.size = 0
        self.head = bytearray()
        self.sha256 = hashlib.sha256()
        self.md5 = hashlib.md5(usedforsecurity=False) if want_md5 else None
        self._descriptor = descriptor
        self._limit = limit

    def take(self, source: Source) -> None:
        """Read the source to its end."""
        while block := source.read(min(BLOCK, self._limit - self.size + 1)):
            self.write(block)

    def write(self, block: bytes) -> None:
        """Take the next bytes, where they are handed over and not fetched.

        Raises:
            ObjectTooLargeError, StorageFullError, BackendUnavailableError
        """
        self.size += len(block)
        if self.size > self._limit:
            raise _too_large(self._limit)
        with disk_errors("Cannot stage the upload"):
            write_all(self._descriptor, block)
        self.sha256.update(block)
        if self.md5:
            self.md5.update(block)
        if len(self.head) < HEAD_BYTES:
            self.head += block[: HEAD_BYTES - len(self.head)]

    def compare(self, expected: Expected) -> None:
        """Hold what arrived against what was announced."""
        if expected.length is not None and self.size != expected.length:
            raise DigestMismatchError(f"The body ended after {self.size} of {expected.length} bytes.")
        for name, hasher, digest in (("MD5", self.md5, expected.md5), ("SHA-256", self.sha256, expected.sha256)):
            if hasher and digest is not None and hasher.digest() != digest:
                raise DigestMismatchError(f"The {name} digest of the bytes that arrived is another one.")


def decode_digest(text: str, size: int) -> bytes:
    """Decode a base64 digest of `size` bytes.

    Raises:
        DigestMismatchError: it is not base64, or not of this size.
    """
    try:
        raw = base64.b64decode(text.strip(), validate=True)
    except ValueError as error:
        raise DigestMismatchError("A digest of the request is not base64.") from error
    if len(raw) != size:
        raise DigestMismatchError(f"A digest of the request has {len(raw)} bytes, not {size}.")
    return raw
