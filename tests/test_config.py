"""Config: what Django is told, made from one Environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from storagecache import config
from storagecache.environment import Environment


def made(tmp_path: Path, **process: str) -> Environment:
    return Environment.load(
        {"NODETOOL_CONFIG_DIR": str(tmp_path), **process}, project_folder=tmp_path, under_pytest=False
    )


def options(tmp_path: Path, alias: str, **process: str) -> dict[str, Any]:
    return dict(config.storages(made(tmp_path, **process))[alias]["OPTIONS"])


S3 = {"ASSET_STORAGE": "s3", "S3_ACCESS_KEY_ID": "AK", "S3_SECRET_ACCESS_KEY": "SK"}


@pytest.mark.parametrize(
    ("kind", "backend"),
    [
        ("memory", "storagecache.storages.memory.MemoryObjectStorage"),
        ("filesystem", "storagecache.storages.filesystem.FilesystemObjectStorage"),
        ("s3", "storagecache.storages.s3.S3ObjectStorage"),
    ],
)
def test_storages_of_each_kind_name_every_alias(tmp_path: Path, kind: str, backend: str) -> None:
    storages = config.storages(made(tmp_path, ASSET_STORAGE=kind))
    assert {storages[alias]["BACKEND"] for alias in ("default", "assets", "temp", "cache")} == {backend}


def test_filesystem_storages_lie_in_folders_of_their_own(tmp_path: Path) -> None:
    folders = [options(tmp_path, alias)["location"] for alias in ("assets", "temp", "cache")]
    assert folders == [str(tmp_path / name) for name in ("assets", "temp", "cache")]


def test_s3_without_a_temp_bucket_uses_a_prefix(tmp_path: Path) -> None:
    temp = options(tmp_path, "temp", **S3, ASSET_BUCKET="films", ASSET_DOMAIN="cdn.example.org")
    assert (temp["bucket"], temp["object_prefix"]) == ("films", "temp/")
    assert temp["public_endpoint_url"] == "https://cdn.example.org"


def test_s3_with_a_temp_bucket_uses_no_prefix(tmp_path: Path) -> None:
    temp = options(tmp_path, "temp", **S3, ASSET_TEMP_BUCKET="scratch", ASSET_TEMP_DOMAIN="t.example.org")
    assert (temp["bucket"], temp["object_prefix"]) == ("scratch", "")
    assert temp["public_endpoint_url"] == "https://t.example.org"


def test_s3_with_one_bucket_for_both_uses_the_prefix(tmp_path: Path) -> None:
    temp = options(tmp_path, "temp", **S3, ASSET_BUCKET="films", ASSET_TEMP_BUCKET="films")
    assert (temp["bucket"], temp["object_prefix"]) == ("films", "temp/")


@pytest.mark.parametrize(
    ("process", "name"),
    [
        ({}, "nodetool.sqlite3"),
        ({"ASSET_STORAGE": "memory"}, "memory.sqlite3"),
        ({"DB_PATH": "{}/own.db"}, "own.db"),
        ({"DATABASE_URL": "sqlite:///{}/a%20b%2B.db"}, "a b+.db"),
        ({"DATABASE_URL": "sqlite:///{}/a.db?timeout=1", "DB_PATH": "{}/b.db"}, "a.db"),
    ],
    ids=str,
)
def test_database_on_sqlite_is_a_file_also_in_tests(tmp_path: Path, process: dict[str, str], name: str) -> None:
    process = {key: text.format(tmp_path) for key, text in process.items()}
    database = config.databases(made(tmp_path, **process))["default"]
    assert database["ENGINE"] == "storagecache.sqlite"
    assert database["NAME"] == str(tmp_path / name)
    assert database["TEST"]["NAME"] == f"{tmp_path / name}.test"


def test_database_on_sqlite_relative_is_fixed_when_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    environment = made(tmp_path, DATABASE_URL="sqlite:///data/a.db")
    monkeypatch.chdir("/")
    assert config.databases(environment)["default"]["NAME"] == str(tmp_path / "data" / "a.db")


def test_database_on_postgresql_has_a_bounded_pool(tmp_path: Path) -> None:
    url = "postgres://user:p%40ss@db.example:6432/catalog?sslmode=require"
    database = config.databases(made(tmp_path, DATABASE_URL=url))["default"]
    assert database["ENGINE"] == "django.db.backends.postgresql"
    parts = [database[name] for name in ("USER", "PASSWORD", "HOST", "PORT", "NAME", "CONN_MAX_AGE")]
    assert parts == ["user", "p@ss", "db.example", 6432, "catalog", 0]
    assert database["OPTIONS"]["sslmode"] == "require"
    assert database["OPTIONS"]["pool"]["max_size"] == config.POSTGRES_CONNECTIONS
    assert database["OPTIONS"]["pool"]["timeout"] == 6.0
    assert database["CONN_HEALTH_CHECKS"]  # Django lets the pool look at a connection before it lends it
