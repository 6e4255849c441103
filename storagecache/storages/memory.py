"""Objects in this process's memory, for tests and throw-away services: gone with the process, unseen by others."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import IO, Any, BinaryIO

from django.core.files.base import ContentFile, File
from django.core.files.storage import InMemoryStorage

from storagecache.capabilities import DeleteFailure, ObjectInfo
from storagecache.errors import ObjectExistsError, ObjectNotFoundError
from storagecache.storages.base import ObjectStorage
from storagecache.storages.streams import blocks, bounded, rewind
from storagecache.storages.walk import walk


class MemoryObjectStorage(ObjectStorage, InMemoryStorage):
    """Django's tree of files in memory, made safe for threads: a lock around each step, immutable bytes to readers.

    Django hands one shared cursor to all readers; here each reader has its own over the same bytes, without a copy.
    """

    def __init__(self, *, bucket: str = "memory", object_prefix: str = "") -> None:
        """Make an empty bucket."""
        super().__init__(location="/", base_url="")
        self.bucket = bucket
        self.object_prefix = object_prefix
        self._lock = threading.RLock()
        self._aside: dict[tuple[str, str], bytes] = {}  # by label and name

    def _save(self, name: str, content: IO[Any]) -> str:
        rewind(content)
        data = b"".join(blocks(content))
        with self._lock:
            if self._exists(name):
                raise ObjectExistsError(f"{self.bucket}/{name} exists already; objects are never overwritten.")
            InMemoryStorage._save(self, name, ContentFile(data))  # type: ignore[attr-defined]  # not in the stubs
        return name

    def _overwrite(self, name: str, pieces: Iterable[bytes | memoryview]) -> None:
        data = b"".join(pieces)
        with self._lock:
            self._delete(name)
            self._save(name, ContentFile(data))

    def _open(self, name: str) -> File[bytes]:
        return File(io.BytesIO(self._data(name)), name)

    def _open_stream(self, name: str, start: int, length: int | None) -> BinaryIO:
        stream = io.BytesIO(self._data(name))
        stream.seek(start)
        return stream if length is None else bounded(stream, length)

    def _delete(self, name: str) -> None:
        with self._lock:
            if self._exists(name):
                InMemoryStorage.delete(self, name)

    def _delete_many(self, names: list[str]) -> list[DeleteFailure]:
        for name in names:
            self._delete(name)
        return []

    def _list_objects(self, start_after: str, skip_prefixes: tuple[str, ...]) -> Iterator[ObjectInfo]:
        for key in walk(self._folder_names, start_after=start_after, skip_prefixes=skip_prefixes):
            with self._lock:
                info = self._info(key) if self._exists(key) else None
            if info:
                yield info

    def _set_aside(self, name: str, label: str) -> None:
        with self._lock:
            if self._exists(name):
                self._aside[label, name] = self._data(name)
                self._delete(name)
            elif (label, name) not in self._aside:
                raise ObjectNotFoundError(f"No object {self.bucket}/{name}.")

    def _put_back(self, name: str, label: str) -> None:
        with self._lock:
            data = self._aside.get((label, name))
            if data is None:
                self._data(name)  # else there is nothing to put back
                return
            if not self._exists(name) or self._data(name) != data:
                self._save(name, ContentFile(data))
            del self._aside[label, name]

    def _drop_aside(self, name: str, label: str) -> None:
        with self._lock:
            self._aside.pop((label, name), None)

    def _list_aside(self, label: str) -> Iterator[str]:
        with self._lock:
            yield from [name for held, name in self._aside if held == label]

    def _check_ready(self) -> None:
        return  # memory is there as long as we are

    def _exists(self, name: str) -> bool:
        try:
            self._data(name)
        except ObjectNotFoundError:
            return False
        return True

    def _size(self, name: str) -> int:
        return len(self._data(name))

    def _modified_at(self, name: str) -> datetime:
        with self._lock:
            self._data(name)
            return InMemoryStorage.get_modified_time(self, name)

    def _data(self, name: str) -> bytes:
        with self._lock:
            try:
                # The node's own bytes, not a copy: nobody writes to it any more.
                node = InMemoryStorage._open(self, name, "rb")  # type: ignore[attr-defined]  # not in the stubs
                data: bytes = node.file.getvalue()
            except OSError as error:
                raise ObjectNotFoundError(f"No object {self.bucket}/{name}.") from error
            return data

    def _info(self, key: str) -> ObjectInfo:
        return ObjectInfo(key, self._size(key), self._modified_at(key))

    def _folder_names(self, folder: str) -> list[str]:
        with self._lock:
            folders, files = InMemoryStorage.listdir(self, folder)
        return [*(name + "/" for name in folders), *files]
