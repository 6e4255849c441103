"""Files that are whole or absent after a crash: the few POSIX steps, and what their errors mean.

For storages on disk and for the staging of uploads. Knows no bucket, key or Django. Functions raise either
our errors or, where the docstring says so, the system's, for the caller to translate with `disk_errors`.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, Final

from storagecache.errors import BackendUnavailableError, ObjectExistsError, StorageError, StorageFullError

STAGED_PREFIX: Final = "staged-"  # of files with a name, which a purge removes when a dead process left them

NO_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE})

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_TMPFILE: Final = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL})  # open(2), O_TMPFILE
_REMEDIES: Final = {
    errno.EACCES: "Let the user of the service write to its folders.",
    errno.EPERM: "Let the user of the service write to its folders.",
    errno.EROFS: "Mount the filesystem of its folders for writing.",
    errno.EIO: "Check the disk and the kernel's log.",
    errno.ENOENT: "Mount or make the folder of the bucket.",
    errno.EXDEV: "Let STAGING_FOLDER be on the filesystem of the bucket's folder.",
    errno.EMFILE: "Raise the limit of open files of the service (ulimit -n).",
    errno.ENFILE: "Raise the limit of open files of the system (fs.file-max).",
}


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Translate an OSError into our tree; `what` begins the message, as in "Cannot store assets/7f/.."."""
    try:
        yield
    except StorageError:  # some of ours are OSErrors too
        raise
    except OSError as error:
        raise translated(error, what) from error


def translated(error: OSError, what: str) -> StorageError:
    """Give the error of our tree that says the same; `what` begins its message."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    if error.errno == errno.EEXIST:
        return ObjectExistsError(f"{what}: it exists already; objects are never overwritten.")
    if error.errno in _FULL:
        return StorageFullError(f"{what}: {reason}. Free space or inodes, or raise the quota.")
    remedy = _REMEDIES.get(error.errno or 0, "Run `manage.py doctor`.")
    return BackendUnavailableError(f"{what}: {reason}. {remedy}")


def open_staging(folder: str) -> tuple[int, str | None]:
    """Open a new empty file in `folder` for reading and writing; returns its descriptor, and its path if it has one.

    The file is anonymous (O_TMPFILE) where the system can: a process that dies leaves nothing. The caller
    ends it with `discard`.

    Raises:
        StorageFullError, BackendUnavailableError
    """
    with disk_errors("Cannot stage an upload"):
        return _open_anonymous(folder) or tempfile.mkstemp(prefix=STAGED_PREFIX, dir=folder)


def reopen(fd: int) -> BinaryIO:
    """Give a stream that reads a staged file, over a descriptor of its own, which the caller closes too.

    Raises:
        BackendUnavailableError: there is no descriptor left.
    """
    with disk_errors("Cannot stage an upload"):
        return os.fdopen(os.dup(fd), "rb")


def discard(fd: int, path: str | None) -> None:
    """Close a staged file and remove its name, if it has one; objects linked from it stay."""
    with suppress(OSError):
        os.close(fd)
    if path is not None:
        with suppress(OSError):
            os.unlink(path)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of `data`: one write(2) may legally take less, at the edge of a quota or with a signal.

    Raises:
        StorageFullError, BackendUnavailableError
    """
    view = memoryview(data)
    with disk_errors("Cannot write"):
        while view:
            view = view[os.write(fd, view) :]


def publish(fd: int, path: str | None, folder_fd: int, file_name: str, *, permissions: int) -> None:
    """Give a staged file its name in the open folder, once its bytes are on the disk; then make the name durable.

    After a failing fsync the kernel may have dropped the dirty pages and the next fsync may lie: nothing is tried
    again, and no name is left.

    Raises:
        OSError: untranslated: FileExistsError means that the name is taken.
    """
    os.fchmod(fd, permissions)
    os.fsync(fd)
    source = f"/proc/self/fd/{fd}" if path is None else path
    # Without src_dir_fd Python 3.11 calls link(2), which does not follow /proc's symbolic link: EXDEV.
    os.link(source, file_name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd, follow_symlinks=True)
    try:
        os.fsync(folder_fd)
    except OSError:
        with suppress(OSError):
            os.unlink(file_name, dir_fd=folder_fd)
        raise


def make_folder(path: str, permissions: int) -> None:
    """Make one folder (not its parents) and make its name durable; no matter if it is there already.

    The parent is synced in that case too: whoever made the folder may not have come so far.

    Raises:
        OSError: untranslated.
    """
    with suppress(FileExistsError):
        os.mkdir(path)
        os.chmod(path, permissions)  # mkdir's own mode is cut by the umask
    sync_folder(os.path.dirname(path))


def sync_folder(path: str) -> None:
    """Make the names in a folder durable: those that came and those that went.

    Raises:
        OSError: untranslated.
    """
    fd = open_folder(path)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def open_folder(path: str) -> int:
    """Open a folder for `publish`."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY)


def _open_anonymous(folder: str) -> tuple[int, None] | None:
    if not hasattr(os, "O_TMPFILE") or not os.path.isdir("/proc/self/fd"):
        return None
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600), None
    except OSError as error:
        if error.errno in _NO_TMPFILE:
            return None
        raise
