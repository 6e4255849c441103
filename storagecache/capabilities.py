"""What a storage may offer beyond Django's storage API, each as a small Protocol.

Callers ask with `isinstance(storage, LocalFiles)` and never for a class or a vendor. The core of
each storage stays Django's: `save`, `open`, `delete`, `exists`, `size`. Object names are keys made
by `storagecache.keys.new_object_key`; nothing else is accepted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object as a listing names it."""

    key: str
    size: int
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class DeleteFailure:
    """One object that a bulk delete could not remove, and why (never a secret)."""

    key: str
    reason: str


@runtime_checkable
class RangeReader(Protocol):
    """Reads a part of an object with one trip to the backend."""

    def open_stream(self, name: str, start: int = 0, length: int | None = None) -> BinaryIO:
        """Open `length` bytes from `start` (None: to the end) as a readable, closable stream of its own cursor.

        A start or length past the end gives fewer bytes. `read(n)` may return fewer than n bytes
        before the end. The caller closes it.

        Raises:
            ObjectNotFoundError, BackendUnavailableError
        """
        ...


@runtime_checkable
class LocalFiles(Protocol):
    """Keeps objects as files that this machine can open.

    The verb is not Django's `path`: every storage of Django has that one, and raises.
    """

    def local_path(self, name: str) -> str:
        """Give the absolute path of the object, whether it exists or not."""
        ...


@runtime_checkable
class FolderStaging(Protocol):
    """Takes staged files by link or rename: they are written on the bucket's own filesystem."""

    def staging_folder(self) -> str:
        """Give the folder where bytes on their way in are written (made when absent)."""
        ...


@runtime_checkable
class BulkDeleter(Protocol):
    """Deletes many objects in few trips."""

    def delete_many(self, names: Iterable[str]) -> list[DeleteFailure]:
        """Delete the objects; absent ones count as deleted. Returns those that are still there."""
        ...


@runtime_checkable
class ObjectLister(Protocol):
    """Lists the bucket. For verify only: nothing else ever lists a bucket."""

    def list_objects(self, *, start_after: str = "", skip_prefixes: tuple[str, ...] = ()) -> Iterator[ObjectInfo]:
        """Yield every object of the physical bucket in bytewise key order, in constant memory.

        Starts behind `start_after`, which is "", a key (gone or not) or a folder of keys with its `/`: SeaweedFS
        passes over a folder when given its bare name. Keys under a skipped prefix are not listed, nor paid for
        beyond the page that meets the first of them.
        """
        ...


@runtime_checkable
class Quarantine(Protocol):
    """Sets objects aside, out of every listing and reach, and puts them back.

    A label names one run that set objects aside. Each verb may be repeated: what a killed call left half done, the
    next call of the same verb, or of the opposite one, brings to its end. Bytes are never in no place.
    """

    quarantine_prefix: str  # of the bucket's listing under which quarantined objects show; "" when they do not

    def set_aside(self, name: str, label: str) -> None:
        """Move the object into quarantine; one that is there already counts as moved.

        Raises:
            ObjectNotFoundError: it is neither in the bucket nor in quarantine.
            ObjectExistsError: the quarantine holds another object under this label and name.
            StorageFullError, BackendUnavailableError
        """
        ...

    def put_back(self, name: str, label: str) -> None:
        """Move the object back to its name; one that is there already counts as moved. Nothing is overwritten.

        Raises:
            ObjectNotFoundError, ObjectExistsError, StorageFullError, BackendUnavailableError: as above.
        """
        ...

    def drop_aside(self, name: str, label: str) -> None:
        """Delete the quarantined object for ever; an absent one counts as deleted."""
        ...

    def list_aside(self, label: str) -> Iterator[str]:
        """Yield the names of the objects that lie in quarantine under this label."""
        ...


@runtime_checkable
class IdentityKeeper(Protocol):
    """A bucket that can be mistaken for another: a folder whose disk is not mounted is an empty folder."""

    def read_identity(self) -> str:
        """Give the text that was written into this very bucket; "" when there is none."""
        ...

    def write_identity(self, text: str) -> None:
        """Put the text into the bucket, where no listing shows it; replaces the former one in one step."""
        ...

    def is_untouched(self) -> bool:
        """Tell whether no object was ever stored here (objects leave their folders behind)."""
        ...


@runtime_checkable
class Pingable(Protocol):
    """Can tell whether it is ready to be used, without touching an object."""

    def check_ready(self) -> None:
        """Return when the bucket answers and may be used; at most two cheap trips.

        Raises:
            BackendUnavailableError: it does not answer, is missing, or refuses us.
        """
        ...


@runtime_checkable
class Overwriter(Protocol):
    """Replaces whole files. For the alias `cache` only: everywhere else objects never change."""

    def overwrite(self, name: str, pieces: Iterable[bytes | memoryview]) -> None:
        """Put a file of these pieces, whole for every reader; one of that name is replaced, without a gap.

        Not durable: after a crash of the machine the file may be absent or damaged.

        Raises:
            InvalidKeyError, StorageFullError, BackendUnavailableError
        """
        ...


@runtime_checkable
class UrlSigner(Protocol):
    """Gives URLs that the backend itself answers."""

    def presigned_url(
        self,
        name: str,
        *,
        expires_in: int,
        signed_at: int | None = None,
        content_type: str = "",
        disposition: str = "",
        cache_control: str = "",
    ) -> str:
        """Sign a GET of the object for `expires_in` seconds (at most seven days) from `signed_at` on.

        `signed_at` is in seconds since 1970, None for now: the same arguments give the same URL in every process. It
        makes no network call, and never outlives the session of the credentials that sign. `content_type`,
        `disposition` and `cache_control` override what the backend answers with.
        """
        ...


@dataclass(frozen=True, slots=True)
class UnfinishedUpload:
    """A multipart upload that was begun and neither completed nor aborted."""

    key: str
    upload_id: str
    started_at: datetime


@runtime_checkable
class UploadLister(Protocol):
    """Tells which multipart uploads are unfinished; their parts are paid for until somebody aborts them."""

    def list_uploads(self) -> Iterator[UnfinishedUpload]:
        """Yield all of the physical bucket, whoever began them."""
        ...

    def abort_upload(self, upload: UnfinishedUpload) -> None:
        """Abort it; one that is gone counts as aborted."""
        ...


@runtime_checkable
class UploadAborter(Protocol):
    """Holds multipart uploads that a dead process may have left."""

    def abort_uploads(self, name: str) -> int:
        """Abort every unfinished multipart upload of this key; returns how many there were."""
        ...


@runtime_checkable
class StagedContent(Protocol):
    """Content to save that is a file on this machine already: a storage on the same filesystem links it.

    It is also a readable, seekable binary file. It stays the caller's: who staged it closes it and removes
    `staged_path`, whether the save succeeded or not. Its permissions become the object's.
    """

    @property
    def staged_path(self) -> str | None:
        """The file's path; None when it is anonymous (O_TMPFILE)."""
        ...

    def fileno(self) -> int:
        """Give the open descriptor of the file; every byte has been written to it."""
        ...


@runtime_checkable
class UploadObserver(Protocol):
    """Content to save that wants to hear how a long save fares, so that the catalog can record it."""

    def on_upload_started(self, upload_id: str) -> None:
        """Hear of the multipart upload before its first part; raising ends and aborts it."""
        ...

    def on_progress(self) -> None:
        """Hear that another part has arrived; raising ends and aborts the upload."""
        ...
