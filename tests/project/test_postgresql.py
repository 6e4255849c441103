"""The run of the tests on PostgreSQL: what it starts goes with it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.server.processes import PROJECT, until
from tests.servers import _postgres_binaries

TEST = """
import os, pathlib, time

def test_waits():
    place = pathlib.Path(__file__)
    place.with_name("new").write_text(os.environ["TEST_CLUSTER"])
    place.with_name("new").rename(place.with_name("cluster"))
    try:
        for _ in range(1200):  # a signal just before one long wait would be answered behind it
            time.sleep(0.1)
    finally:
        place.with_name("ended").touch()
"""


def test_run_that_is_terminated_ends_its_tests_in_order_and_stops_its_cluster(tmp_path: Path) -> None:
    _postgres_binaries()
    (tmp_path / "test_waits.py").write_text(TEST)
    command = [
        sys.executable,
        "-m",
        "tests.postgresql",
        "-q",
        "-p",
        "no:cacheprovider",
        str(tmp_path / "test_waits.py"),
    ]
    with (tmp_path / "log").open("wb") as log:
        run = subprocess.Popen(command, cwd=PROJECT, stdout=log, stderr=log)
    try:
        until((tmp_path / "cluster").exists)
        run.terminate()
        assert run.wait(60) == pytest.ExitCode.INTERRUPTED, (tmp_path / "log").read_text()
    finally:
        with contextlib.suppress(ProcessLookupError):
            run.kill()
    assert (tmp_path / "ended").exists()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(f"{(tmp_path / 'cluster').read_text()}/postgres", connect_timeout=5)
