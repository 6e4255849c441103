"""The pool: bounded, thread-safe, fork-safe, and forgiving to borrowers that die."""

from __future__ import annotations

import gc
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.db import connection

from storagecache.sqlite.pool import ConnectionPool, PooledConnection

Connect = Callable[[], PooledConnection]


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Connect]:
    made: list[PooledConnection] = []

    def connect() -> PooledConnection:
        made.append(
            sqlite3.connect(tmp_path / "a.db", check_same_thread=False, isolation_level=None, factory=PooledConnection)
        )
        return made[-1]

    yield connect
    for one in made:
        one.close()


def test_take_after_give_back_lends_the_same_connection(connect: Connect) -> None:
    pool = ConnectionPool(2)
    first = pool.take(connect, wait=0)
    pool.give_back(first)
    assert pool.take(connect, wait=0) is first


def test_take_beyond_the_size_is_an_operational_error(connect: Connect) -> None:
    pool = ConnectionPool(2)
    lent = [pool.take(connect, wait=0), pool.take(connect, wait=0)]
    with pytest.raises(sqlite3.OperationalError, match="no free connection"):
        pool.take(connect, wait=0)
    pool.give_back(lent[0])
    assert pool.take(connect, wait=0) is lent[0]


def test_take_waits_for_what_another_thread_gives_back(connect: Connect) -> None:
    pool = ConnectionPool(1)
    lent = pool.take(connect, wait=0)
    taken: list[PooledConnection] = []
    waiter = threading.Thread(target=lambda: taken.append(pool.take(connect, wait=30)))
    waiter.start()
    pool.give_back(lent)
    waiter.join(30)
    assert taken == [lent]


def test_take_with_a_failing_connect_keeps_the_slot(connect: Connect) -> None:
    pool = ConnectionPool(1)

    def fail() -> PooledConnection:
        raise sqlite3.OperationalError("unable to open database file")

    for _ in range(3):
        with pytest.raises(sqlite3.OperationalError, match="unable to open"):
            pool.take(fail, wait=0)
    pool.give_back(pool.take(connect, wait=0))


def test_give_back_with_an_open_transaction_rolls_it_back(connect: Connect) -> None:
    pool = ConnectionPool(1)
    lent = pool.take(connect, wait=0)
    lent.execute("CREATE TABLE t (x)")
    lent.execute("BEGIN IMMEDIATE")
    lent.execute("INSERT INTO t VALUES (1)")
    pool.give_back(lent)
    assert pool.take(connect, wait=0).execute("SELECT count(*) FROM t").fetchone() == (0,)


def test_give_back_twice_does_not_grow_the_pool(connect: Connect) -> None:
    pool = ConnectionPool(1)
    lent = pool.take(connect, wait=0)
    pool.give_back(lent)
    pool.give_back(lent)
    fresh = pool.take(connect, wait=0)
    with pytest.raises(sqlite3.OperationalError):
        pool.take(connect, wait=0)
    assert fresh.execute("SELECT 1").fetchone() == (1,)


def test_borrower_that_dies_frees_its_slot(tmp_path: Path) -> None:
    pool = ConnectionPool(1)

    def connect() -> PooledConnection:
        return sqlite3.connect(tmp_path / "a.db", check_same_thread=False, factory=PooledConnection)

    def die() -> None:
        pool.take(connect, wait=0).close()

    thread = threading.Thread(target=die)
    thread.start()
    thread.join()
    gc.collect()
    second = pool.take(connect, wait=0)
    assert second.execute("SELECT 1").fetchone() == (1,)
    second.close()


def test_many_threads_never_exceed_the_size(connect: Connect) -> None:
    pool, lock, at_once, most = ConnectionPool(3), threading.Lock(), 0, 0

    def work() -> None:
        nonlocal at_once, most
        for _ in range(50):
            lent = pool.take(connect, wait=30)
            with lock:
                at_once += 1
                most = max(most, at_once)
            lent.execute("SELECT 1").fetchone()
            with lock:
                at_once -= 1
            pool.give_back(lent)

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= most <= 3


FORKED = """
import os, sqlite3, sys
from storagecache.sqlite.pool import ConnectionPool, PooledConnection
def connect():
    return sqlite3.connect(sys.argv[1], check_same_thread=False, factory=PooledConnection)
pool = ConnectionPool(1)
lent = pool.take(connect, wait=0)
pool.give_back(lent)
number = id(lent)
child = os.fork()
if not child:
    own = pool.take(connect, wait=0)
    inherited_is_alive = lent.execute("SELECT 1").fetchone() == (1,)
    del lent
    os._exit(0 if id(own) != number and inherited_is_alive and pool._inherited[0] else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_take_after_a_fork_never_lends_the_parents_connection(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FORKED, str(tmp_path / "a.db")]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], timeout=60, check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.django_db(transaction=True)
def test_backend_on_sqlite_lends_from_the_pool() -> None:
    if connection.vendor != "sqlite":
        return  # the catalog of this run lies in PostgreSQL, whose pool is psycopg's
    connection.ensure_connection()
    first = connection.connection
    connection.close()
    connection.ensure_connection()
    assert connection.connection is first
    assert connection.get_connection_params()["factory"] is PooledConnection
    with connection.cursor() as cursor:
        assert cursor.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert cursor.execute("PRAGMA synchronous").fetchone() == (2,)
        assert cursor.execute("PRAGMA foreign_keys").fetchone() == (1,)
    assert os.path.isfile(connection.settings_dict["NAME"])
