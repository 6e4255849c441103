"""Which process works on something that one process at a time may do, as a text that rows can keep."""

from __future__ import annotations

import os
import socket
from uuid import uuid4


def new_holder() -> str:
    """Name this process, in this piece of work."""
    return f"{socket.gethostname()}/{os.getpid()}/{uuid4().hex}"


def place_of(holder: str) -> tuple[str, int]:
    """Give the host and the process id of a holder; no host and 0 when there is none."""
    host, _, rest = holder.partition("/")
    return host, int(rest.partition("/")[0] or 0)


def is_process(pid: int) -> bool:
    """Tell whether there is a process of this id on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
