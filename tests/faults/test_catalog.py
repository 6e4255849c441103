"""The running service when its database is locked, stalls, dies and comes back."""

from __future__ import annotations

import itertools
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.faults.stand import Stand, body_of
from tests.server.processes import until
from tests.server.wire import CutError
from tests.servers import PostgresServer

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

Stands = Callable[..., Stand]
Write = tuple[str, bytes, int]  # key, body and status (0: no answer)
WRITERS = 6


def test_locked_catalog_refuses_writes_in_the_end_and_serves_reads(stands: Stands) -> None:
    stand = stands()
    stand.put("k", body_of("old", 70_000))
    other = sqlite3.connect(stand.folder / "config" / "nodetool.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(1) as pool:
        write = pool.submit(stand.service.ask, "PUT", "/storage/assets/k", body=body_of("new", 70_000))
        while not write.done():
            stand.read(["k"])
    other.execute("ROLLBACK")
    other.close()
    assert write.result().status == 503, write.result()
    assert "retry-after" in write.result().headers
    stand.recover()
    stand.look()


def test_catalog_that_is_locked_for_a_moment_delays_a_write_and_no_more(stands: Stands) -> None:
    stand = stands()
    other = sqlite3.connect(stand.folder / "config" / "nodetool.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    body = body_of("waits", 70_000)
    with ThreadPoolExecutor(1) as pool:
        write = pool.submit(stand.service.ask, "PUT", "/storage/assets/k", body=body)
        assert stand.service.ask("GET", "/healthz").status == 200
        assert not write.done()
        other.execute("ROLLBACK")
        other.close()
        assert write.result().status == 201
    stand.ledger["k"] = body
    stand.look()


@pytest.fixture
def postgresql(postgres_server: PostgresServer) -> str:
    """Give a database that keeps what it committed when it is killed."""
    url = postgres_server.new_database()
    command = [str(postgres_server.binaries / "psql"), url.replace("postgres://", "postgresql://"), "-c"]
    name = url.rpartition("/")[2]
    subprocess.run([*command, f"ALTER DATABASE {name} SET synchronous_commit = on"], check=True, capture_output=True)
    return url


@pytest.fixture
def stand(stands: Stands, postgresql: str) -> Stand:
    """Give a running service whose catalog is that database."""
    return stands(DATABASE_URL=postgresql)


def _write_until(stand: Stand, number: int, over: threading.Event, writes: list[Write]) -> None:
    """Write new keys until it is over."""
    for count in itertools.count():
        if over.is_set():
            return
        key = f"w{number}-{count}"
        body = body_of(key, 20_000)
        try:
            status = stand.service.ask("PUT", f"/storage/assets/{key}", body=body).status
        except (OSError, CutError):
            status = 0
        writes.append((key, body, status))


@contextmanager
def writing(stand: Stand) -> Iterator[list[Write]]:
    """Let writers write inside the block, and hold what they were told against what is there; gives their writes."""
    over = threading.Event()
    writes: list[Write] = []
    with ThreadPoolExecutor(WRITERS) as pool:
        writers = [pool.submit(_write_until, stand, number, over, writes) for number in range(WRITERS)]
        try:
            yield writes
        finally:
            over.set()
    for writer in writers:
        writer.result()
    assert {status for *_, status in writes} <= {201, 503}, "a write had no answer, or an odd one"
    there = stand.judge.ask("assets")
    # A write whose commit was cut may be there, wholly: it is in the catalog, and read like the others.
    stand.ledger |= {key: body for key, body, status in writes if status == 201 or key in there}
    stand.read_all()
    stand.look()


def _wait_for_more(writes: list[Write]) -> None:
    """Wait until as many more writes as there are writers were acknowledged."""

    def acknowledged() -> int:
        return [status for *_, status in writes].count(201)

    enough = acknowledged() + WRITERS
    until(lambda: acknowledged() >= enough)


def test_dead_postgresql_loses_no_acknowledged_write_and_is_used_again(
    stand: Stand, postgres_server: PostgresServer
) -> None:
    with writing(stand) as writes:
        for _ in range(2):
            _wait_for_more(writes)
            with postgres_server.server.down():
                answer = stand.service.ask("PUT", "/storage/assets/down", body=b"down")
                assert answer.status == 503, answer
                assert "retry-after" in answer.headers
                assert stand.service.ask("GET", "/healthz").status == 200
                assert stand.service.ask("GET", "/readyz").status == 503
            stand.recover()


def _put_many(stand: Stand, name: str) -> set[int]:
    """Write many keys at once, so that every connection is used; gives the statuses."""

    def put(number: int) -> int:
        key = f"{name}-{number}"
        body = body_of(key, 20_000)
        status = stand.service.ask("PUT", f"/storage/assets/{key}", body=body).status
        if status == 201:
            stand.ledger[key] = body
        return status

    with ThreadPoolExecutor(4 * WRITERS) as pool:
        return set(pool.map(put, range(8 * WRITERS)))


def test_postgresql_restarted_between_requests_costs_none_of_them(
    stand: Stand, postgres_server: PostgresServer
) -> None:
    for number in range(3):
        assert _put_many(stand, f"before-{number}") == {201}
        with postgres_server.server.down():
            pass  # every connection of the service's pools is dead now, and none of them knows
        assert _put_many(stand, f"behind-{number}") == {201}
    stand.read_all()
    stand.look()


def test_postgresql_restarted_under_requests_refuses_none_that_come_behind(
    stand: Stand, postgres_server: PostgresServer
) -> None:
    with writing(stand):
        with postgres_server.server.down():
            pass
        behind = [_put_many(stand, f"behind-{number}") for number in range(3)]
    assert behind == [{201}] * 3


def test_stalled_postgresql_is_waited_for_and_then_used_again(stand: Stand, postgres_server: PostgresServer) -> None:
    stand.put("k", body_of("old", 70_000))
    with postgres_server.server.paused():
        assert stand.service.ask("GET", "/healthz").status == 200
    stand.recover()
    stand.look()
