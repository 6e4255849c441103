"""The folder of one run of the supervisor, where its processes keep their numbers. It goes with the run."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def run_folder(parent: Path, name: str) -> Iterator[Path]:
    """Make the folder of a run, removed behind the block. Those of killed supervisors are removed first.

    A lock on the folder tells that its run lives: it ends with the process, however that ends.
    """
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.iterdir():
        _remove_if_dead(left)
    folder = parent / f"{name}-{socket.gethostname()}-{os.getpid()}"
    folder.mkdir(exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _remove_if_dead(folder: Path) -> None:
    with suppress(OSError):  # locked: its run lives; or gone meanwhile
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(descriptor)
