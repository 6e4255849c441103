"""The topology of deploy/compose.yaml as plain processes: nginx, two web hosts, a worker and the engines behind them.

Each host has a configuration folder of its own; they share the secret key, the catalog, the bucket and Memcached.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.nginx import written
from tests.server.processes import PROJECT, answers, free_port, listens, until
from tests.server.wire import Answer, CutError, ask
from tests.servers import MemcachedServer, PostgresServer, SeaweedServer, Server

Variables = dict[str, str]


@dataclass(slots=True)
class Host:
    """One supervisor and its processes, as a container of ours would run them."""

    program: str
    port: int
    folder: Path
    variables: Variables
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; a web host is up behind this, a worker soon."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "nodetool_site.supervisor", self.program],
                cwd=PROJECT,
                env=self.variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if self.program == "web":
            until(lambda: self._is_up())

    def kill(self) -> None:
        """End all its processes as a lost machine would."""
        assert self.process is not None
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """End it in order; gives its exit status."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(20)

    def manage(self, *arguments: str) -> str:
        """Run a management command on this host."""
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(
            command, cwd=PROJECT, env=self.variables, check=True, capture_output=True, text=True, timeout=60
        )
        return done.stdout

    def _is_up(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
        return answers(self.port)


@dataclass(slots=True)
class Topology:
    """Everything that runs, and a token of the first admin."""

    port: int  # of nginx
    first: Host
    second: Host
    worker: Host
    nginx_folder: Path
    token: str = ""

    def ask(self, method: str, target: str, *headers: str, body: bytes | None = None, at: int | None = None) -> Answer:
        """Make one request as the admin, through nginx or at a port."""
        return ask(at or self.port, method, target, f"Authorization: Bearer {self.token}", *headers, body=body)


def variables_of(postgres: PostgresServer, seaweed: SeaweedServer, memcached: tuple[MemcachedServer, ...]) -> Variables:
    """Give what all hosts share."""
    return {
        "PATH": os.environ["PATH"],
        "ENV": "production",
        "SECRET_KEY": "topology-" + "k" * 50,
        "ALLOWED_HOSTS": "127.0.0.1",
        "ADMIN_PASSWORD": "admin-password",
        "LOG_FORMAT": "json",
        "METRICS_TOKEN": "metrics-token",
        "TRUSTED_PROXIES": "127.0.0.1",
        "DATABASE_URL": postgres.new_database(),
        "MEMCACHE_HOST": ",".join(f"{node.host}:{node.port}" for node in memcached),
        "S3_DELIVERY": "proxy",
        **seaweed.variables(),
    }


@contextmanager
def running(folder: Path, shared: Variables) -> Iterator[Topology]:
    """Run everything of ours; all of it is killed behind the block."""
    hosts = [_host(folder, name, program, shared) for name, program in _HOSTS]
    port = free_port()
    command = written(folder / "nginx", port=port, backends=[host.port for host in hosts[:2]], assets=folder)
    server = Server(command, folder / "nginx", lambda: listens(port))
    try:
        for host in hosts:
            host.start()
        server.start()
        topology = Topology(port, *hosts, nginx_folder=folder / "nginx")
        made = hosts[0].manage("token", "create", "admin")
        topology.token = next(word for word in made.split() if word.startswith("nts_"))
        yield topology
    finally:
        server.stop()
        for host in hosts:
            if host.process is not None:
                host.kill()


_HOSTS = (("first", "web"), ("second", "web"), ("worker", "worker"))


def _host(folder: Path, name: str, program: str, shared: Variables) -> Host:
    own, port = folder / name, free_port()
    own.mkdir()
    variables = shared | {"HOME": str(own), "NODETOOL_CONFIG_DIR": str(own / "config"), "PORT": str(port)}
    return Host(program, port, own, variables)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request under load: when it began and ended (time.monotonic()), and its status; 0: cut."""

    method: str
    key: str
    began: float
    ended: float
    status: int
    body: bytes = b""


def attempt(topology: Topology, method: str, key: str, body: bytes | None = None) -> Attempt:
    """Make one request through nginx, and tell how it went."""
    began = time.monotonic()
    try:
        answer = topology.ask(method, f"/storage/assets/{key}", body=body)
    except (OSError, CutError, ValueError):  # cut, reset or refused: all the same to a client
        return Attempt(method, key, began, time.monotonic(), 0)
    return Attempt(method, key, began, time.monotonic(), answer.status, answer.body)
