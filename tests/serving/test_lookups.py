"""Questions to the catalog below Django: a few connections, none of them used after a fault, and nothing is written."""

from __future__ import annotations

import sqlite3
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
pytestmark = pytest.mark.parametrize("backend", ["memory"], indirect=True)


@pytest.fixture
def lookups(transactional_db: None) -> Iterator[Lookups]:
    made = Lookups.of_catalog()
    yield made
    made.close()


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


def test_row_is_never_remembered(lookups: Lookups, backend: str) -> None:
    assert lookups.row(*ADDRESS)
    Asset.objects.update(key="other")
    assert lookups.row(*ADDRESS) is None
    assert lookups.row("assets", "other")


def test_many_threads_share_a_few_connections(lookups: Lookups, backend: str) -> None:
    made = counted(lookups)
    barrier = threading.Barrier(32)

    def ask(_: int) -> bool:
        barrier.wait()
        return all(lookups.row(*ADDRESS) for _ in range(20))

    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(ask, range(32)))
    assert 1 <= len(made) <= CONNECTIONS


def test_connection_that_failed_is_replaced(lookups: Lookups, backend: str) -> None:
    made = counted(lookups)
    for _ in range(CONNECTIONS):
        lookups.row(*ADDRESS)
    for one in made:
        one.close()
    for _ in made:
        with pytest.raises(BackendUnavailableError):
            lookups.row(*ADDRESS)
    assert lookups.row(*ADDRESS)


def test_catalog_that_is_gone_is_not_asked_again_at_once(backend: str) -> None:
    attempts = []

    def refuse() -> Any:
        attempts.append(1)
        raise sqlite3.OperationalError("gone")

    lookups = Lookups(refuse, "", sqlite3.Error)
    for _ in range(3 * CONNECTIONS):
        with pytest.raises(BackendUnavailableError):
            lookups.row(*ADDRESS)
    assert len(attempts) == 1


@pytest.mark.skipif(connection.vendor != "sqlite", reason="about SQLite's file")
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


@pytest.mark.skipif(connection.vendor != "sqlite", reason="SQLite's way of planning")
def test_question_is_planned_once_however_often_it_is_asked(lookups: Lookups) -> None:
    made, planned = counted(lookups), list[int]()

    def note(action: int, *_: object) -> int:  # SQLite asks whether it may, whenever it makes a plan
        planned.append(action)
        return sqlite3.SQLITE_OK

    def ask() -> None:
        for _ in range(CONNECTIONS):  # they take turns
            lookups.row(*ADDRESS)

    ask()
    for one in made:
        one.set_authorizer(note)  # which forgets all plans
    ask()
    assert planned
    planned.clear()
    ask()
    assert planned == []
