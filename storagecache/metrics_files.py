"""Room for the files in which prometheus-client keeps a process's numbers, taken before it maps them into memory.

It makes them sparse. When the disk is full, the first number behind a page then kills the process (SIGBUS): a service
must not die of being counted. Where no room is left, the process keeps its numbers to itself.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Final

from storagecache.environment import METRICS_VARIABLE, Environment, keep_own_metrics

# By the names that prometheus-client gives its files (its values.py): bytes, several times what all labels need.
_SIZES: Final = {"counter": 256 << 10, "histogram": 1 << 20, "gauge_mostrecent": 64 << 10}
logger = logging.getLogger(__name__)


def prepare() -> None:
    """Take the room in the folder of the run, if there is one."""
    folder = Environment.current().metrics_folder
    if folder is None:
        return
    try:
        for name, size in _SIZES.items():
            _reserve(folder / f"{name}_{os.getpid()}.db", size)
    except OSError as error:
        keep_own_metrics()
        logger.warning("metrics kept apart variable=%s reason=%s", METRICS_VARIABLE, error)


def _reserve(path: Path, size: int) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if hasattr(os, "posix_fallocate"):  # not on macOS
            os.posix_fallocate(descriptor, 0, size)
    finally:
        os.close(descriptor)
