"""Paths inside a job's workspace: nothing that is named by a node leads out of it, by `..` or by a symbolic link."""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final
from uuid import uuid4

from assets.staging import Source
from storagecache.errors import BackendUnavailableError, InvalidKeyError, ObjectNotFoundError

MOUNT_POINT: Final = "/workspace"  # how every workspace is called inside a container
_MOST_BYTES: Final = 200  # of a file's name; with what makes it one of its own it stays below the usual 255
_BLOCK: Final = 256 << 10  # bytes


def resolve_inside(root: Path, path: str | os.PathLike[str]) -> Path:
    """Give the real path of what a node calls `path`, which need not exist; relative paths begin at `root`.

    `/workspace/...` means the workspace on every machine.

    Raises:
        InvalidKeyError: it lies elsewhere, or is no path.
    """
    text = os.fspath(path)
    if "\0" in text:
        raise InvalidKeyError("A path has no NUL.")
    wanted = PurePosixPath(text)
    if wanted.is_relative_to(MOUNT_POINT) and not _is_inside(Path(os.path.normpath(text)), root):
        wanted = wanted.relative_to(MOUNT_POINT)
    try:
        real = Path(os.path.realpath(root / wanted))
        base = Path(os.path.realpath(root))
    except (OSError, ValueError) as error:  # too long, or not encodable
        raise InvalidKeyError(f"Not a path: {text[:80]!r}.") from error
    if not _is_inside(real, base):
        raise InvalidKeyError(f"The path {text[:200]!r} leads out of the workspace.")
    return real


def open_regular(root: Path, path: Path) -> BinaryIO:
    """Open a regular file under `root` by its real path; a link that takes its place meanwhile is not followed.

    Each step is opened below the one before (O_NOFOLLOW), so that nobody can swap a folder for a link in between.

    Raises:
        ObjectNotFoundError: it is absent, no regular file, or a link by now.
        BackendUnavailableError: it cannot be read.
    """
    *folders, name = path.relative_to(root).parts or (".",)
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for step, flags in [*((folder, os.O_DIRECTORY) for folder in folders), (name, os.O_NONBLOCK)]:
            inner = os.open(step, os.O_RDONLY | os.O_NOFOLLOW | flags, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ObjectNotFoundError(f"{path.name} is not a regular file.")
        return os.fdopen(os.dup(descriptor), "rb")
    except PermissionError as error:
        raise BackendUnavailableError(f"{path.name} cannot be read: permission denied.") from error
    except OSError as error:
        raise ObjectNotFoundError(f"There is no file {path.name}.") from error
    finally:
        os.close(descriptor)


def leave_file(folder: Path, name: str, source: Source) -> tuple[Path, int]:
    """Write a stream into a new file of a folder, which is made; gives its path and size.

    The name is `name` as far as a file can have it; where that is taken it gets a mark of its own.
    """
    folder.mkdir(exist_ok=True)
    path = folder / _file_name(name)
    if os.path.lexists(path):
        path = path.with_name(f"{path.stem}-{uuid4().hex[:8]}{path.suffix}")
    with path.open("xb") as file:
        while block := source.read(_BLOCK):
            file.write(block)
        return path, file.tell()


def _file_name(name: str) -> str:
    """Make the name of a file: no folders, not hidden, and short enough, with its extension."""
    wanted = PurePosixPath(name.replace("/", "_").lstrip(".") or "output")
    suffix = wanted.suffix if len(wanted.suffix.encode()) <= _MOST_BYTES // 4 else ""
    stem = wanted.name.removesuffix(suffix).encode()[: _MOST_BYTES - len(suffix.encode())]
    return f"{stem.decode('utf-8', 'ignore')}{suffix}"


def _is_inside(path: Path, root: Path) -> bool:
    return path == root or path.is_relative_to(root)
