"""A small process between the service and a job, so that no process and no container of a job outlives the service.

Its standard input is a pipe whose other end only the service holds: when that ends, however it ended, the keeper ends
the job. Runs as a script with the standard library alone (and `docker` where it keeps a container).

    python -P keeper.py process COMMAND...          runs the command; its exit code is the command's
    python -P keeper.py container NAME [URL]        removes the container when the service dies
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1  # prctl(2)
PR_SET_CHILD_SUBREAPER = 36
LOOK_EVERY = 0.5  # seconds between two looks at the parent, should a fork of the service hold the pipe open
NOT_STARTED = 127  # exit code, as of a shell


def keep_process(command: Sequence[str]) -> int:
    """Run a command, and end it with all its descendants when the service dies or the command itself ends."""
    parent = os.getppid()
    _control(PR_SET_CHILD_SUBREAPER, 1)  # orphans of the job come to this process, wherever they put themselves
    woken = _wake_on(signal.SIGCHLD)
    child = _start(command)
    code: int | None = None
    while code is None and not _is_over(woken, parent):
        code = _reap(child)
    _end_descendants()
    return 128 + signal.SIGKILL if code is None else code


def keep_container(remove: Callable[[], None]) -> int:
    """Wait for the end of the service, then remove its container; a line on the pipe says it is removed already."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # what ends the service must not end its keeper first
    parent, told = os.getppid(), b""
    while os.getppid() == parent:
        if select.select([0], [], [], LOOK_EVERY)[0]:
            told = os.read(0, 1)
            break
    if not told:
        remove()
    return 0


def _start(command: Sequence[str]) -> int:
    child = os.fork()
    if child == 0:
        try:
            _control(PR_SET_PDEATHSIG, signal.SIGKILL)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # the pipe is the keeper's
            os.execvp(command[0], list(command))  # noqa: S606  # no shell on purpose
        except OSError as error:
            os.write(2, f"{command[0]}: {error.strerror}\n".encode())
        finally:
            os._exit(NOT_STARTED)
    return child


def _is_over(woken: int, parent: int) -> bool:
    """Wait a little for news; tell whether the service is gone."""
    ready, _, _ = select.select([0, woken], [], [], LOOK_EVERY)
    if woken in ready:
        os.read(woken, 4096)
    return 0 in ready or os.getppid() != parent


def _reap(child: int) -> int | None:
    """Collect what has ended; returns the exit code of the command, once it is among them."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return NOT_STARTED
        if pid == 0:
            return None
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return 128 - code if code < 0 else code


def _end_descendants() -> None:
    """Kill every process below this one; those that are orphaned by it come here and are killed in the next round."""
    while True:
        for pid in _children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def _wake_on(number: signal.Signals) -> int:
    """Give a descriptor that becomes readable when the signal comes."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    return reading


def _control(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value)


def _remove_container(name: str, url: str | None) -> None:
    """Remove the container; look again a little later, since the engine may still be making it."""
    import docker

    client = docker.DockerClient(base_url=url)
    for pause in (0.5, 1, 2, 0):
        with contextlib.suppress(docker.errors.NotFound):
            client.containers.get(name).remove(force=True, v=True)
            return
        time.sleep(pause)


def main(arguments: Sequence[str]) -> int:
    """Keep what the arguments say."""
    kind, *rest = arguments
    if kind == "process":
        return keep_process(rest)
    return keep_container(lambda: _remove_container(rest[0], rest[1] if len(rest) > 1 else None))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
