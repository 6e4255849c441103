"""`python -m tests.postgresql [arguments of pytest]`: the tests with their catalogs in PostgreSQL instead of SQLite.

The cluster is this run's own; services that tests start have databases in it, too. Left out is what keeps no catalog or
chooses its engine itself, and what only repeats itself with bytes in S3 or jobs in containers.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
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
REPEATED: Final = "tests.repeated"  # the plugin that leaves it out
_CLUSTER: Final = "TEST_CLUSTER"  # the URL of the cluster of this run, without a database


def main() -> int:
    """Run pytest; gives its exit status."""
    left_out = [f"--ignore=tests/{name}" for name in LEFT_OUT]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that blocks are left in order
    command = [sys.executable, "-m", "pytest", *left_out, "-p", REPEATED, *sys.argv[1:]]
    with started("postgres", new_postgres) as cluster, tempfile.TemporaryDirectory() as folder:
        url = cluster.new_database()
        own = {"DATABASE_URL": url, _CLUSTER: url.rpartition("/")[0], "NODETOOL_CONFIG_DIR": folder}
        return _run(command, os.environ | own)


def _run(command: list[str], variables: dict[str, str]) -> int:
    """Run pytest to its end, which a signal hastens: it stops what it started, and then its cluster goes."""
    with subprocess.Popen(command, env=variables) as tests:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to both
        signal.signal(signal.SIGTERM, lambda *_: tests.send_signal(signal.SIGINT))
        return tests.wait()


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
