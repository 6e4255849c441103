"""Objects as files in a folder: whole or absent after any crash, read-only, under names that only we choose."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import IO, Any, BinaryIO, Final

from django.core.files.base import File
from django.core.files.storage import FileSystemStorage

from storagecache.capabilities import DeleteFailure, ObjectInfo, StagedContent
from storagecache.errors import BackendUnavailableError, ObjectNotFoundError, StorageError
from storagecache.keys import validate_storage_name
from storagecache.storages.base import ObjectStorage
from storagecache.storages.durable import (
    STAGED_PREFIX,
    discard,
    disk_errors,
    make_folder,
    open_folder,
    open_staging,
    publish,
    sync_folder,
    write_all,
)
from storagecache.storages.streams import blocks, bounded, rewind
from storagecache.storages.walk import walk

_QUARANTINE: Final = ".quarantine"  # hidden from listings, and on the filesystem of the objects
_IDENTITY: Final = ".identity"
_ABSENT: Final = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


class FilesystemObjectStorage(ObjectStorage, FileSystemStorage):
    """A folder of objects; also `LocalFiles`, `FolderStaging` and `IdentityKeeper`.

    The folder itself is made at first use, its parent never: a parent that is missing is a disk that is not mounted.
    Folders inside are made as names need them and stay, so that no delete races with a save.
    """

    def __init__(
        self,
        *,
        location: str | os.PathLike[str],
        staging_folder: str | os.PathLike[str] | None = None,
        bucket: str = "",
        object_prefix: str = "",
        file_permissions: int = 0o444,
        folder_permissions: int = 0o755,
    ) -> None:
        """Name the folder; nothing on disk is touched yet.

        `staging_folder` (default: `.staging` inside) must be on the same filesystem. `bucket` is by default the
        folder's own name. Permissions are set as given, whatever the umask.
        """
        self._root = os.path.abspath(location)
        super().__init__(location=self._root)
        self.bucket = bucket or os.path.basename(self._root)
        self.object_prefix = object_prefix
        self.file_permissions = file_permissions
        self.folder_permissions = folder_permissions
        self._staging_folder = os.path.abspath(staging_folder or os.path.join(self._root, ".staging"))
        self._durable_folders: set[str] = set()

    def path(self, name: str) -> str:
        """Give the absolute path of the object, whether it exists or not."""
        return os.path.join(self._root, validate_storage_name(name))

    def local_path(self, name: str) -> str:
        """Give the same as `path`, as `LocalFiles`."""
        return self.path(name)

    def staging_folder(self) -> str:
        """Give the folder for bytes on their way in, made when absent; for this service alone (mode 0700).

        Raises:
            StorageFullError, BackendUnavailableError
        """
        if not os.path.isdir(self._staging_folder):
            self._ensure_root()
            with disk_errors("Cannot make the staging folder"):
                os.makedirs(self._staging_folder, mode=0o700, exist_ok=True)
        return self._staging_folder

    def _save(self, name: str, content: IO[Any]) -> str:
        if not (isinstance(content, StagedContent) and self._link_staged(name, content)):
            self._copy(name, content)
        return name

    def _overwrite(self, name: str, pieces: Iterable[bytes | memoryview]) -> None:
        draft = os.path.join(self.staging_folder(), f"{STAGED_PREFIX}cache-{secrets.token_hex(8)}")
        with disk_errors(f"Cannot store {self.bucket}/{name}"):
            try:
                self._write_draft(draft, pieces)
                self._rename(draft, self.path(name))
            except BaseException:
                with suppress(OSError):
                    os.unlink(draft)
                raise

    def _write_draft(self, draft: str, pieces: Iterable[bytes | memoryview]) -> None:
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            for piece in pieces:
                write_all(fd, piece)
            os.fchmod(fd, self.file_permissions)
        finally:
            os.close(fd)

    def _rename(self, draft: str, path: str) -> None:
        """Give a draft its name, for any reader at once; its folder is made when it is absent."""
        try:
            os.replace(draft, path)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), mode=self.folder_permissions, exist_ok=True)
            os.replace(draft, path)

    def _link_staged(self, name: str, content: StagedContent) -> bool:
        """Link a staged file to its name; False when it lies on another filesystem."""
        with disk_errors(f"Cannot store {self.bucket}/{name}"):
            try:
                self._publish(name, content.fileno(), content.staged_path)
            except OSError as error:
                if error.errno == errno.EXDEV:
                    return False
                raise
        return True

    def _copy(self, name: str, content: IO[Any]) -> None:
        fd, path = open_staging(self.staging_folder())
        try:
            self._fill(name, fd, content)
            with disk_errors(f"Cannot store {self.bucket}/{name}"):
                self._publish(name, fd, path)
        finally:
            discard(fd, path)

    def _fill(self, name: str, fd: int, content: IO[Any]) -> None:
        rewind(content)
        written = 0
        for block in blocks(content):
            write_all(fd, block)
            written += len(block)
        held = os.fstat(fd).st_size
        if held != written:
            raise BackendUnavailableError(
                f"Cannot store {self.bucket}/{name}: the disk holds {held} of {written} bytes. Check it."
            )

    def _publish(self, name: str, fd: int, path: str | None) -> None:
        folder, file_name = os.path.split(self.path(name))
        folder_fd = self._open_durable(folder)
        try:
            publish(fd, path, folder_fd, file_name, permissions=self.file_permissions)
        finally:
            os.close(folder_fd)

    def _open_durable(self, folder: str) -> int:
        """Open a folder whose own name is durable, made when absent; each is synced once in a process."""
        if folder in self._durable_folders:
            with suppress(FileNotFoundError):
                return open_folder(folder)
        self._ensure_root()
        made = self._root
        for segment in os.path.relpath(folder, self._root).split(os.sep):
            made = os.path.join(made, segment)
            make_folder(made, self.folder_permissions)
        self._durable_folders.add(folder)
        return open_folder(folder)

    def _ensure_root(self) -> None:
        if os.path.isdir(self._root):
            return
        with disk_errors(f"Cannot make the folder of bucket {self.bucket}"):
            make_folder(self._root, self.folder_permissions)

    def _open(self, name: str) -> File[bytes]:
        return File(self._open_stream(name, 0, None), name)

    def _open_stream(self, name: str, start: int, length: int | None) -> BinaryIO:
        with disk_errors(f"Cannot read {self.bucket}/{name}"):
            try:
                file = open(self.path(name), "rb")  # noqa: SIM115 (the caller closes it)
            except _ABSENT as error:
                raise self._missing(name) from error
        file.seek(start)
        return file if length is None else bounded(file, length)

    def _delete(self, name: str) -> None:
        with disk_errors(f"Cannot delete {self.bucket}/{name}"):
            folder = self._unlink(name)
            if folder is not None:
                sync_folder(folder)

    def _delete_many(self, names: list[str]) -> list[DeleteFailure]:
        failures: list[DeleteFailure] = []
        touched: dict[str, list[str]] = {}
        for name in names:
            with _noted(failures, name), disk_errors(f"Cannot delete {self.bucket}/{name}"):
                folder = self._unlink(name)
                if folder is not None:
                    touched.setdefault(folder, []).append(name)
        for folder, deleted in touched.items():
            with _noted(failures, *deleted), disk_errors(f"Cannot sync a folder of {self.bucket}"):
                sync_folder(folder)
        return failures

    def _unlink(self, name: str) -> str | None:
        """Unlink the object; returns its folder, which is to be synced, or None when there was nothing."""
        path = self.path(name)
        try:
            os.unlink(path)
        except _ABSENT:
            self._ensure_root()
            return None
        return os.path.dirname(path)

    def _list_objects(self, start_after: str, skip_prefixes: tuple[str, ...]) -> Iterator[ObjectInfo]:
        self._ensure_root()
        for key in walk(self._folder_names, start_after=start_after, skip_prefixes=skip_prefixes):
            with suppress(ObjectNotFoundError):  # deleted meanwhile
                status = self._status(key, os.path.join(self._root, key))
                yield ObjectInfo(key, status.st_size, _utc(status))

    def _set_aside(self, name: str, label: str) -> None:
        self._shift(name, self.path(name), self._aside_path(name, label))

    def _put_back(self, name: str, label: str) -> None:
        self._shift(name, self._aside_path(name, label), self.path(name))

    def _drop_aside(self, name: str, label: str) -> None:
        path = self._aside_path(name, label)
        with disk_errors(f"Cannot delete {self.bucket}/{name} from quarantine"), suppress(*_ABSENT):
            os.unlink(path)
            sync_folder(os.path.dirname(path))

    def _list_aside(self, label: str) -> Iterator[str]:
        top = os.path.join(self._root, _QUARANTINE, label)
        for folder, _, names in os.walk(top, onerror=_raise_unless_absent):
            inner = os.path.relpath(folder, top)
            yield from (name if inner == os.curdir else f"{inner}/{name}" for name in names)

    def _aside_path(self, name: str, label: str) -> str:
        return os.path.join(self._root, _QUARANTINE, label, name)

    def _shift(self, name: str, source: str, target: str) -> None:
        """Give a file its other name, and take the first one away once the other is durable."""
        with disk_errors(f"Cannot move {self.bucket}/{name}"):
            if not os.path.lexists(source) and os.path.lexists(target):
                sync_folder(os.path.dirname(target))
                return
            self._status(name, source)
            os.close(self._open_durable(os.path.dirname(target)))
            try:
                os.link(source, target)
            except FileExistsError:
                if not os.path.samefile(source, target):
                    raise
            sync_folder(os.path.dirname(target))
            os.unlink(source)
            sync_folder(os.path.dirname(source))

    def read_identity(self) -> str:
        """Give the text of `.identity` (see `IdentityKeeper`)."""
        with disk_errors(f"Cannot read the identity of {self.bucket}"):
            try:
                with open(os.path.join(self._root, _IDENTITY), encoding="utf-8", errors="replace") as stream:
                    return stream.read(1 << 16)
            except FileNotFoundError:
                return ""

    def write_identity(self, text: str) -> None:
        """Replace `.identity` (see `IdentityKeeper`)."""
        draft = os.path.join(self.staging_folder(), f"{STAGED_PREFIX}identity-{secrets.token_hex(8)}")
        with disk_errors(f"Cannot write the identity of {self.bucket}"):
            fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, self.file_permissions)
            try:
                write_all(fd, text.encode())
                os.fsync(fd)
                os.replace(draft, os.path.join(self._root, _IDENTITY))
            except BaseException:
                with suppress(OSError):
                    os.unlink(draft)
                raise
            finally:
                os.close(fd)
            sync_folder(self._root)

    def is_untouched(self) -> bool:
        """Tell whether nothing but hidden names is in the folder (see `IdentityKeeper`)."""
        with disk_errors(f"Cannot list {self.bucket}"):
            return not os.path.isdir(self._root) or all(name.startswith(".") for name in os.listdir(self._root))

    def _folder_names(self, folder: str) -> Iterable[str]:
        """Name the files and folders that could be objects: nothing hidden, no link, no device."""
        with disk_errors(f"Cannot list {self.bucket}/{folder}"):
            try:
                entries = os.scandir(os.path.join(self._root, folder))
            except FileNotFoundError:
                return []
            with entries:
                return [name for entry in entries if (name := _listed_name(entry)) is not None]

    def _check_ready(self) -> None:
        self._ensure_root()
        # access(2) also knows of a read-only filesystem, which the bits of the folder do not tell.
        if not os.access(self._root, os.R_OK | os.W_OK | os.X_OK):
            raise BackendUnavailableError(
                f"The folder of bucket {self.bucket} cannot be written. Check its owner, permissions and mount."
            )

    def _exists(self, name: str) -> bool:
        try:
            self._status(name, self.path(name))
        except ObjectNotFoundError:
            return False
        return True

    def _size(self, name: str) -> int:
        return self._status(name, self.path(name)).st_size

    def _modified_at(self, name: str) -> datetime:
        return _utc(self._status(name, self.path(name)))

    def _status(self, name: str, path: str) -> os.stat_result:
        with disk_errors(f"Cannot read {self.bucket}/{name}"):
            try:
                status = os.lstat(path)
            except _ABSENT as error:
                raise self._missing(name) from error
        if not stat.S_ISREG(status.st_mode):
            raise ObjectNotFoundError(f"No object {self.bucket}/{name}.")
        return status

    def _missing(self, name: str) -> ObjectNotFoundError:
        """Give the error of an absent object, once it is sure that the bucket itself is there."""
        self._ensure_root()
        return ObjectNotFoundError(f"No object {self.bucket}/{name}.")


def _raise_unless_absent(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise BackendUnavailableError(f"Cannot list a quarantine: {error.strerror}.") from error


@contextmanager
def _noted(failures: list[DeleteFailure], *names: str) -> Iterator[None]:
    """Turn the failure of one step of a batch into entries of its report."""
    try:
        yield
    except StorageError as error:
        failures.extend(DeleteFailure(name, str(error)) for name in names)


def _listed_name(entry: os.DirEntry[str]) -> str | None:
    if entry.name.startswith("."):
        return None
    if entry.is_dir(follow_symlinks=False):
        return entry.name + "/"
    return entry.name if entry.is_file(follow_symlinks=False) else None


def _utc(status: os.stat_result) -> datetime:
    return datetime.fromtimestamp(status.st_mtime, tz=UTC)
