"""SeaweedFS as deploy/compose.yaml starts it and asks for its health, with other ports and smaller volumes."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.nginx import DEPLOY
from tests.deploy.test_files import interpolated
from tests.ports import free_ports
from tests.servers import HOST, SeaweedServer, Server, require, seaweed_program, started

COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICE: dict[str, Any] = COMPOSE["services"]["seaweedfs"]
BUCKET = "chosen-bucket"
KEYS = {"S3_ACCESS_KEY_ID": "test-access-key", "S3_SECRET_ACCESS_KEY": "test-secret-key"}
VOLUMES = 8  # what SeaweedFS makes at most when it is not told


def new_store(folder: Path) -> SeaweedServer:
    """Give the server of the file, not started."""
    first = free_ports(4, offsets=(0, 10_000))
    (folder / "data").mkdir()
    (folder / "s3.json").write_text(interpolated(COMPOSE["configs"]["s3"]["content"], KEYS))
    changed = {
        "-dir=/data": f"-dir={folder / 'data'}",
        "-ip=seaweedfs": f"-ip={HOST}",
        "-ip.bind=0.0.0.0": f"-ip.bind={HOST}",
        "-s3.config=/etc/s3.json": f"-s3.config={folder / 's3.json'}",
        "-master.volumeSizeLimitMB=1024": "-master.volumeSizeLimitMB=1",
    }
    assert changed.keys() <= set(SERVICE["command"])
    names = ("master", "volume", "filer", "s3")
    ports = [f"-{name}.port={first + number}" for number, name in enumerate(names)]
    command = [seaweed_program(), *(changed.get(part, part) for part in SERVICE["command"]), *ports]
    store = SeaweedServer(Server(command, folder, lambda: store.is_ready()), f"http://{HOST}:{first + 3}")
    store.server.stop_signal = signal.SIGKILL  # in order it takes longer than the tests
    return store


@pytest.fixture(scope="module")
def store() -> Iterator[SeaweedServer]:
    with started("object-store", new_store) as running:
        yield running


def health(store: SeaweedServer) -> int:
    """Ask as the container would; gives the exit status."""
    kind, script = SERVICE["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    master = next(part for part in store.server.command if part.startswith("-master.port=")).partition("=")[2]
    script = re.sub(r"\$\{ASSET_BUCKET:-\w+\}", BUCKET, script).replace("localhost:9333", f"{HOST}:{master}")
    path = f"{Path(seaweed_program()).parent}:{os.environ['PATH']}"
    shell = require(shutil.which("sh"), "sh")
    return subprocess.run([shell, "-c", script], env={"PATH": path}, capture_output=True, timeout=60).returncode


def test_health_makes_the_bucket_and_then_finds_it(store: SeaweedServer) -> None:
    assert health(store) == 1
    assert BUCKET in {bucket["Name"] for bucket in store.client().list_buckets()["Buckets"]}
    assert health(store) == 0
    store.client().put_object(Bucket=BUCKET, Key="a", Body=b"bytes")


def test_objects_are_taken_as_long_as_the_disk_has_room(store: SeaweedServer) -> None:
    bucket, client = store.new_bucket(), store.client()
    for number in range(2 * VOLUMES):  # each fills a volume
        client.put_object(Bucket=bucket, Key=str(number), Body=os.urandom(1 << 20))
    assert len(client.list_objects_v2(Bucket=bucket)["Contents"]) == 2 * VOLUMES
