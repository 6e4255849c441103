"""The verbs that every storage of objects has: check the name, then call the private twin that a backend gives.

Object names are keys made by `storagecache.keys.new_object_key`; objects never change, so that `save` refuses a taken
name and `open` only reads. What differs between backends (and every vendor's error) lives in their own files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import IO, Any, BinaryIO, NoReturn

from django.core.files.base import File
from django.core.files.storage import Storage

from storagecache.capabilities import DeleteFailure, ObjectInfo
from storagecache.errors import InvalidKeyError, RangeNotSatisfiableError, UnsupportedCapabilityError
from storagecache.keys import validate_storage_name
from storagecache.metrics import timed


class ObjectStorage(Storage):
    """Base of the three storages; a `RangeReader`, `BulkDeleter`, `ObjectLister`, `Quarantine` and `Pingable`.

    `bucket` is what the catalog records: the S3 bucket or the folder's name. Several aliases may share one physical
    bucket: each has an `object_prefix`, and names are always full keys which already begin with it.
    """

    bucket: str
    object_prefix: str
    quarantine_prefix: str = ""

    def save(self, name: str | None, content: IO[Any], max_length: int | None = None) -> str:
        """Store the whole of `content` as a new object, in one step that readers see; returns `name` unchanged.

        A seekable content is read from its first byte. When this raises, no object is left.

        Raises:
            InvalidKeyError: not a name of ours, or longer than `max_length`.
            ObjectExistsError: the name is taken (objects are neither overwritten nor renamed).
            StorageFullError, BackendUnavailableError
        """
        checked = validate_storage_name(name or "")
        if max_length is not None and len(checked) > max_length:
            raise InvalidKeyError(f"The object key has {len(checked)} characters; at most {max_length} are allowed.")
        with timed(self._kind, "save"):
            self._save(checked, content)
        return checked

    def overwrite(self, name: str, pieces: Iterable[bytes | memoryview]) -> None:
        """Put or replace a whole file of the alias `cache` (see `Overwriter`); objects elsewhere never change."""
        self._overwrite(validate_storage_name(name), pieces)

    def open(self, name: str, mode: str = "rb") -> File[bytes]:
        """Open the object for reading, seekable and with a cursor of its own; nothing is fetched ahead of need.

        Raises:
            UnsupportedCapabilityError: a mode other than "rb".
            ObjectNotFoundError, BackendUnavailableError
        """
        checked = validate_storage_name(name)
        if mode != "rb":
            raise UnsupportedCapabilityError(f"Objects never change: open them with mode 'rb', not {mode!r}.")
        with timed(self._kind, "open"):
            return self._open(checked)

    def open_stream(self, name: str, start: int = 0, length: int | None = None) -> BinaryIO:
        """Open a part of the object (see `RangeReader`)."""
        checked = validate_storage_name(name)
        if start < 0 or (length is not None and length < 0):
            raise RangeNotSatisfiableError("A range has no negative start or length.")
        with timed(self._kind, "open_stream"):
            return self._open_stream(checked, start, length)

    def delete(self, name: str) -> None:
        """Delete the object; an absent one counts as deleted."""
        checked = validate_storage_name(name)
        with timed(self._kind, "delete"):
            self._delete(checked)

    def delete_many(self, names: Iterable[str]) -> list[DeleteFailure]:
        """Delete many objects (see `BulkDeleter`); every name is checked before the first is deleted."""
        checked = [validate_storage_name(name) for name in names]
        with timed(self._kind, "delete_many"):
            return self._delete_many(checked)

    def list_objects(self, *, start_after: str = "", skip_prefixes: tuple[str, ...] = ()) -> Iterator[ObjectInfo]:
        """List the bucket (see `ObjectLister`)."""
        return self._list_objects(start_after, skip_prefixes)

    def set_aside(self, name: str, label: str) -> None:
        """Move the object into quarantine (see `Quarantine`)."""
        self._set_aside(validate_storage_name(name), _checked_label(label))

    def put_back(self, name: str, label: str) -> None:
        """Move the object out of quarantine (see `Quarantine`)."""
        self._put_back(validate_storage_name(name), _checked_label(label))

    def drop_aside(self, name: str, label: str) -> None:
        """Delete the quarantined object (see `Quarantine`)."""
        self._drop_aside(validate_storage_name(name), _checked_label(label))

    def list_aside(self, label: str) -> Iterator[str]:
        """List a quarantine (see `Quarantine`)."""
        return self._list_aside(_checked_label(label))

    def check_ready(self) -> None:
        """Make sure that the bucket can be used (see `Pingable`)."""
        with timed(self._kind, "check_ready"):
            self._check_ready()

    def exists(self, name: str) -> bool:
        """Tell whether the object is there; a backend that cannot tell raises BackendUnavailableError."""
        return self._exists(validate_storage_name(name))

    def size(self, name: str) -> int:
        """Give the object's size in bytes, from the backend."""
        return self._size(validate_storage_name(name))

    def get_modified_time(self, name: str) -> datetime:
        """Give the time when the object was stored, aware, in UTC."""
        return self._modified_at(validate_storage_name(name))

    def get_created_time(self, name: str) -> datetime:
        """Give the same as `get_modified_time`: objects never change."""
        return self.get_modified_time(name)

    def url(self, name: str | None, *_args: object, **_options: object) -> NoReturn:
        """Refuse: an object has no address of its own; assets have, and those are signed in the catalog."""
        raise UnsupportedCapabilityError("An object has no URL; ask the catalog for its asset's (assets.signing).")

    def listdir(self, path: str) -> NoReturn:
        """Refuse: a bucket is listed by `list_objects` only, in order and in constant memory."""
        raise UnsupportedCapabilityError("Use list_objects(): a bucket is not listed folder by folder.")

    @property
    def _kind(self) -> str:
        """The backend's name among the metrics: memory, filesystem, s3."""
        return type(self).__name__.removesuffix("ObjectStorage").lower()

    def _save(self, name: str, content: IO[Any]) -> str:
        raise NotImplementedError

    def _overwrite(self, name: str, pieces: Iterable[bytes | memoryview]) -> None:
        raise NotImplementedError

    def _open(self, name: str) -> File[bytes]:
        raise NotImplementedError

    def _open_stream(self, name: str, start: int, length: int | None) -> BinaryIO:
        raise NotImplementedError

    def _delete(self, name: str) -> None:
        raise NotImplementedError

    def _delete_many(self, names: list[str]) -> list[DeleteFailure]:
        raise NotImplementedError

    def _list_objects(self, start_after: str, skip_prefixes: tuple[str, ...]) -> Iterator[ObjectInfo]:
        raise NotImplementedError

    def _set_aside(self, name: str, label: str) -> None:
        raise NotImplementedError

    def _put_back(self, name: str, label: str) -> None:
        raise NotImplementedError

    def _drop_aside(self, name: str, label: str) -> None:
        raise NotImplementedError

    def _list_aside(self, label: str) -> Iterator[str]:
        raise NotImplementedError

    def _exists(self, name: str) -> bool:
        raise NotImplementedError

    def _size(self, name: str) -> int:
        raise NotImplementedError

    def _modified_at(self, name: str) -> datetime:
        raise NotImplementedError

    def _check_ready(self) -> None:
        raise NotImplementedError


def _checked_label(label: str) -> str:
    if "/" in validate_storage_name(label):
        raise InvalidKeyError("A quarantine's label is one word.")
    return label
