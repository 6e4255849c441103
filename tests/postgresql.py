"""`python -m tests.postgresql [arguments of pytest]`: the tests with their catalogs in PostgreSQL instead of SQLite.

The cluster is this run's own; services that tests start have databases in it, too. Left out is what keeps no catalog or
chooses its engine itself, and what only repeats itself with bytes in S3 or jobs in containers.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import psycopg

from tests.servers import new_postgres, started

COMMANDS: Final = ("copy_catalog", "prepare", "rebuild_renditions", "settings")  # in processes with clean variables
LEFT_OUT: Final = (
    *("storages", "node_cache", "sqlite", "project", "bench", "deploy", "doctor", "test_readme.py"),
    *(f"commands/test_{name}.py" for name in COMMANDS),
)
REPEATED: Final = "not s3 and not docker"
_CLUSTER: Final = "TEST_CLUSTER"  # the URL of the cluster of this run, without a database


def main() -> int:
    """Run pytest; gives its exit status."""
    left_out = [f"--ignore=tests/{name}" for name in LEFT_OUT]
    command = [sys.executable, "-m", "pytest", *left_out, "-k", REPEATED, *sys.argv[1:]]
    with started("postgres", new_postgres) as cluster, tempfile.TemporaryDirectory() as folder:
        url = cluster.new_database()
        own = {"DATABASE_URL": url, _CLUSTER: url.rpartition("/")[0], "NODETOOL_CONFIG_DIR": folder}
        return subprocess.run(command, env=os.environ | own, check=False).returncode


def database_of(folder: Path) -> dict[str, str]:
    """Give the variable of a service with its data in `folder`: in such a run, of a database that goes with it."""
    cluster = os.environ.get(_CLUSTER)
    if not cluster:
        return {}
    name = f"service_{hashlib.sha256(os.fsencode(folder)).hexdigest()[:20]}"
    made_before = contextlib.suppress(psycopg.errors.DuplicateDatabase)
    with psycopg.connect(f"{cluster}/postgres", autocommit=True) as connection, made_before:
        connection.execute(f"CREATE DATABASE {name}")
    return {"DATABASE_URL": f"{cluster}/{name}"}


if __name__ == "__main__":
    raise SystemExit(main())
