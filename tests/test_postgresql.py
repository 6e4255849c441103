"""The catalog's tests once more, with the catalog in a real PostgreSQL."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import PostgresServer

PROJECT = Path(__file__).resolve().parent.parent
SUITES = (
    "tests/assets",
    "tests/api",
    "tests/services",
    "tests/commands/test_purge_temp.py",
    "tests/integrity",
    "tests/serving/test_hot.py",
    "tests/serving/test_lookups.py",
    "tests/workflows/test_jobs.py",
    "tests/context",
    "tests/media/test_previews.py",
)
SECONDS = 600


@pytest.mark.timeout(SECONDS + 30)
@pytest.mark.parametrize("suite", SUITES)
def test_catalog_on_postgresql_passes_the_same_tests(
    postgres_server: PostgresServer, suite: str, tmp_path: Path
) -> None:
    variables = os.environ | {
        "DATABASE_URL": postgres_server.new_database(),
        "NODETOOL_CONFIG_DIR": str(tmp_path),
    }
    command = [sys.executable, "-m", "pytest", suite, "-q", "-p", "no:cacheprovider", "-k", "not s3 and not docker"]
    done = subprocess.run(
        command, cwd=PROJECT, env=variables, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    # 5 would mean that nothing was collected.
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
