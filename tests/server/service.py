"""The whole service as its supervisor runs it, for tests that talk to it over sockets."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.postgresql import database_of
from tests.server.processes import PROJECT, answers, descendants, free_port, until, variables
from tests.server.wire import Answer, Wire, ask, connected


@dataclass(frozen=True, slots=True)
class Service:
    """A running service that keeps its data in `folder`."""

    port: int
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def assets(self) -> Path:
        """The folder of the asset bucket."""
        return self.folder / "config" / "assets"

    def ask(self, method: str, target: str, *headers: str, body: bytes | None = None) -> Answer:
        """Make one request on a connection of its own."""
        return ask(self.port, method, target, *headers, body=body)

    @contextmanager
    def connected(self) -> Iterator[Wire]:
        """Give a connection to it."""
        with connected(self.port) as wire:
            yield wire

    def members(self) -> list[int]:
        """Give the ids of all its processes."""
        return [self.process.pid, *descendants(self.process.pid)]

    def manage(self, *arguments: str) -> str:
        """Run a management command on its data and give what it prints."""
        command = [sys.executable, "manage.py", *arguments]
        environment = self._environment()
        done = subprocess.run(command, cwd=PROJECT, env=environment, check=True, capture_output=True, text=True)
        return done.stdout

    def _environment(self) -> dict[str, str]:
        raw = Path(f"/proc/{self.process.pid}/environ").read_bytes()
        return dict(pair.split("=", 1) for pair in os.fsdecode(raw).split("\0") if "=" in pair)


@contextmanager
def serving(folder: Path, *, project: Path = PROJECT, **extra: str) -> Iterator[Service]:
    """Run the service, the code of `project` with `extra` variables; its process group is killed after the block."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    own = {} if extra.get("ASSET_STORAGE") == "memory" else database_of(folder)  # memory has a catalog of its own
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "nodetool_site.supervisor"],
            cwd=project,
            env=variables(folder, port) | {"ADMIN_PASSWORD": "admin-password"} | own | extra,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        until(lambda: process.poll() is not None or answers(port))
        assert process.poll() is None, (folder / "log").read_text()[-2000:]
        yield Service(port, folder, process)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
