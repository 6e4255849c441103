"""Ends a process when the process that started it is gone, however that one ended. Knows no server and no settings."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

LOOK_EVERY = 0.5  # seconds between two looks at the parent where the kernel does not tell
PR_SET_PDEATHSIG = 1  # prctl(2)


def die_with(parent: int) -> None:
    """Kill this process as soon as its parent, process id `parent`, ends, even by SIGKILL; at once when it is gone.

    On Linux the kernel does it; elsewhere, and should the kernel refuse, a thread looks twice a second. Call it from
    the process itself: neither the request nor the thread survives a fork.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    _end_if_orphaned(parent)
    threading.Thread(target=_watch, args=(parent,), name="lifeline", daemon=True).start()


def _watch(parent: int) -> None:
    while True:
        time.sleep(LOOK_EVERY)
        _end_if_orphaned(parent)


def _end_if_orphaned(parent: int) -> None:
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
