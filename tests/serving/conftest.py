"""The catalog and every kind of storage behind the views, each empty for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from storagecache.config import filesystem_storage, memory_storage, s3_storage
from tests.roles import ChangeEnvironment
from tests.servers import SeaweedServer

BACKENDS = ("memory", "filesystem", "s3-redirect", "s3-proxy")


def _configured(kind: str, folder: Path, request: pytest.FixtureRequest, change: ChangeEnvironment) -> dict[str, Any]:
    """Make the storages as the service makes them, of an environment that differs in the place only."""
    if kind == "memory":
        environment = change()
        return {alias: memory_storage(environment, alias) for alias in ("assets", "temp")}
    if kind == "filesystem":
        environment = change(asset_folder_path=folder / "assets", temp_folder_path=folder / "temp")
        return {alias: filesystem_storage(environment, alias) for alias in ("assets", "temp")}
    seaweed: SeaweedServer = request.getfixturevalue("seaweedfs")
    environment = change(
        asset_bucket=request.getfixturevalue("bucket"),
        s3_endpoint_url=seaweed.endpoint_url,
        s3_access_key_id=seaweed.access_key,
        s3_secret_access_key=seaweed.secret_key,
        s3_delivery=kind.removeprefix("s3-"),
    )
    return {alias: s3_storage(environment, alias) for alias in ("assets", "temp")}


@pytest.fixture(scope="session")
def bucket(seaweedfs: SeaweedServer) -> str:
    """Make one bucket for all: object keys never meet, and each bucket costs the server volumes."""
    return seaweedfs.new_bucket()


@pytest.fixture(params=BACKENDS)
def backend(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    settings: Any,
    change_environment: ChangeEnvironment,
    transactional_db: None,
) -> Iterator[str]:
    """Put each kind of storage behind the service; gives its name."""
    own = _configured(request.param, tmp_path, request, change_environment)
    settings.STORAGES = {**settings.STORAGES, **own}
    return request.param


@pytest.fixture
def owner(transactional_db: None) -> User:
    """Make the local user."""
    return User.objects.create_user(pk=1, username="owner")  # no password: hashing one takes longer than a test


@pytest.fixture
def other(transactional_db: None) -> User:
    """Make somebody else."""
    return User.objects.create_user(pk=2, username="other")


@pytest.fixture
def client(owner: User) -> Client:
    """Give a client on this machine, which is the local user."""
    return Client(enforce_csrf_checks=True, raise_request_exception=False)
