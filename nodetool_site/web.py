"""The embedded web server: granian, WSGI, a few processes of many threads (docs/decisions/0002-web-server.md).

Started by `nodetool_site.supervisor`, which gives its process id: `python -m nodetool_site.web <supervisor>`.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.mp import MPServer

from nodetool_site import logs
from nodetool_site.dispatch import Environ, install
from nodetool_site.lifeline import die_with
from storagecache.environment import Environment

APPLICATION = "nodetool_site.wsgi:application"
THREADS = 320  # per process: granian's, one for each body on its way in (see nodetool_site.dispatch)
IDLE_SECONDS = 5  # until one of those without work ends (the least): many make small answers slow
TRANSFERS = 800  # per process: ours, one for each download that waits for its reader; the kernel deals connections out
# unevenly to the processes (docs/decisions/0002-web-server.md)
CONNECTIONS = 2048  # per process: idle keep-alive connections hold no thread, but count here
BACKLOG = 2048
BUFFER = 64 * 1024  # bytes a connection may buffer; also the longest request head
STOP_SECONDS = 3  # how long a transfer in flight may go on after the order to stop


def processes(environment: Environment) -> int:
    """Give the number of web processes: one where the bytes live in the memory of the process, else two."""
    return 1 if environment.storage_kind == "memory" else 2


class WebServer(MPServer):
    """granian's server, which also keeps up a process that somebody kills again and again.

    granian ends as a whole, with every transfer in flight, when one process ends twice within 5.5 seconds. That is
    right for one that fails by itself, and wrong for one that the kernel chose for its memory.
    """

    def _respawn_workers(self, workers: list[int], *arguments: Any, **options: Any) -> None:
        if "delay" not in options:  # with it, living ones are replaced
            workers = self._ended(workers)
        killed = [index for index in workers if self.wrks[index].inner.exitcode == -signal.SIGKILL]
        super()._respawn_workers(workers, *arguments, **options)
        for index in killed:
            self.respawned_wrks.pop(index, None)  # what granian judges the next end by
        self._notice_missed_ends()

    def _ended(self, workers: list[int]) -> list[int]:
        """Keep those that are gone, each once: an end that was noticed here may be told once more, late."""
        return [index for index in dict.fromkeys(workers) if self.wrks[index].inner.exitcode is not None]

    def _notice_missed_ends(self) -> None:
        """Look for processes that ended while granian cleared its list: it never hears of them again."""
        for index, worker in enumerate(self.wrks):
            if worker.inner.exitcode is not None and index not in self.interrupt_children:
                self.interrupt_children.append(index)
                self.main_loop_interrupt.set()


def server(environment: Environment, application: str = APPLICATION) -> WebServer:
    """Make the server; nothing is bound yet."""
    return WebServer(
        application,
        address=environment.host,
        port=environment.port,
        interface=Interfaces.WSGI,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(max_buffer_size=BUFFER),
        websockets=False,
        workers=processes(environment),
        blocking_threads=THREADS,
        blocking_threads_idle_timeout=IDLE_SECONDS,
        backpressure=CONNECTIONS,
        backlog=BACKLOG,
        respawn_failed_workers=True,
        respawn_interval=0.1,
        workers_kill_timeout=STOP_SECONDS,
        log_dictconfig=log_configuration(environment),
        log_level=LogLevels.error,  # the supervisor says what happens; granian warns of our chosen number of threads
    )


def log_configuration(environment: Environment) -> dict[str, Any]:
    """Let granian's own loggers write as all others do."""
    made = logs.configuration(environment.log_level, form=environment.log_format, secrets=environment.secrets())
    return made | {"loggers": {"_granian": {}, "granian.access": {}}}


def load(parent: int, target: str) -> Callable[..., object]:
    """Import the application inside a web process, which from then on ends with granian's main process, `parent`."""
    die_with(parent)
    module, _, name = target.partition(":")
    imported = importlib.import_module(module)
    application: Callable[..., object] = getattr(imported, name)
    getattr(imported, "begin", _nothing_begins)()
    install(getattr(imported, "quick", _nothing_is_quick), TRANSFERS)
    return application


def _nothing_begins() -> None:
    """Begin nothing beside the answering of requests."""


def _nothing_is_quick(_environ: Environ) -> None:
    """Leave every request to the application."""


def main() -> None:
    """Serve until SIGTERM or SIGINT; end at once with the supervisor."""
    die_with(int(sys.argv[1]))
    server(Environment.current()).serve(target_loader=functools.partial(load, os.getpid()))


if __name__ == "__main__":
    main()
