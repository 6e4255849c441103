"""The strategy `subprocess`: a job in processes of its own, with an environment made for it.

No boundary for hostile code: the job runs as the user of the service and could open the service's files. It inherits
no variable and no descriptor, and it and all its descendants end with the service.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from assets.workflows import inside, keeper
from assets.workflows.execution import ExecutionError, Launch, LogTail, OnThisMachine, Running
from storagecache.environment import PROJECT_FOLDER

_BLOCK: Final = 64 << 10
_END_SECONDS: Final = 10.0  # a keeper that takes longer is killed itself
_PATH: Final = f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class SubprocessExecution(OnThisMachine):
    """Runs callables with this Python, and commands, in a process group that a keeper watches."""

    strategy: str = field(default="subprocess", init=False)

    def start(self, launch: Launch, log: LogTail) -> Running:
        """Start the keeper, which starts the job."""
        try:
            process = subprocess.Popen(  # noqa: S603  # what to run is the caller's decision: no route leads here
                [sys.executable, "-I", keeper.__file__, "process", *_command(launch)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=launch.layout.workspace,
                env=_variables(launch),
                start_new_session=True,
            )
        except OSError as error:
            raise ExecutionError(
                f"No process can be started: {error.strerror}.", "Check memory and ulimits."
            ) from error
        return _RunningProcess(process, log)


def _command(launch: Launch) -> list[str]:
    if launch.task.command:
        return list(launch.task.command)
    return [sys.executable, "-P", inside.__file__, launch.layout.workspace, launch.layout.scratch]


def _variables(launch: Launch) -> dict[str, str]:
    """Give the whole environment of the job; only Python's path gets what the service itself imports from."""
    path = ":".join(part for part in (launch.variables.get("PYTHONPATH"), str(PROJECT_FOLDER)) if part)
    return {"PATH": _PATH, "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1", **launch.variables, "PYTHONPATH": path}


class _RunningProcess:
    """A job below its keeper; the keeper ends it when its standard input ends."""

    def __init__(self, process: subprocess.Popen[bytes], log: LogTail) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._lifeline = process, process.stdin
        self._reader = threading.Thread(target=_read, args=(process.stdout, log), daemon=True)
        self._reader.start()

    def wait(self, seconds: float) -> int | None:
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        with suppress(OSError):
            self._lifeline.close()

    def close(self) -> None:
        self.kill()
        if self.wait(_END_SECONDS) is None:
            self._process.kill()
            self._process.wait()
        self._reader.join(_END_SECONDS)


def _read(stream: IO[bytes], log: LogTail) -> None:
    with stream:
        while block := stream.read1(_BLOCK):  # type: ignore[attr-defined]  # a BufferedReader
            log.write(block)
