"""Two web hosts behind nginx, a worker, PostgreSQL, two Memcached nodes and S3, driven as clients would."""

from __future__ import annotations

import io
import json
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
from PIL import Image

from tests.deploy.topology import Attempt, Topology, attempt, running, variables_of
from tests.server.processes import until
from tests.server.wire import ask
from tests.servers import MemcachedServer, PostgresServer, SeaweedServer, new_memcached, started

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="watches the processes through /proc"),
    pytest.mark.timeout(300),
]

CLIENTS = 6
ROUNDS = 15  # of a PUT and a GET by each client


@pytest.fixture(scope="module")
def second_memcached() -> Iterator[MemcachedServer]:
    """Give one more node, for keys are spread over several."""
    with started("memcached", new_memcached) as memcached:
        yield memcached


@pytest.fixture(scope="module")
def topology(
    tmp_path_factory: pytest.TempPathFactory,
    postgres_server: PostgresServer,
    seaweedfs: SeaweedServer,
    memcached_server: MemcachedServer,
    second_memcached: MemcachedServer,
) -> Iterator[Topology]:
    shared = variables_of(postgres_server, seaweedfs, (memcached_server, second_memcached))
    with running(tmp_path_factory.mktemp("topology"), shared) as made:
        yield made


def test_upload_through_one_host_is_read_through_the_other(topology: Topology) -> None:
    body = random.Random(1).randbytes(300_000)
    put = topology.ask("PUT", "/storage/assets/one/a.bin", body=body, at=topology.first.port)
    assert put.status == 201
    for port in (topology.second.port, topology.first.port, topology.port):
        got = topology.ask("GET", "/storage/assets/one/a.bin", at=port)
        assert (got.status, got.body, got.etag) == (200, body, put.etag)
    part = topology.ask("GET", "/storage/assets/one/a.bin", "Range: bytes=1000-1999", at=topology.second.port)
    assert (part.status, part.body) == (206, body[1000:2000])


def test_link_of_one_host_is_good_at_the_other(topology: Topology) -> None:
    put = topology.ask("PUT", "/storage/assets/linked.txt", body=b"linked", at=topology.first.port)
    record = json.loads(topology.ask("GET", f"/api/assets/{json.loads(put.body)['id']}", at=topology.first.port).body)
    parts = urlsplit(record["get_url"])
    if parts.path.startswith("/storage/"):
        answer = ask(topology.second.port, "GET", f"{parts.path}?{parts.query}")
        assert (answer.status, answer.body) == (200, b"linked")


def test_delete_through_one_host_is_seen_at_the_other(topology: Topology) -> None:
    topology.ask("PUT", "/storage/assets/gone.txt", body=b"x", at=topology.first.port)
    assert topology.ask("DELETE", "/storage/assets/gone.txt", at=topology.second.port).status == 204
    assert topology.ask("GET", "/storage/assets/gone.txt", at=topology.first.port).status == 404


def test_node_cache_is_shared_by_the_hosts(topology: Topology) -> None:
    write = (
        "from storagecache.environment import Environment as E; c = E.get_node_cache();"
        "[c.set(f'shared-{n}', {'n': n}) for n in range(20)]; c.set('big', b'b' * (3 << 20))"
    )
    read = (
        "from storagecache.environment import Environment as E; import sys; c = E.get_node_cache();"
        "found = [c.get(f'shared-{n}') for n in range(20)];"
        "sys.stdout.write(str(found == [{'n': n} for n in range(20)] and c.get('big') == b'b' * (3 << 20)))"
    )
    topology.first.manage("shell", "--no-imports", "-c", write)
    assert topology.second.manage("shell", "--no-imports", "-c", read) == "True"


def test_worker_looks_into_what_the_web_hosts_took(topology: Topology) -> None:
    data = io.BytesIO()
    Image.new("RGB", (300, 200), "red").save(data, "PNG")
    put = topology.ask("PUT", "/storage/assets/seen.png", "Content-Type: image/png", body=data.getvalue())
    asset_id = json.loads(put.body)["id"]
    record = f"/api/assets/{asset_id}"
    until(lambda: topology.ask("GET", f"{record}/thumbnail", at=topology.second.port).status == 200)


def test_proxy_names_the_request_in_its_answer_and_both_logs(topology: Topology) -> None:
    answer = topology.ask("GET", "/storage/assets/absent")
    name = answer.headers["x-request-id"]
    assert "," not in name
    hosts = (topology.first, topology.second)
    until(lambda: any(name in (host.folder / "log").read_text() for host in hosts))
    until(lambda: name in (topology.nginx_folder / "access.log").read_text())


def test_proxy_logs_no_query_and_hides_metrics(topology: Topology) -> None:
    topology.ask("GET", "/storage/assets/absent?signature=canary")
    assert ask(topology.port, "GET", "/metrics", "Authorization: Bearer metrics-token").status == 404
    until(lambda: '"path":"/metrics"' in (topology.nginx_folder / "access.log").read_text())
    assert "canary" not in (topology.nginx_folder / "access.log").read_text()


def test_every_host_tells_its_readiness_and_numbers(topology: Topology) -> None:
    for host in (topology.first, topology.second):
        ready = json.loads(ask(host.port, "GET", "/readyz").body)
        assert {name: ready[name]["status"] for name in ("database", "buckets", "cache")} == {
            "database": "ok", "buckets": "ok", "cache": "ok",
        }  # fmt: skip
        told = ask(host.port, "GET", "/metrics", "Authorization: Bearer metrics-token", "X-Forwarded-For: 192.0.2.1")
        assert b"nodetool_catalog_up 1.0" in told.body


def load(topology: Topology, prefix: str, meanwhile: Callable[[], None]) -> list[Attempt]:
    """Let clients put and get in turns; once a third is done, `meanwhile` runs beside them."""
    attempts: list[Attempt] = []
    third, total = threading.Event(), CLIENTS * ROUNDS * 2

    def client(number: int) -> None:
        for turn in range(ROUNDS):
            key = f"{prefix}/{number}-{turn}"
            attempts.append(attempt(topology, "PUT", key, content(key)))
            attempts.append(attempt(topology, "GET", key))
            if len(attempts) >= total // 3:
                third.set()

    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(client, number) for number in range(CLIENTS)]
        assert third.wait(120)
        meanwhile()
        for done in clients:
            done.result()
    assert len(attempts) == total
    return attempts


def content(key: str) -> bytes:
    return random.Random(key).randbytes(20_000)


def test_killed_host_under_load_loses_at_most_what_was_in_flight(topology: Topology) -> None:
    killed: list[float] = []

    def kill() -> None:
        topology.first.kill()
        killed.append(time.monotonic())

    attempts = load(topology, "killed", kill)
    try:
        lost = [a for a in attempts if a.status not in (200, 201) and not _follows_loss(a, attempts)]
        assert len(lost) <= CLIENTS
        assert [a for a in lost if a.began > killed[0]] == []
        assert any(a.began > killed[0] for a in attempts)
        _assert_all_kept(topology, attempts)
    finally:
        topology.first.start()


def test_hosts_restarted_one_by_one_under_load_lose_nothing(topology: Topology) -> None:
    statuses: list[int] = []

    def restart() -> None:
        for host in (topology.first, topology.second):
            statuses.append(host.stop())
            host.start()

    attempts = load(topology, "restarted", restart)
    assert statuses == [0, 0]
    assert [a for a in attempts if a.status not in (200, 201)] == []
    _assert_all_kept(topology, attempts)


def _follows_loss(read: Attempt, attempts: list[Attempt]) -> bool:
    """Tell whether a GET found nothing because its PUT was lost."""
    return read.status == 404 and any(a.method == "PUT" and a.key == read.key and a.status == 0 for a in attempts)


def _assert_all_kept(topology: Topology, attempts: list[Attempt]) -> None:
    """Every upload that was acknowledged is there; every read gave the whole of it."""
    assert all(a.body == content(a.key) for a in attempts if a.method == "GET" and a.status == 200)
    for put in (a for a in attempts if a.method == "PUT" and a.status in (200, 201)):
        assert topology.ask("GET", f"/storage/assets/{put.key}").body == content(put.key)


def test_nothing_is_left_half_done_behind_it_all(topology: Topology) -> None:
    found = json.loads(topology.worker.manage("verify_assets", "--deep", "--json"))
    assert (found["status"], sum(found["counts"].values())) == ("clean", 0)
