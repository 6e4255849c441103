"""`python -m nodetool_site.supervisor [web] [worker]`: starts both or one, restarts what dies, ends them with itself.

Here are processes, signals and the port. What is served lives in `nodetool_site.web`; `prepare`, which runs first, and
`worker` are management commands. All stay in the supervisor's process group: a terminal's Ctrl-C reaches them too.
"""

from __future__ import annotations

import errno
import logging
import logging.config
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import FrameType

from nodetool_site import logs
from nodetool_site.runs import run_folder
from storagecache.environment import Environment, for_child, share_metrics
from storagecache.interrupts import on_signals
from storagecache.variables import ConfigurationError

logger = logging.getLogger("nodetool_site.supervisor")  # run as a program, its own name is __main__

LOOK_EVERY = 0.1  # seconds between two looks at the children
STOP_SECONDS = 5.0  # how long children may take to stop before they are killed; above nodetool_site.web.STOP_SECONDS
PORT_PATIENCE = 2.0  # seconds a port may still belong to a predecessor that is just ending
QUICK = 10.0  # seconds: a child that ends sooner failed at its start
MAX_QUICK_FAILURES = 5  # in succession; then the cause will not go away by itself
FIRST_DELAY, LONGEST_DELAY = 0.2, 5.0  # seconds before a restart; doubled each time
# granian allocates with jemalloc, which keeps what was freed for each of hundreds of threads: 256 connections that read
# 100 KB cost 130 MB that way, and 60 with caches for nobody and two arenas (docs/decisions/0002-web-server.md).
WEB_VARIABLES = {"_RJEM_MALLOC_CONF": "narenas:2,tcache:false"}
KILLED = -signal.SIGKILL  # by the kernel for its memory, or by somebody: no sign that a start fails
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StartError(Exception):
    """The service cannot start or go on; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Program:
    """One thing to keep running: its name in messages and its command line."""

    name: str
    command: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)  # for it alone; what the environment says comes first


def restart_delay(failures: int) -> float:
    """Give the seconds to wait before a restart after `failures` (1 or more) quick failures in succession."""
    return min(FIRST_DELAY * 2.0 ** (failures - 1), LONGEST_DELAY)


@dataclass(slots=True)
class Child:
    """One program and the process that runs it now."""

    program: Program
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0  # time.monotonic()
    start_after: float = 0.0  # time.monotonic(); a restart waits for it
    failures: int = 0  # quick ones, in succession

    def start(self) -> None:
        """Start the process; it reads nothing from the terminal."""
        environment = for_child(self.program.variables)
        self.process = subprocess.Popen(self.program.command, stdin=subprocess.DEVNULL, env=environment)  # noqa: S603 (ours)
        self.started_at = time.monotonic()
        logger.info("%s started pid=%d", self.program.name, self.process.pid)

    def look(self) -> None:
        """Notice an end and start anew when its time has come.

        Raises:
            StartError: it failed right after its start too many times in succession.
        """
        if self.process is not None and self.process.poll() is not None:
            self._ended(self.process.returncode)
        if self.process is None and time.monotonic() >= self.start_after:
            self.start()

    def _ended(self, status: int) -> None:
        self.process = None
        quick = time.monotonic() - self.started_at < QUICK and status != KILLED
        self.failures = self.failures + 1 if quick else 1
        if self.failures >= MAX_QUICK_FAILURES:
            raise StartError(
                f"{self.program.name} ended {self.failures} times right after its start; see the lines above"
            )
        delay = restart_delay(self.failures)
        self.start_after = time.monotonic() + delay
        logger.error("%s ended unexpectedly status=%d restart_in=%.1f", self.program.name, status, delay)


@dataclass(slots=True)
class Supervisor:
    """Keeps programs running until it is told to stop."""

    programs: Sequence[Program]
    stop_seconds: float = STOP_SECONDS
    _children: list[Child] = field(default_factory=list)
    _stopping: bool = False

    def run(self) -> None:
        """Start everything and return when a signal asked to stop and all children have ended.

        Raises:
            StartError: a program does not stay up.
        """
        sleep = on_signals(STOP_SIGNALS, self._stop)
        self._children = [Child(program) for program in self.programs]
        try:
            while not self._stopping:
                for child in self._children:
                    child.look()
                sleep(LOOK_EVERY)
        finally:
            self._end_children()

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _end_children(self) -> None:
        running = [child.process for child in self._children if child.process is not None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + self.stop_seconds
        for process in running:
            _wait_or_kill(process, deadline)
        logger.info("stopped")


def _wait_or_kill(process: subprocess.Popen[bytes], deadline: float) -> None:
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def raise_open_files_limit() -> None:
    """Raise the soft limit of open files to the hard one: hundreds of transfers need two each."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):  # macOS gives "unlimited" and then refuses it
        logger.debug("the limit of open files stays as it is")


def check_port(host: str, port: int, *, patience: float = PORT_PATIENCE) -> None:
    """Make sure that the port can be bound: web processes share it by SO_REUSEPORT, so that a second service would
    start beside the first without any error.

    Raises:
        StartError: it belongs to another program, or HOST or PORT cannot be bound here.
    """
    deadline = time.monotonic() + patience
    while error := _bind_error(host, port):
        if error.errno != errno.EADDRINUSE or time.monotonic() >= deadline:
            raise StartError(_explain(error, host, port)) from error
        time.sleep(LOOK_EVERY)


def _bind_error(host: str, port: int) -> OSError | None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections just closed do not count
            probe.bind(address)
    except OSError as error:
        return error
    return None


def _explain(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"PORT={port} on {host} is in use by another program: end that one or set PORT to a free port"
    if error.errno == errno.EACCES:
        return f"PORT={port} may not be bound by this user: set PORT to 1024 or more"
    return f"HOST={host} cannot be bound ({error.strerror}): set HOST to an address of this machine"


def programs(*names: str) -> tuple[Program, ...]:
    """Give the programs of the service, or those that are named; each learns the supervisor's id, to end with it.

    Raises:
        StartError: there is none of a name.
    """
    known = {
        "web": replace(_module("web", "web"), variables=WEB_VARIABLES),
        "worker": _module("worker", "command", "worker"),
    }
    if unknown := [name for name in names if name not in known]:
        raise StartError(f"there is no program {unknown[0]!r}: name web or worker, or nothing for both")
    return tuple(program for name, program in known.items() if not names or name in names)


def preparation() -> Program:
    """Give what must have succeeded before anything serves: migrations and the first admin."""
    return _module("prepare", "command", "prepare")


def prepare(program: Program) -> None:
    """Run a program to its end.

    Raises:
        StartError: it failed, having said why.
    """
    if subprocess.run(program.command, stdin=subprocess.DEVNULL, check=False).returncode:  # noqa: S603 (our own)
        raise StartError(f"{program.name} failed, so nothing is served; see the lines above")


def _module(name: str, module: str, *arguments: str) -> Program:
    return Program(name, (sys.executable, "-m", f"nodetool_site.{module}", str(os.getpid()), *arguments))


def guarded(run: Callable[[], None]) -> int:
    """Run, and give the exit status; an error the user can mend is one line, not a traceback."""
    try:
        run()
    except (ConfigurationError, StartError) as error:
        print(f"NodeTool Storage: {error}", file=sys.stderr)  # noqa: T201 (logging may be off; this must be seen)
        return 1
    return 0


def serve() -> None:
    """Run the service as the environment describes it."""
    environment = Environment.current()
    logging.config.dictConfig(
        logs.configuration(environment.log_level, form=environment.log_format, secrets=environment.secrets())
    )
    raise_open_files_limit()
    chosen = programs(*sys.argv[1:])
    if chosen[0].name == "web":
        check_port(environment.host, environment.port)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the children are up, Ctrl-C ends without a traceback
    with run_folder(environment.config_folder / "metrics", "-".join(p.name for p in chosen)) as folder:
        share_metrics(folder)
        prepare(preparation())
        if chosen[0].name == "web":
            logger.info("serving on http://%s:%d", environment.host, environment.port)
        Supervisor(chosen).run()


if __name__ == "__main__":
    sys.exit(guarded(serve))
