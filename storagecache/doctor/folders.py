"""The folders on disk: a file is really written, synced, moved and removed in each, as an upload would."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from storagecache.doctor.registry import FILE_PERMISSIONS, Outcome, failed, ok, part
from storagecache.environment import Environment

_PREFIX: Final = ".doctor-"  # hidden: no object is named so
_PERMISSION: Final = frozenset({errno.EACCES, errno.EPERM})
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


@part("folders", seconds=20)
def try_folders(environment: Environment) -> Iterator[Outcome]:
    """Try every folder that is there; one that is not is made at first use."""
    for name, folder in folders_of(environment).items():
        yield _try_folder(name, folder)
    if environment.storage_kind == "filesystem":
        yield from _try_move(environment.staging_folder, environment.asset_folder)


def folders_of(environment: Environment) -> dict[str, Path]:
    """Give the folders that this configuration writes to, by the variable that moves them."""
    areas = {
        "ASSET_FOLDER": environment.asset_folder,
        "TEMP_FOLDER": environment.temp_folder,
        "the node cache": environment.cache_folder,
    }
    return {
        "NODETOOL_CONFIG_DIR": environment.config_folder,
        **(areas if environment.storage_kind == "filesystem" else {}),
        "STAGING_FOLDER": environment.staging_folder,
        "WORKSPACE_DIR": environment.workspace_folder,
        **({} if environment.database_url else {"DB_PATH": environment.catalog_path.parent}),
    }


def _try_folder(name: str, folder: Path) -> Outcome:
    tried = f"{name}: {folder} takes a file"
    try:
        if not folder.exists():
            return _absent(tried, name, folder)
        _write_and_move(folder, folder)
    except OSError as error:
        return _refused(tried, name, folder, error)
    return ok(tried, "written, synced, renamed and removed")


def _try_move(staging: Path, assets: Path) -> Iterator[Outcome]:
    """Move a file from staging into the assets: what ends each upload."""
    if not (staging.exists() and assets.exists()):
        return
    tried = f"a staged file moves from {staging} to {assets}"
    try:
        _write_and_move(staging, assets)
    except OSError as error:
        yield _refused(tried, "STAGING_FOLDER", staging, error)
    else:
        yield ok(tried)


def _absent(tried: str, name: str, folder: Path) -> Outcome:
    if folder.is_symlink():
        detail = f"{folder} is a link to {os.readlink(folder)}, which is not there."
        return failed(tried, detail, f"Mount or make what it leads to, or set {name} to another folder.")
    return ok(tried, "not there yet: it is made at first use")


def _write_and_move(folder: Path, target: Path) -> None:
    fd, path = tempfile.mkstemp(prefix=_PREFIX, dir=folder)
    moved = target / f"{Path(path).name}.moved"
    try:
        try:
            os.write(fd, b"doctor")
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(path, moved)
    finally:
        for leftover in (path, moved):
            with suppress(OSError):
                os.unlink(leftover)


def _refused(tried: str, name: str, folder: Path, error: OSError) -> Outcome:
    trouble = FILE_PERMISSIONS if error.errno in _PERMISSION else ""
    return failed(tried, f"{error.strerror}.{_owner(folder)}", _remedy(name, folder, error), trouble=trouble)


def _remedy(name: str, folder: Path, error: OSError) -> str:
    if error.errno in _PERMISSION:
        return (
            f"Run `chown -R {os.geteuid()} {folder}` or let its owner run the service; in a container, mount it "
            f"writable for user {os.geteuid()}."
        )
    if error.errno in _FULL:
        return f"Free space or inodes on the filesystem of {folder}, or raise the quota."
    if error.errno == errno.EXDEV:
        return "Unset STAGING_FOLDER, or set it to a folder on the filesystem of the assets."
    if error.errno == errno.EROFS:
        return f"Mount the filesystem of {folder} for writing, or set {name} to another folder."
    return f"Mend {folder}, or set {name} to another folder; the kernel's log may tell more."


def _owner(folder: Path) -> str:
    try:
        status = folder.stat()
    except OSError:
        return ""
    return (
        f" The folder belongs to user {status.st_uid} (mode {status.st_mode & 0o7777:04o}); "
        f"this is user {os.geteuid()}."
    )
