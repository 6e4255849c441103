"""Real processes for the tests of this folder: started with clean variables, watched through /proc, ended by id."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.ports import free_ports

PROJECT = Path(__file__).resolve().parent.parent.parent
DEADLINE = 60  # seconds; a generous bound, so that a failing test ends


def free_port() -> int:
    """Give a port that nobody listens on, nor gets by connecting somewhere while a service of ours is down."""
    return free_ports(1)


def variables(folder: Path, port: int) -> dict[str, str]:
    """Give the whole environment of a service that keeps its data in `folder`."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "NODETOOL_CONFIG_DIR": str(folder / "config"),
        "PORT": str(port),
    }


@contextmanager
def running(folder: Path, port: int, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run python with `arguments` as the leader of a process group; what is left of the group is killed at the end."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=PROJECT,
        env=variables(folder, port),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def kill(process: int) -> None:
    """Kill by id; one that is gone is fine."""
    with suppress(ProcessLookupError):
        os.kill(process, 9)


def descendants(root: int) -> list[int]:
    """Give the ids of all processes below `root`."""
    found = [root]
    for process in found:
        found.extend(_children(process))
    return found[1:]


def alive(process: int) -> bool:
    """Tell whether a thread of a process runs; a zombie does not, but others may still hold files beside it."""
    try:
        threads = list(Path(f"/proc/{process}/task").iterdir())
    except OSError:
        return False
    return any(map(_runs, threads))


def _runs(thread: Path) -> bool:
    try:
        return (thread / "stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


def until(condition: Callable[[], object]) -> None:
    """Wait for a condition of another process.

    Raises:
        TimeoutError: it did not come true before the deadline.
    """
    deadline = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not true after {DEADLINE} s: {condition}")
        time.sleep(0.02)


def answers(port: int) -> bool:
    """Tell whether an HTTP server answers on the port, with whatever status."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            return client.recv(5) == b"HTTP/"
    except OSError:
        return False


def listens(port: int) -> bool:
    """Tell whether anything listens on the port."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def _children(process: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:
        return []
