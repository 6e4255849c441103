"""Strategies: how a planned job is run. One small interface, and the first strategy: a thread of this process.

The others live in `execution_subprocess` and `execution_docker`. What happens before and after, the same for all,
lives in `jobs`.
"""

from __future__ import annotations

import ctypes
import importlib
import logging
import os
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from django.db import connection

from assets.workflows import inside
from assets.workflows.mounts import Input, Layout, MountPlan, plan_for_host
from assets.workflows.tasks import Task
from storagecache.environment import Environment

KILLED: Final = 137  # exit code of what was killed, as of a shell
TAIL_BYTES: Final = 64 << 10
GUIDE: Final = "docs/troubleshooting.md"
_STOP_SECONDS: Final = 10.0  # given to a thread, which nobody can kill
_SHORT: Final = 4  # characters; a shorter line of a secret of many would take half of the log along

logger = logging.getLogger(__name__)


class ExecutionError(RuntimeError):
    """A job that cannot be started; the message says why and how to mend it, and names the guide."""

    def __init__(self, problem: str, remedy: str) -> None:
        """Join problem and remedy."""
        self.problem, self.remedy = problem, remedy
        super().__init__(f"{problem} {remedy} See {GUIDE}.")


@dataclass(frozen=True, slots=True)
class Owner:
    """The user that a job runs as, and that has to own what it writes."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A job that is ready to run: its folders hold what the plan names."""

    job_id: str
    task: Task
    layout: Layout
    plan: MountPlan
    variables: Mapping[str, str] = field(repr=False)  # secrets included


class Running(Protocol):
    """A job under way. Safe for threads."""

    def wait(self, seconds: float) -> int | None:
        """Wait for the end; gives the exit code, or None when it is still running."""
        ...

    def kill(self) -> None:
        """End the job and everything it started; does nothing when it has ended."""
        ...

    def close(self) -> None:
        """Wait until nothing of the job is left: no process, no container, no log unread."""
        ...


class Execution(Protocol):
    """A way to run jobs. Stateless: one value may run any number of jobs at once."""

    @property
    def strategy(self) -> str:
        """The name in the record: threaded, subprocess or docker."""
        ...

    def owner(self) -> Owner | None:
        """Give who runs the job; None for the user of the service."""
        ...

    def plan(
        self, environment: Environment, layout: Layout, inputs: Iterable[Input], secret_files: Iterable[str]
    ) -> MountPlan:
        """Plan mounts and variables."""
        ...

    def start(self, launch: Launch, log: LogTail) -> Running:
        """Start the job.

        Raises:
            ExecutionError: it cannot be started; nothing of it is left.
        """
        ...


class LogTail:
    """Takes what a job says, hands it on line by line and keeps the end; secrets are masked. Safe for threads.

    A listener that raises is told nothing more, and neither the job nor its log suffers.
    """

    def __init__(self, listener: Callable[[str], None] = lambda line: None, secrets: Iterable[str] = ()) -> None:
        """Listen with `listener`, which gets lines without their ends."""
        self._listener = listener
        self._secrets = sorted({part for secret in secrets for part in _parts(secret)}, key=len, reverse=True)
        self._lines: deque[str] = deque()
        self._kept = 0
        self._rest = b""
        self._lock = threading.Lock()

    def write(self, block: bytes) -> None:
        """Take the next bytes; a line ends with its newline, or at 64 KiB."""
        with self._lock:
            *lines, self._rest = (self._rest + block).split(b"\n")
            if len(self._rest) > TAIL_BYTES:
                lines, self._rest = [*lines, self._rest], b""
            for line in lines:
                self._take(line)

    def say(self, text: str) -> None:
        """Take a line of text."""
        self.write(text.encode("utf-8", "replace") + b"\n")

    def text(self) -> str:
        """Give the end of the log."""
        with self._lock:
            if self._rest:
                self._take(self._rest)
                self._rest = b""
            return "\n".join(self._lines)[-TAIL_BYTES:]

    def _take(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace").replace("\0", "\ufffd")  # PostgreSQL stores no NUL
        for secret in self._secrets:
            text = text.replace(secret, "***")
        self._lines.append(text)
        self._kept += len(text) + 1
        while self._kept > TAIL_BYTES and len(self._lines) > 1:
            self._kept -= len(self._lines.popleft()) + 1
        self._tell(text)

    def _tell(self, text: str) -> None:
        try:
            self._listener(text)
        except Exception:
            logger.exception("listener of the log of a job failed")
            self._listener = lambda line: None


def _parts(secret: str) -> list[str]:
    """Give what of a secret may stand in a line: of a key of many lines each."""
    lines = [line.strip() for line in secret.splitlines()]
    return [secret] if secret and len(lines) == 1 else [line for line in lines if len(line) >= _SHORT]


class JobStoppedError(SystemExit):
    """Raised inside the thread of a job that is to end. Not an Exception: a node must not take it for a failure.

    Of SystemExit a thread dies without a word, should it come when the node's own code has ended already.
    """


class OnThisMachine:
    """What strategies have in common that run a job on this machine, as the user of the service."""

    __slots__ = ()

    def owner(self) -> Owner | None:
        """Give None: the user of the service."""
        return None

    def plan(
        self, environment: Environment, layout: Layout, inputs: Iterable[Input], secret_files: Iterable[str]
    ) -> MountPlan:
        """Plan for this machine."""
        return plan_for_host(environment, layout, inputs, secret_files=secret_files)


@dataclass(frozen=True, slots=True)
class ThreadedExecution(OnThisMachine):
    """Runs callables in a thread of this process: the fastest start, and no isolation. A command is refused.

    Python cannot kill a thread: cancel and time limit raise in it at its next step, and `job.is_cancelled()` tells it.
    The variables of this process stay as they are.
    """

    strategy: str = field(default="threaded", init=False)

    def start(self, launch: Launch, log: LogTail) -> Running:
        """Start the thread."""
        if not launch.task.callable:
            raise ExecutionError("A command cannot run in a thread.", "Use the strategy subprocess or docker.")
        return _RunningThread(launch, log)


class _RunningThread:
    """A callable in its thread."""

    def __init__(self, launch: Launch, log: LogTail) -> None:
        self._launch, self._log = launch, log
        self._stop = threading.Event()
        self._killing = threading.Lock()
        self._code = KILLED
        self._thread = threading.Thread(target=self._run, name=f"job-{launch.job_id}", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> int | None:
        self._thread.join(seconds)
        return None if self._thread.is_alive() else self._code

    def kill(self) -> None:
        with self._killing:
            if self._stop.is_set() or self._thread.ident is None or not self._thread.is_alive():
                return  # a second one would come while the thread tidies up behind the first
            self._stop.set()
        number = ctypes.c_ulong(self._thread.ident)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(number, ctypes.py_object(JobStoppedError))

    def close(self) -> None:
        if self.wait(_STOP_SECONDS) is None:
            self._log.say("The thread does not stop; it goes on without being watched.")

    def _run(self) -> None:
        try:
            self._call()
            self._code = 0
        except JobStoppedError:
            self._log.say("Stopped.")
        except BaseException:  # noqa: BLE001  # whatever a node raises, its log says it
            self._code = 1
            self._log.say(traceback.format_exc())
        finally:
            connection.close()

    def _call(self) -> None:
        layout, task = self._launch.layout, self._launch.task
        if task.code:
            _find_code(task.code, task.callable.partition(":")[0].partition(".")[0])
        view = inside.JobView(
            layout.workspace, layout.scratch, log=self._log.say, is_cancelled=self._stop.is_set,
            variables=self._launch.variables,
        )  # fmt: skip
        inside.leave_result(view, inside.call(view))


def _find_code(folder: str, name: str) -> None:
    """Let modules of a folder be imported; refuse one whose name this process has taken from elsewhere.

    Raises:
        ImportError: the node would silently be another one than was asked for.
    """
    if folder not in sys.path:
        sys.path.append(folder)  # behind all else: it must not replace a module of the service
    wanted = Path(os.path.realpath(folder))
    if not any((wanted / each).exists() for each in (name, f"{name}.py")):
        return
    module: Any = importlib.import_module(name)
    places = [module.__file__] if getattr(module, "__file__", None) else list(getattr(module, "__path__", ()))
    if not any(Path(os.path.realpath(place)).is_relative_to(wanted) for place in places):
        raise ImportError(
            f"This process has another module {name} than that of {folder}: {', '.join(places) or 'a built-in one'}. "
            "Give it another name, or use the strategy subprocess."
        )
