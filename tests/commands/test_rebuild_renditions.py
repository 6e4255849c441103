"""`manage.py rebuild_renditions` and the worker's looks, as processes on one catalog."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from tests.manage import Manage

SECONDS = 60


def ask(folder: Path, sql: str) -> int:
    """Ask the catalog for a number."""
    with sqlite3.connect(f"file:{folder / 'nodetool.sqlite3'}?mode=ro", uri=True) as catalog:
        number: int = catalog.execute(sql).fetchone()[0]
    catalog.close()
    return number


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)  # a poll of another process


def test_rebuild_makes_what_is_missing_then_nothing(manage: Manage) -> None:
    assert manage("demo").returncode == 0
    wanted = ask(manage.folder, "SELECT count(*) FROM assets_storedobject WHERE preview = 'wanted'")
    assert wanted > 40
    first = manage("rebuild_renditions", "--missing", "--json")
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout) == {"asked": 0, "made_here": wanted}  # they were asked for already
    assert ask(manage.folder, "SELECT count(*) FROM assets_storedobject WHERE preview = 'made'") == wanted
    assert ask(manage.folder, "SELECT count(*) FROM assets_storedobject WHERE preview = 'none'") == 0
    second = manage("rebuild_renditions", "--missing")
    assert (second.returncode, second.stdout.strip()) == (0, "0 media files asked for, 0 looked into here.")


def test_worker_makes_what_is_wanted_and_ends_when_told(manage: Manage) -> None:
    assert manage("demo").returncode == 0
    process = manage.start("worker")
    try:
        wait_until(lambda: ask(manage.folder, "SELECT count(*) FROM assets_storedobject WHERE preview = 'made'") > 3)
    finally:
        process.terminate()
    _, log = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "Traceback" not in log
    assert ask(manage.folder, "SELECT count(*) FROM assets_rendition") >= 9
