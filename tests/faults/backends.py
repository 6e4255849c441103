"""The kinds of backends under a service or a program that is killed, as its variables."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.servers import PostgresServer, SeaweedServer

KINDS = ("sqlite", "postgresql", "s3")  # SQLite and disk, PostgreSQL and disk, SQLite and S3


def backend_variables(kind: str, request: pytest.FixtureRequest) -> dict[str, str]:
    """Give the variables of an empty catalog and empty buckets of this kind; servers start on demand."""
    if kind == "s3":
        return s3_variables(request.getfixturevalue("seaweedfs"))
    made = {"ASSET_STORAGE": "filesystem"}
    if kind == "postgresql":
        postgres: PostgresServer = request.getfixturevalue("postgres_server")
        made["DATABASE_URL"] = postgres.new_database()
    return made


def program_variables(kind: str, request: pytest.FixtureRequest, folder: Path) -> dict[str, str]:
    """Give the whole environment of a program that keeps its data in `folder` and on backends of this kind."""
    foreign = ("DJANGO_", "S3_", "ASSET_", "DATABASE_")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return plain | {"NODETOOL_CONFIG_DIR": str(folder), "ENV": "development"} | backend_variables(kind, request)


def s3_variables(server: SeaweedServer, *, endpoint_url: str = "") -> dict[str, str]:
    """Give the variables of a new bucket, reached at another address if one is given."""
    reached = {"S3_ENDPOINT_URL": endpoint_url} if endpoint_url else {}
    return server.variables() | reached | {"S3_DELIVERY": "proxy"}
