"""The mark of the last commit: it changes with each, whoever commits, and where it cannot be told it is not given."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from storagecache.sqlite.wal_index import WalIndex

LOCKED = (
    "import sqlite3, sys\n"
    "try:\n"
    "    sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None).execute('BEGIN IMMEDIATE')\n"
    "except sqlite3.OperationalError as error:\n"
    "    print(error)\n"
)
Connect = Callable[[], sqlite3.Connection]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalog.sqlite3"


@pytest.fixture
def connect(path: Path) -> Connect:
    def connected() -> sqlite3.Connection:
        return sqlite3.connect(path, isolation_level=None, check_same_thread=False)

    return connected


@pytest.fixture
def writer(connect: Connect) -> sqlite3.Connection:
    made = connect()
    made.execute("PRAGMA journal_mode = WAL")
    made.execute("CREATE TABLE t (n INTEGER)")
    return made


def test_mark_changes_with_each_commit_and_with_nothing_else(
    path: Path, connect: Connect, writer: sqlite3.Connection
) -> None:
    index, other = WalIndex(str(path), connect), connect()
    seen = {index.mark()}
    for number in range(200):
        (writer, other)[number % 2].execute("INSERT INTO t VALUES (?)", (number,))
        seen.add(index.mark())
    assert len(seen) == 201
    last = index.mark()
    assert last
    other.execute("SELECT count(*) FROM t").fetchone()
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("INSERT INTO t VALUES (0)")
    assert index.mark() == last  # nobody sees it yet
    writer.execute("ROLLBACK")
    assert index.mark() == last


def test_log_that_begins_anew_never_gives_an_old_mark(path: Path, connect: Connect, writer: sqlite3.Connection) -> None:
    index = WalIndex(str(path), connect)
    seen = [index.mark()]
    for number in range(50):
        writer.execute("INSERT INTO t VALUES (1)")
        writer.execute(f"PRAGMA wal_checkpoint({('PASSIVE', 'RESTART', 'TRUNCATE')[number % 3]})")
        writer.execute("DELETE FROM t")
        seen.append(index.mark())
    assert None not in seen
    assert len(set(seen)) == 51


def test_index_stays_while_all_others_hang_up(path: Path, connect: Connect, writer: sqlite3.Connection) -> None:
    index = WalIndex(str(path), connect)
    first = index.mark()
    writer.close()  # the last one would remove it, and the next would make another
    again = connect()
    again.execute("INSERT INTO t VALUES (1)")
    assert index.mark() not in (first, None)


def test_looking_takes_no_lock_away(path: Path, connect: Connect, writer: sqlite3.Connection) -> None:
    writer.execute("BEGIN IMMEDIATE")
    for _ in range(3):
        assert WalIndex(str(path), connect).mark()
    told = subprocess.run([sys.executable, "-c", LOCKED, str(path)], capture_output=True, text=True, check=True)
    assert "locked" in told.stdout


def test_database_without_such_a_log_has_no_mark(path: Path, connect: Connect) -> None:
    connect().execute("CREATE TABLE t (n INTEGER)")
    index = WalIndex(str(path), connect)
    assert index.mark() is None
    assert index.mark() is None


def test_absent_database_is_not_asked_for_again_at_once(path: Path) -> None:
    asked = []

    def refuse() -> sqlite3.Connection:
        asked.append(1)
        raise sqlite3.OperationalError("gone")

    index = WalIndex(str(path), refuse)
    assert [index.mark() for _ in range(5)] == [None] * 5
    assert len(asked) == 1
    assert not os.listdir(path.parent)


@pytest.mark.parametrize("torn", [bytes(96), b"\1" * 48 + b"\2" * 48, b"\1" * 60, b""])
def test_header_in_the_midst_of_a_change_is_no_mark(
    path: Path, connect: Connect, writer: sqlite3.Connection, torn: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = WalIndex(str(path), connect)
    assert index.mark()
    monkeypatch.setattr(os, "pread", lambda *_: torn)
    assert index.mark() is None
