"""Questions to the catalog below Django: a few connections, none used after a fault, nothing written, no old answer."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from assets.models import Asset
from assets.services import Lookups, located
from assets.services.lookups import CONNECTIONS
from storagecache.errors import BackendUnavailableError
from tests.serving.answers import send

ADDRESS = ("assets", "a/b")
SQLITE = pytest.mark.skipif(connection.vendor != "sqlite", reason="SQLite's own")
pytestmark = pytest.mark.parametrize("backend", ["memory"], indirect=True)


@pytest.fixture
def lookups(transactional_db: None) -> Iterator[Lookups]:
    made = Lookups.of_catalog()
    yield made
    made.close()


@pytest.fixture
def asking(lookups: Lookups) -> Lookups:
    """One whose catalog does not tell of commits, so that it asks each time."""
    lookups._commit_mark = lambda: None
    return lookups


@pytest.fixture(autouse=True)
def stored(backend: str, client: Client) -> None:
    assert send(client, "PUT", "/storage/assets/a/b", b"x").status == 201


def counted(lookups: Lookups) -> list[Any]:
    """Let a pool note the connections that it makes."""
    made: list[Any] = []
    connect = lookups._connect

    def counting() -> Any:
        made.append(connect())
        return made[-1]

    lookups._connect = counting
    return made


def test_row_tells_what_is_at_an_address(lookups: Lookups, backend: str) -> None:
    row = lookups.row(*ADDRESS)
    assert row
    asset = Asset.objects.select_related("object").get()
    assert asset.object
    found = located(row)
    assert (found.asset_id, found.object_id) == (asset.pk.hex, asset.object.pk.hex)
    assert (found.changed_at, found.key) == (asset.content_changed_at, asset.object.key)


def test_row_of_an_absent_address_is_none(lookups: Lookups, backend: str) -> None:
    assert lookups.row("temp", "a/b") is None
    assert lookups.row("assets", "a/B") is None


def test_row_is_true_when_it_is_given(lookups: Lookups, backend: str) -> None:
    assert lookups.row(*ADDRESS)
    Asset.objects.update(key="other")
    assert lookups.row(*ADDRESS) is None
    assert lookups.row("assets", "other")


@SQLITE
def test_nothing_is_asked_again_until_something_is_committed(lookups: Lookups) -> None:
    asked, made = list[str](), counted(lookups)
    for _ in range(CONNECTIONS):
        lookups.row("assets", f"{_}")
    for one in made:
        one.set_trace_callback(asked.append)
    rows = [lookups.row(*ADDRESS) for _ in range(10)]
    assert len(asked) == 1
    assert rows == rows[:1] * 10
    assert [lookups.row("assets", "none") for _ in range(10)] == [None] * 10  # nor that nothing is there
    assert len(asked) == 2
    Asset.objects.update(name="other")
    assert lookups.row(*ADDRESS) != rows[0]
    assert len(asked) == 3


@SQLITE
def test_commit_of_another_process_is_seen_at_once(lookups: Lookups) -> None:
    script = (
        "import sqlite3, sys\n"
        "catalog = sqlite3.connect(sys.argv[1], timeout=20)\n"
        "for line in sys.stdin:\n"
        "    with catalog:\n"
        "        catalog.execute('UPDATE assets_asset SET name = ?', (line.strip(),))\n"
        "    print('done', flush=True)\n"
    )
    command = [sys.executable, "-c", script, str(connection.settings_dict["NAME"])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdin
        assert writer.stdout
        for number in range(300):
            lookups.row(*ADDRESS)
            print(number, file=writer.stdin, flush=True)
            assert writer.stdout.readline() == "done\n"
            row = lookups.row(*ADDRESS)
            assert row
            assert located(row).name == str(number)
        writer.stdin.close()


def test_many_threads_share_a_few_connections(asking: Lookups, backend: str) -> None:
    made = counted(asking)
    barrier = threading.Barrier(32)

    def ask(_: int) -> bool:
        barrier.wait()
        return all(asking.row(*ADDRESS) for _ in range(20))

    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(ask, range(32)))
    assert 1 <= len(made) <= CONNECTIONS


def test_connection_that_failed_is_replaced(asking: Lookups, backend: str) -> None:
    made = counted(asking)
    for _ in range(CONNECTIONS):
        asking.row(*ADDRESS)
    for one in made:
        one.close()
    for _ in made:
        with pytest.raises(BackendUnavailableError):
            asking.row(*ADDRESS)
    assert asking.row(*ADDRESS)


def test_catalog_that_is_gone_is_not_asked_again_at_once(backend: str) -> None:
    attempts = []

    def refuse() -> Any:
        attempts.append(1)
        raise sqlite3.OperationalError("gone")

    lookups = Lookups(refuse, "", sqlite3.Error, lambda: None)
    for _ in range(3 * CONNECTIONS):
        with pytest.raises(BackendUnavailableError):
            lookups.row(*ADDRESS)
    assert len(attempts) == 1


@SQLITE
def test_sqlite_is_opened_for_questions_only_and_never_made(
    lookups: Lookups, backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = counted(lookups)
    lookups.row(*ADDRESS)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        made[0].execute("DELETE FROM assets_asset")
    monkeypatch.setitem(connection.settings_dict, "NAME", str(tmp_path / "no.sqlite3"))
    with pytest.raises(BackendUnavailableError):
        Lookups.of_catalog().row(*ADDRESS)
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()


@SQLITE
def test_question_is_planned_once_however_often_it_is_asked(asking: Lookups) -> None:
    made, planned = counted(asking), list[int]()

    def note(action: int, *_: object) -> int:  # SQLite asks whether it may, whenever it makes a plan
        planned.append(action)
        return sqlite3.SQLITE_OK

    def ask() -> None:
        for _ in range(CONNECTIONS):  # they take turns
            asking.row(*ADDRESS)

    ask()
    for one in made:
        one.set_authorizer(note)  # which forgets all plans
    ask()
    assert planned
    planned.clear()
    ask()
    assert planned == []
