"""Faults in system calls of a running service, put in by strace (Debian `strace`) attached to its processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.server.processes import alive, descendants, until
from tests.server.service import Service
from tests.servers import require

_DETACHING = 10  # seconds until strace must have let go of its processes


def web_processes(service: Service) -> list[int]:
    """Give the processes that answer: the children of granian's main process."""
    mains = [pid for pid in descendants(service.process.pid) if _words(pid)[2:3] == ["nodetool_site.web"]]
    return [child for pid in mains for child in descendants(pid)]  # forks say the same of themselves


def require_strace() -> None:
    """Skip where strace is absent or may trace nothing; a failure with REQUIRE_ALL=1."""
    require(shutil.which("strace"), "the Debian package strace")
    tried = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False)
    if tried.returncode:
        reason = f"strace may trace nothing here: {tried.stderr.decode(errors='replace').strip()}"
        if os.environ.get("REQUIRE_ALL") == "1":
            pytest.fail(f"REQUIRE_ALL=1, but {reason}")
        pytest.skip(reason)


@contextmanager
def injected(processes: list[int], calls: str, what: str) -> Iterator[None]:
    """Inject into these calls of these processes inside the block; `what` as in strace(1), "error=EIO:when=2+".

    A count is of each thread, from now on.
    """
    targets = [word for pid in processes for word in ("-p", str(pid))]
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", "-e", f"inject={calls}:{what}"]
    tracer = subprocess.Popen([*command, *targets], stderr=subprocess.PIPE)
    try:
        until(lambda: tracer.poll() is not None or all(_is_traced(pid, tracer.pid) for pid in processes))
        assert tracer.poll() is None, tracer.stderr.read() if tracer.stderr else ""
        yield
    finally:
        _end(tracer)


def _end(tracer: subprocess.Popen[bytes]) -> None:
    tracer.send_signal(signal.SIGINT)
    try:
        tracer.communicate(timeout=_DETACHING)
    except subprocess.TimeoutExpired:
        # strace may wait for ever for a thread of a process that it has just killed. The kernel lets go of all with it.
        tracer.kill()
        tracer.communicate()


def _is_traced(pid: int, tracer: int) -> bool:
    """Tell whether all threads of a process are traced."""
    if not alive(pid):
        return True
    threads = Path(f"/proc/{pid}/task").iterdir()
    return all(f"TracerPid:\t{tracer}\n" in _read(thread / "status") for thread in threads)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _words(pid: int) -> list[str]:
    return _read(Path(f"/proc/{pid}/cmdline")).split("\0")
