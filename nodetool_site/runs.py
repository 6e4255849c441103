"""The folder of one run of the supervisor, where its processes keep their numbers. It goes with the run."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path


@contextmanager
def run_folder(parent: Path, name: str) -> Iterator[Path]:
    """Make the folder of a run, removed behind the block. Those of killed supervisors are removed first.

    A lock on the folder tells that its run lives: it ends with the process, however that ends.
    """
    parent.mkdir(parents=True, exist_ok=True)
    folder = parent / f"{name}-{socket.gethostname()}-{os.getpid()}"
    with ExitStack() as stack:
        with _locked(parent):  # between making a folder and locking it, another start would take it for a dead one
            for left in parent.iterdir():
                _remove_if_dead(left)
            folder.mkdir(exist_ok=True)
            stack.enter_context(_locked(folder))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path, *, or_fail: bool = False) -> Iterator[None]:
    """Hold the lock of a folder.

    Raises:
        OSError: there is no such folder; or, with `or_fail`, another process holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (fcntl.LOCK_NB if or_fail else 0))
        yield
    finally:
        os.close(descriptor)


def _remove_if_dead(folder: Path) -> None:
    with suppress(OSError), _locked(folder, or_fail=True):  # held: its run lives
        shutil.rmtree(folder, ignore_errors=True)
