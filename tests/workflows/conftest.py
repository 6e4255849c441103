"""What the tests of jobs share: buckets, an owner, an environment on disk, and the strategies."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User

from assets.models import Asset
from assets.services import create_asset
from assets.workflows import DockerExecution, SubprocessExecution, ThreadedExecution
from assets.workflows.execution import Execution
from tests.assets.conftest import make_buckets
from tests.roles import ChangeEnvironment

NODES = "nodes"
CODE = str(Path(__file__).parent)
STRATEGIES = ("threaded", "subprocess", "docker")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the jobs of a test live."""

    folder: Path
    kind: str


def make_place(kind: str, auth: str, request: pytest.FixtureRequest, tmp_path: Path, settings: Any) -> Place:
    """Point buckets, workspaces and the environment at new folders."""
    make_buckets(kind, tmp_path, request, settings)
    change: ChangeEnvironment = request.getfixturevalue("change_environment")
    for folder in (tmp_path, *tmp_path.parents):
        if (
            folder != Path("/")
            and folder.stat().st_uid == os.geteuid()
            and folder.name.startswith(("pytest", tmp_path.name))
        ):
            folder.chmod(0o755)
    (tmp_path / "assets").mkdir(exist_ok=True)
    change(
        asset_storage=kind,
        asset_folder_path=tmp_path / "assets",
        temp_folder_path=tmp_path / "temp",
        workspace_path=tmp_path / "workspaces",
        auth_provider=auth,
    )
    return Place(tmp_path, kind)


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path, settings: Any) -> Place:
    """Give folders on disk, with one local user."""
    return make_place("filesystem", "local", request, tmp_path, settings)


def make_execution(strategy: str, request: pytest.FixtureRequest) -> Execution:
    """Make a strategy; docker asks for a real engine."""
    if strategy == "docker":
        engine = request.getfixturevalue("container_engine")
        return DockerExecution(url=engine.url, image="test:1", memory="256m", cpus=1.0)
    return ThreadedExecution() if strategy == "threaded" else SubprocessExecution()


@pytest.fixture(params=STRATEGIES)
def execution(request: pytest.FixtureRequest) -> Execution:
    """Give each strategy."""
    return make_execution(request.param, request)


@pytest.fixture
def docker(request: pytest.FixtureRequest) -> Execution:
    """Give the strategy with containers."""
    return make_execution("docker", request)


def make_asset(owner: User, name: str, data: bytes, **options: Any) -> Asset:
    """Store bytes as an asset."""
    return create_asset(owner=owner, name=name, content=io.BytesIO(data), **options)
