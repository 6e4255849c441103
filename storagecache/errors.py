"""The one tree of errors that storages, caches and services raise; each leaf knows its HTTP status.

Vendor errors (botocore, OSError) are translated where they are raised, `from` the original.
Nothing here knows HTTP beyond the number: one place in `assets` turns these into answers.
"""

from __future__ import annotations

from typing import ClassVar


class StorageError(Exception):
    """Root of everything that can go wrong with stored bytes; never raised itself.

    The message says what, which bucket and key, and the next step; it never holds a secret
    or a signed query string, so that it may be shown to a client.
    """

    status: ClassVar[int] = 500
    retry_after: ClassVar[int | None] = None  # seconds


class InvalidKeyError(StorageError, ValueError):
    """A key that the grammar of `storagecache.keys` refuses."""

    status = 400


class DigestMismatchError(StorageError, ValueError):
    """The bytes that arrived are not the bytes that were announced (length or digest)."""

    status = 400


class ObjectNotFoundError(StorageError, FileNotFoundError):
    """No such object in this bucket."""

    status = 404


class ObjectExistsError(StorageError, FileExistsError):
    """The key is taken; objects are never overwritten."""

    status = 409


class PreconditionFailedError(StorageError):
    """If-Match or If-None-Match does not hold (RFC 9110 13.1)."""

    status = 412


class ObjectTooLargeError(StorageError, ValueError):
    """More bytes than MAX_UPLOAD_BYTES."""

    status = 413


class RangeNotSatisfiableError(StorageError, ValueError):
    """The range starts behind the last byte (RFC 9110 15.5.17)."""

    status = 416


class UnsupportedCapabilityError(StorageError, NotImplementedError):
    """This storage cannot do what was asked (see `storagecache.capabilities`)."""

    status = 501


class BackendUnavailableError(StorageError, ConnectionError):
    """The backend did not answer, refused us, or answered nonsense; trying later may help."""

    status = 503
    retry_after = 5


class BackendTimeoutError(BackendUnavailableError, TimeoutError):
    """The backend let us wait until our patience ended: asking it something else at once would last as long."""


class StorageFullError(StorageError, OSError):
    """No space, inodes or quota left."""

    status = 507
