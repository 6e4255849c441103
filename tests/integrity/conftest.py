"""The catalog over each kind of bucket, and ways to plant faults."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.storage import storages

from assets.models import Asset
from assets.services import create_asset
from tests.servers import SeaweedServer

FILESYSTEM = "storagecache.storages.filesystem.FilesystemObjectStorage"
S3 = "storagecache.storages.s3.S3ObjectStorage"


def on_disk(folder: Path) -> dict[str, Any]:
    """Give STORAGES of two folders."""
    return {
        alias: {"BACKEND": FILESYSTEM, "OPTIONS": {"location": str(folder / alias), "bucket": alias}}
        for alias in ("assets", "temp", "cache")
    }


def on_s3(seaweedfs: SeaweedServer) -> dict[str, Any]:
    """Give STORAGES that share one bucket, as with ASSET_BUCKET alone."""
    options = seaweedfs.options(seaweedfs.new_bucket())
    prefixes = {"assets": "", "temp": "temp/", "cache": "cache/"}
    return {
        alias: {"BACKEND": S3, "OPTIONS": {**options, "object_prefix": prefix}} for alias, prefix in prefixes.items()
    }


def in_memory() -> dict[str, Any]:
    """Give STORAGES of this process."""
    backend = "storagecache.storages.memory.MemoryObjectStorage"
    return {alias: {"BACKEND": backend, "OPTIONS": {"bucket": alias}} for alias in ("assets", "temp", "cache")}


@pytest.fixture(params=["memory", "filesystem", "s3"])
def buckets(request: pytest.FixtureRequest, settings: Any, tmp_path: Path) -> str:
    """Configure empty buckets of each kind; gives the kind."""
    if request.param == "s3":
        chosen = on_s3(request.getfixturevalue("seaweedfs"))
    else:
        chosen = on_disk(tmp_path) if request.param == "filesystem" else in_memory()
    settings.STORAGES = {**settings.STORAGES, **chosen}
    return str(request.param)


@pytest.fixture
def owner(transactional_db: None) -> User:
    """Give the owner of every asset here."""
    return User.objects.create_user("ann")


def upload(owner: User, content: bytes, *, bucket: str = "assets") -> Asset:
    """Make an asset."""
    return create_asset(owner=owner, name="a.bin", content=io.BytesIO(content), bucket=bucket)


def remove_bytes(asset: Asset) -> None:
    """Lose an object behind the catalog's back."""
    assert asset.object is not None
    storages[asset.object.storage].delete(asset.object.key)
