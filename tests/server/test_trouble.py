"""The whole service while a part of it is down: what is refused and how soon, what goes on, and what is left behind it.

Deadlines are upper bounds: the S3 client gives up after 5 s, and a busy machine adds what it adds without trouble, too.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from storagecache.config import POSTGRES_WAIT
from tests.server.processes import until
from tests.server.service import Service, serving
from tests.server.wire import Answer
from tests.servers import PostgresServer, SeaweedServer

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

WRITERS = 16
DEADLINE = 6  # seconds


@pytest.fixture
def on_s3(tmp_path: Path, seaweedfs: SeaweedServer) -> Iterator[Service]:
    with serving(tmp_path, **seaweedfs.variables()) as service:
        yield service


def timed_put(service: Service, key: str) -> tuple[float, Answer]:
    started = time.monotonic()
    answer = service.ask("PUT", f"/storage/assets/{key}", body=b"bytes of " + key.encode())
    return time.monotonic() - started, answer


def threads(service: Service) -> int:
    """Count the threads of all processes of the service."""
    return sum(len(os.listdir(f"/proc/{process}/task")) for process in service.members())


def assert_refused(answer: Answer) -> None:
    assert (answer.status, int(answer.headers["retry-after"]) > 0) == (503, True)
    answer.detail()


def assert_settled(service: Service) -> None:
    """Assert that a purge without grace leaves catalog and bucket equal."""
    service.manage("purge_temp", "--older-than", "0s")
    report = json.loads(service.manage("verify_assets", "--deep", "--json"))
    assert (report["status"], report["leftovers"]) == ("clean", 0)


@pytest.mark.parametrize("trouble", ["paused", "down"])
def test_s3_in_trouble_refuses_writes_in_time_and_nothing_else(
    on_s3: Service, seaweedfs: SeaweedServer, trouble: str
) -> None:
    with ThreadPoolExecutor(WRITERS) as pool:
        ordinary = list(pool.map(lambda number: timed_put(on_s3, "old"), range(3 * WRITERS)))
    assert {answer.status for _, answer in ordinary} <= {200, 201}
    slowest = max(seconds for seconds, _ in ordinary)
    before = threads(on_s3)
    with getattr(seaweedfs.server, trouble)(), ThreadPoolExecutor(WRITERS) as pool:
        writes = [pool.submit(timed_put, on_s3, f"new-{number}") for number in range(3 * WRITERS)]
        for target, status in (
            ("/healthz", 200), ("/api/assets", 200), ("/storage/assets/old", 302), ("/api/usage", 200),
        ):  # fmt: skip
            assert on_s3.ask("GET", target).status == status
        assert on_s3.ask("HEAD", "/storage/assets/old").status == 200
        for seconds, answer in (write.result() for write in writes):
            assert_refused(answer)
            assert seconds < DEADLINE + slowest
    until(lambda: timed_put(on_s3, "old")[1].status == 200)  # a trial every two seconds
    until(lambda: threads(on_s3) <= before + 4)  # idle ones end
    keys = [asset["key"] for asset in json.loads(on_s3.ask("GET", "/api/assets").body)["assets"]]
    assert keys == ["old"]
    assert_settled(on_s3)


def test_database_that_is_gone_refuses_everything_and_keeps_no_bytes(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    with serving(tmp_path, DATABASE_URL=postgres_server.new_database()) as service:
        assert timed_put(service, "old")[1].status == 201
        postgres_server.server.stop()
        try:
            for number in range(4):
                seconds, answer = timed_put(service, f"new-{number}")
                assert_refused(answer)
                assert seconds < 2 * POSTGRES_WAIT
            assert service.ask("GET", "/storage/assets/old").status == 503
            assert service.ask("GET", "/healthz").status == 200
            assert service.ask("GET", "/readyz").status == 503
        finally:
            postgres_server.server.start()
        until(lambda: service.ask("GET", "/storage/assets/old").status == 200)
        assert timed_put(service, "new")[1].status == 201
        assert_settled(service)
        stored = [path for path in service.assets.glob("??/*") if path.is_file()]
        assert len(stored) == 2
