"""What a job left: the regular files below its outputs folder become assets. Trusts nothing about that folder.

A job writes there as it likes: links, pipes, devices, a folder that is a link. Every level is opened relative to the
one above and without following links; what is no regular file with one name is not opened and is reported.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from django.contrib.auth.models import AbstractBaseUser

from assets.models import Asset
from assets.services import AssetDetails, create_asset
from assets.workflows.mounts import OUTPUTS_NAME, RESULT_NAME
from storagecache.environment import Environment
from storagecache.errors import StorageError

MOST_OUTPUTS: Final = 1000
_MOST_LEVELS: Final = 16
_RESULT_BYTES: Final = 1 << 20
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What is recorded of an output: who made it, where, and from what."""

    user: AbstractBaseUser
    job_id: str
    workflow_id: str = ""
    node_id: str = ""
    sources: tuple[UUID, ...] = ()


@dataclass(slots=True)
class Collected:
    """What came of the outputs: assets in the order of their paths, and a line for each thing that was left out."""

    assets: list[Asset] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def is_full(self) -> bool:
        """Tell whether the next file would be one too many."""
        return len(self.assets) + len(self.problems) >= MOST_OUTPUTS


def collect_outputs(workspace: str, origin: Origin) -> Collected:
    """Register every regular file below `<workspace>/outputs`; what is registered is removed there.

    One that fails does not keep the others. Names are those of the files; `metadata.output` is the path.
    """
    collected = Collected()
    try:
        with _folder(OUTPUTS_NAME, os.open(workspace, _FOLDER), owned=True) as folder:
            _collect(folder, "", origin, collected)
    except OSError as error:
        collected.problems.append(f"{OUTPUTS_NAME}: {error.strerror}")
    return collected


def read_result(workspace: str) -> bytes | None:
    """Give what the callable returned, as JSON, at most 1 MiB; None when there is none that can be read."""
    with _folder(".", os.open(workspace, _FOLDER), owned=True) as folder:
        try:
            with _regular_file(folder, RESULT_NAME) as descriptor, os.fdopen(os.dup(descriptor), "rb") as stream:
                data = stream.read(_RESULT_BYTES + 1)
        except (OSError, _RefusedError):
            return None
    return data if len(data) <= _RESULT_BYTES else None


class _RefusedError(Exception):
    """Not a regular file with one name."""


def _collect(folder: int, prefix: str, origin: Origin, collected: Collected) -> None:
    for name in sorted(os.listdir(folder)):
        path = f"{prefix}{name}"
        if collected.is_full:
            collected.problems.append(f"{_shown(path)}: more than {MOST_OUTPUTS} outputs; the rest is left out")
            return
        try:
            _take(folder, name, path, origin, collected)
        except (_RefusedError, StorageError) as error:
            collected.problems.append(f"{_shown(path)}: {error}")
        except OSError as error:
            collected.problems.append(f"{_shown(path)}: {error.strerror}")


def _take(folder: int, name: str, path: str, origin: Origin, collected: Collected) -> None:
    if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        if path.count("/") >= _MOST_LEVELS:
            raise _RefusedError(f"more than {_MOST_LEVELS} folders deep")
        with _folder(name, folder) as inner:
            _collect(inner, f"{path}/", origin, collected)
        return
    with _regular_file(folder, name) as descriptor:
        collected.assets.append(_register(descriptor, _shown(name), _shown(path), origin))
    os.unlink(name, dir_fd=folder)  # the next job of this workspace must not take it for its own


def _register(descriptor: int, name: str, path: str, origin: Origin) -> Asset:
    details = AssetDetails(
        workflow_id=origin.workflow_id,
        job_id=origin.job_id,
        node_id=origin.node_id,
        sources=origin.sources,
        metadata={"output": path},
    )
    with os.fdopen(os.dup(descriptor), "rb") as stream:
        return create_asset(owner=origin.user, name=name, content=stream, details=details)


@contextmanager
def _folder(name: str, above: int, *, owned: bool = False) -> Iterator[int]:
    """Open a folder inside another; `owned`: the other is closed too."""
    try:
        descriptor = os.open(name, _FOLDER, dir_fd=above)
    finally:
        if owned:
            os.close(above)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _regular_file(folder: int, name: str) -> Iterator[int]:
    """Open a regular file: looked at before, since opening a device acts, and after, since it may have been swapped."""
    _refuse_others(os.stat(name, dir_fd=folder, follow_symlinks=False))
    descriptor = os.open(name, _FILE, dir_fd=folder)
    try:
        status = os.fstat(descriptor)
        _refuse_others(status)
        _refuse_large(status)
        yield descriptor
    finally:
        os.close(descriptor)


def _refuse_others(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = "a link" if stat.S_ISLNK(status.st_mode) else "no regular file"
        raise _RefusedError(f"{kind}; left out")
    if status.st_nlink > 1:
        raise _RefusedError("it has other names elsewhere (a hard link); left out")


def _refuse_large(status: os.stat_result) -> None:
    """Refuse before a byte is read: a file of holes costs its job nothing, and reading it would take hours."""
    most = Environment.current().max_upload_bytes
    if status.st_size > most:
        raise _RefusedError(f"{status.st_size} bytes are more than MAX_UPLOAD_BYTES ({most}); left out")


def _shown(name: str) -> str:
    """Give the name as text, whatever bytes it holds; no control characters, which a catalog's readers would act on."""
    text = os.fsencode(name).decode("utf-8", "replace")
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
