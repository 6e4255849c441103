"""A dead, hung, restarted, flushed, full, lying or malicious Memcached: a miss, never an error, never wrong data."""

from __future__ import annotations

import os
import pickle
import secrets
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from storagecache.breaker import OPEN_SECONDS
from storagecache.node_cache import MISS, ClearFailedError, NodeCacheKey
from storagecache.node_cache.area import CacheArea
from storagecache.node_cache.cache import NodeCache
from storagecache.node_cache.flights import LOCK_SECONDS
from storagecache.node_cache.frames import mac_key
from storagecache.node_cache.memcached import Memcached
from storagecache.node_cache.tiers import MemcachedTier, TierTroubleError
from tests import servers
from tests.node_cache.parts import SECRET
from tests.ports import free_ports
from tests.servers import MemcachedServer

KEY = NodeCacheKey("1", "w", "t", "d" * 64)
ROOT = Path(__file__).resolve().parents[2]
Caches = Callable[..., NodeCache]


@pytest.fixture
def two_servers() -> Iterator[list[MemcachedServer]]:
    """Give two Memcacheds of this test's own, which it may kill."""
    make = servers.new_memcached
    with servers.started("memcached", make) as one, servers.started("memcached", make) as two:
        yield [one, two]


@pytest.fixture
def caches(area: CacheArea) -> Iterator[Caches]:
    """Give a maker of caches on given addresses, without memory of their own unless asked for."""
    made: list[NodeCache] = []
    clients: list[Memcached] = []

    def make(*addresses: tuple[str, int], max_bytes: int = 0) -> NodeCache:
        clients.append(Memcached(addresses))
        tier = MemcachedTier(clients[-1], "test")
        made.append(NodeCache(tier=tier, area=area, secret=mac_key(SECRET), max_bytes=max_bytes))
        return made[-1]

    yield make
    for cache in made:
        cache.close()
    for client in clients:
        client.close()


def address(server: MemcachedServer) -> tuple[str, int]:
    return server.host, server.port


def is_back(cache: NodeCache) -> bool:
    """Wait until the breaker lets the cache work again."""
    deadline = time.monotonic() + OPEN_SECONDS + 4
    while time.monotonic() < deadline:
        if cache.set("probe", 1) and cache.get("probe") == 1:
            return True
        time.sleep(0.05)  # a poll of a recovering part
    return False


@pytest.mark.faults
@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_memcached_lost_in_mid_run_changes_no_result(
    two_servers: list[MemcachedServer], caches: Caches, how: str
) -> None:
    cache, server = caches(address(two_servers[0]), max_bytes=1 << 20), two_servers[0].server
    assert [cache.get_or_compute(str(n), lambda n=n: {"n": n}) for n in range(20)] == [{"n": n} for n in range(20)]
    with server.down() if how == "killed" else server.paused():
        started = time.monotonic()
        assert [cache.get_or_compute(str(n), lambda n=n: {"n": n}) for n in range(20)] == [{"n": n} for n in range(20)]
        assert cache.get("1", MISS) is MISS
        assert cache.set("x", 1) is False
        assert cache.delete("x") is False
        with pytest.raises(ClearFailedError):
            cache.clear(user="1")
        assert time.monotonic() - started < 6  # the breaker skips it: not a timeout per call
        assert cache.stats()["l2"]["errors"] > 0
    assert is_back(cache)


@pytest.mark.faults
def test_memcached_restarted_between_calls_costs_no_error(two_servers: list[MemcachedServer], caches: Caches) -> None:
    cache = caches(address(two_servers[0]), max_bytes=1 << 20)
    cache.set(KEY, 1)
    assert cache.get(KEY) == 1
    two_servers[0].server.kill()
    two_servers[0].server.start()
    assert cache.get(KEY, MISS) is MISS  # its tokens are lost: new ones, and what this process holds is dead
    assert cache.set(KEY, 2) is True
    assert cache.get(KEY) == 2
    assert cache.stats()["l2"]["errors"] == 0


@pytest.mark.faults
def test_returning_node_revives_nothing(two_servers: list[MemcachedServer], caches: Caches) -> None:
    cleared: list[bool] = []
    for number in (0, 1):
        _clear_while_away(two_servers, caches, number, cleared)
    assert sorted(cleared) == [False, True]  # a clear needs the one node that holds the tokens, and no other


def _clear_while_away(two_servers: list[MemcachedServer], caches: Caches, number: int, cleared: list[bool]) -> None:
    both = [address(server) for server in two_servers]
    keys = [NodeCacheKey("1", "w", "t", f"{n:064d}") for n in range(12)]
    cache = caches(*both)
    for key in keys:
        assert cache.set(key, 1)
    with two_servers[number].server.paused():
        is_cleared = True
        try:
            cache.clear(user="1")
        except ClearFailedError:
            is_cleared = False
        assert not is_cleared or all(cache.get(key, MISS) is MISS for key in keys)
        cleared.append(is_cleared)
    assert is_back(cache)
    time.sleep(OPEN_SECONDS)  # the breaker of the node that holds no probe
    if not is_cleared:
        cache.clear(user="1")
    for reader in (cache, caches(*both)):
        assert all(reader.get(key, MISS) is MISS for key in keys)


def test_flushed_memcached_is_a_miss_everywhere(two_servers: list[MemcachedServer], caches: Caches) -> None:
    cache = caches(address(two_servers[0]), max_bytes=1 << 20)
    cache.set(KEY, 1)
    with socket.create_connection(address(two_servers[0])) as connection:
        connection.sendall(b"flush_all\r\n")
        assert connection.recv(10) == b"OK\r\n"
    assert cache.get(KEY, MISS) is MISS
    assert cache.get_or_compute(KEY, lambda: 3) == 3
    assert cache.get(KEY) == 3


def test_full_memcached_loses_nothing_silently(two_servers: list[MemcachedServer], caches: Caches) -> None:
    cache = caches(address(two_servers[0]))
    values = {f"k{n}": secrets.token_bytes(900_000) for n in range(120)}  # it holds 64 MB
    for name, value in values.items():
        cache.set(name, value)
    assert all(cache.get(name, MISS) in (MISS, value) for name, value in values.items())
    assert cache.get("k119") == values["k119"]


class _Executed:
    """Unpickling this would make a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (self.path,)


def test_planted_pickles_and_garbage_are_misses_and_nothing_is_executed(
    memcached_server: MemcachedServer, caches: Caches, tmp_path: Path
) -> None:
    cache = caches(address(memcached_server))
    cache.set(KEY, {"a": 1})
    lease = cache._core.generations.remembered(KEY)
    assert lease is not None
    client = cache._core.shelves.tier.client  # type: ignore[attr-defined]
    wires = [f"ntc1-test-{key}" for key in (lease.wire, "e-" + "0" * 40, "d-" + lease.key_id)]
    for planted in (pickle.dumps(_Executed(str(tmp_path / "executed"))), b"", b"\x00" * 200, secrets.token_bytes(999)):
        for wire in wires:
            client.nodes[0].call(lambda c, wire=wire, planted=planted: c.set(wire, planted, flags=1, noreply=False))
            assert cache.get(KEY, MISS) in (MISS, {"a": 1})
            assert cache.get_or_compute(KEY, lambda: {"a": 1}) == {"a": 1}
    assert not (tmp_path / "executed").exists()
    assert is_back(cache)


def test_frame_of_another_key_is_a_miss(memcached_server: MemcachedServer, caches: Caches) -> None:
    cache = caches(address(memcached_server))
    tier = cache._core.shelves.tier
    cache.set("a", "of a")
    cache.set("b", "of b")
    a, b = cache._core.generations.remembered("a"), cache._core.generations.remembered("b")
    assert a is not None
    assert b is not None
    tier.set(a.wire, [bytes(tier.fetch([b.wire])[b.wire])], None)
    assert cache.get("a", MISS) is MISS
    assert cache.stats()["bad_frames"] == 1


LIES: dict[str, bytes] = {
    "garbage": b"\x00\xff" * 300 + b"\r\n",
    "http": b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n",
    "endless line": b"VALUE " + b"x" * 5000,
    "huge size": b"VALUE k 0 99999999999999\r\n",
    "negative size": b"VALUE k 0 -5\r\nabc\r\nEND\r\n",
    "other key": b"VALUE nobody-asked 0 3\r\nabc\r\nEND\r\n",
    "error": b"SERVER_ERROR out of memory\r\n",
    "client error": b"CLIENT_ERROR bad\r\n",
    "nothing": b"",
    "end": b"END\r\n",
    "half a line": b"VALU",
    "unicode digits": "VALUE k 0 ²\r\n".encode(),
    "no size": b"VALUE ntc1-test-e-" + b"0" * 40 + b" 0 \r\nEND\r\n",
    "more than was asked": b"VALUE ntc1-test-e-" + b"0" * 40 + b" 0 2\r\nab\r\nEND\r\nEND\r\n",
    "short value": b"VALUE ntc1-test-e-" + b"0" * 40 + b" 0 9\r\nab\r\nEND\r\n",
}


@contextmanager
def liar(answer: bytes, *, drip: bytes = b"") -> Iterator[tuple[str, int]]:
    """Serve one answer to everything that is said, its end in drips."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                while self.request.recv(65536):
                    self.request.sendall(answer)
                    for byte in drip:
                        self.request.sendall(bytes([byte]))
                        time.sleep(0.05)
                    if not answer + drip:
                        return

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[0], server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("lie", LIES)
def test_lying_server_is_a_miss(caches: Caches, lie: str) -> None:
    with liar(LIES[lie]) as where:
        cache = caches(where)
        started = time.monotonic()
        assert cache.get(KEY, MISS) is MISS
        assert cache.set(KEY, 1) is False
        assert cache.get_or_compute(KEY, lambda: 7) == 7
        with pytest.raises(ClearFailedError):
            cache.clear()
        assert time.monotonic() - started < 6


@pytest.mark.parametrize(
    ("answer", "drip"),
    [(b"", b"VALUE " + b"k" * 200), (b"VALUE ntc1-test-e-" + b"0" * 40 + b" 0 1000000\r\n", b"x" * 400)],
    ids=["a line", "a value"],
)
def test_dripping_server_does_not_hold_the_caller(caches: Caches, answer: bytes, drip: bytes) -> None:
    with liar(answer, drip=drip) as where:
        started = time.monotonic()
        assert caches(where).get(KEY, MISS) is MISS
        assert time.monotonic() - started < 6


def test_refused_connection_is_a_miss(caches: Caches) -> None:
    cache = caches(("127.0.0.1", free_ports(1)))
    assert cache.get(KEY, MISS) is MISS
    assert cache.get_or_compute(KEY, lambda: 7) == 7
    assert cache.stats()["l2"]["errors"] > 0


PROCESS = """
import sys, time
from django.conf import settings
settings.configure(USE_TZ=True)
from pathlib import Path
from storagecache.node_cache.area import CacheArea
from storagecache.node_cache.cache import NodeCache
from storagecache.node_cache.frames import mac_key
from storagecache.node_cache.memcached import Memcached
from storagecache.node_cache.tiers import MemcachedTier
from storagecache.storages.filesystem import FilesystemObjectStorage
from concurrent.futures import ThreadPoolExecutor
port, folder, log, start = int(sys.argv[1]), sys.argv[2], sys.argv[3], float(sys.argv[4])
area = CacheArea(FilesystemObjectStorage(location=folder))
cache = NodeCache(tier=MemcachedTier(Memcached([("127.0.0.1", port)]), "flight"), area=area,
                  secret=mac_key("s"), max_bytes=1 << 20)
def compute():
    with open(log, "a") as file:
        file.write("computed\\n")
    time.sleep(0.7)
    return {"v": 1}
time.sleep(max(0, start - time.time()))
with ThreadPoolExecutor(8) as pool:
    print(all(job.result() == {"v": 1} for job in [pool.submit(cache.get_or_compute, "k", compute) for _ in range(8)]))
"""


def test_four_processes_of_eight_threads_compute_once(two_servers: list[MemcachedServer], tmp_path: Path) -> None:
    log, start = tmp_path / "log", time.time() + 3
    arguments = [str(two_servers[0].port), str(tmp_path / "cache"), str(log), str(start)]
    running = [
        subprocess.Popen([sys.executable, "-c", PROCESS, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert [process.communicate(timeout=60)[0].strip() for process in running] == ["True"] * 4
    assert log.read_text() == "computed\n"


def test_dead_lock_holder_is_replaced(memcached_server: MemcachedServer, caches: Caches) -> None:
    cache = caches(address(memcached_server))
    name = secrets.token_hex(8)
    cache.get(name)
    lease = cache._core.generations.remembered(name)
    assert lease is not None
    tier = cache._core.shelves.tier
    assert tier.add("x-" + lease.wire.partition("-")[2], [b"of a process that died"], 1)
    assert cache.get_or_compute(name, lambda: 5) == 5


def seconds_left(server: MemcachedServer, key: str) -> int:
    """Ask the server itself how long a key will live (meta get, protocol.txt)."""
    with socket.create_connection(address(server)) as connection:
        connection.sendall(f"mg ntc1-test-{key} t\r\n".encode())
        return int(connection.recv(100).split(b"t")[1])


def test_lock_is_prolonged_while_its_holder_lives(memcached_server: MemcachedServer, caches: Caches) -> None:
    cache = caches(address(memcached_server))
    locks, tier, name = cache._core.locks, cache._core.shelves.tier, f"v-{secrets.token_hex(20)}"
    assert locks.acquire(name) is True
    assert locks.acquire(name) is False
    lock = "x-" + name[2:]
    tier.set(lock, [bytes(tier.fetch([lock])[lock])], 1000)
    locks.beat()
    assert 0 < seconds_left(memcached_server, lock) <= LOCK_SECONDS
    locks.release(name)
    assert tier.fetch([lock]) == {}


def test_lock_of_another_holder_is_left_alone(memcached_server: MemcachedServer, caches: Caches) -> None:
    cache = caches(address(memcached_server))
    locks, tier, name = cache._core.locks, cache._core.shelves.tier, f"v-{secrets.token_hex(20)}"
    assert locks.acquire(name) is True
    lock = "x-" + name[2:]
    tier.set(lock, [b"of another process"], 1000)
    locks.beat()
    locks.release(name)
    assert tier.fetch([lock])[lock] == b"of another process"
    assert seconds_left(memcached_server, lock) > LOCK_SECONDS
    tier.delete(lock)


def test_longer_list_of_servers_moves_only_the_new_ones_share() -> None:
    before, after = Memcached(["a:1", "b:1"]), Memcached(["a:1", "b:1", "c:1"])
    keys = [f"v-{number:040x}" for number in range(3000)]
    moved = [key for key in keys if before.node_of(key).name != after.node_of(key).name]
    assert {after.node_of(key).name for key in moved} == {"c:1"}
    assert 800 < len(moved) < 1200


@pytest.mark.parametrize("sizes", [(100_000, 99_999), (900_000, 10), (20_000, 0), (16_384, 16_383), (16_100, 16_300)])
def test_answers_of_changing_sizes_come_whole(memcached_server: MemcachedServer, sizes: tuple[int, int]) -> None:
    client, name = Memcached([address(memcached_server)]), secrets.token_hex(8)
    values = {f"{name}{number}": secrets.token_bytes(size) for number, size in enumerate(sizes)}
    for key, value in values.items():
        client.store("set", key, value, 100)
    for keys in (*[[key] for key in values] * 3, list(values), [*values, "absent"], ["absent", *reversed(values)]):
        assert client.fetch(keys) == {key: values[key] for key in keys if key in values}
    client.close()


def test_short_value_after_a_long_one_is_one_receive_again(memcached_server: MemcachedServer) -> None:
    client, name = Memcached([address(memcached_server)]), secrets.token_hex(8)
    client.store("set", f"{name}long", bytes(500_000), 100)
    client.store("set", f"{name}short", bytes(1000), 100)

    def next_receive(key: str) -> int:
        client.fetch([name + key])
        return client.nodes[0].call(lambda connection: connection.first_bytes)

    usual = next_receive("short")
    assert next_receive("long") < usual
    assert next_receive("short") == usual
    client.close()


@pytest.mark.parametrize("size", [0, 10, 999, 16_000, 16_384, 100_000])
def test_guarded_value_counts_only_while_its_guard_holds(memcached_server: MemcachedServer, size: int) -> None:
    client, value = Memcached([address(memcached_server)]), secrets.token_bytes(size)
    tier = MemcachedTier(client, secrets.token_hex(4))
    tier.set("v-1", [value], 100)
    for token in (b"a" * 32, b"b" * 32):
        tier.set("e-0", [token], None)
        for _ in range(2):  # what came last decides how much is received at first
            assert tier.fetch_guarded("e-0", token, "v-1") == (True, value)
            assert tier.fetch_guarded("e-0", b"c" * 32, "v-1")[0] is False
            assert tier.fetch_guarded("e-0", token[:31], "v-1")[0] is False
            assert tier.fetch_guarded("e-0", token, "v-2") == (True, None)
    tier.delete("e-0")
    assert tier.fetch_guarded("e-0", b"b" * 32, "v-1")[0] is False
    client.close()


def test_guard_on_another_node_counts_as_well(two_servers: list[MemcachedServer]) -> None:
    client = Memcached(map(address, two_servers))
    tier = MemcachedTier(client, "test")
    tier.set("e-0", [b"token"], None)
    for name in (f"v-{number}" for number in range(20)):
        tier.set(name, [name.encode()], 100)
        assert tier.fetch_guarded("e-0", b"token", name) == (True, name.encode())
        assert tier.fetch_guarded("e-0", b"other", name)[0] is False
    client.close()


GUARDED_LIES = {
    "long size": b"VALUE ntc1-test-v-1 0 4\r\nabc\r\nEND\r\n",
    "short size": b"VALUE ntc1-test-v-1 0 2\r\nabc\r\nEND\r\n",
    "padded size": b"VALUE ntc1-test-v-1 0 3 \r\nabc\r\nEND\r\n",
    "signed size": b"VALUE ntc1-test-v-1 0 +3\r\nabc\r\nEND\r\n",
    "other key": b"VALUE ntc1-test-v-2 0 3\r\nabc\r\nEND\r\n",
    "guard again": b"VALUE ntc1-test-e-0 0 5\r\ntoken\r\nEND\r\n",
    "no end": b"VALUE ntc1-test-v-1 0 3\r\nabc\r\n",
    "more": b"VALUE ntc1-test-v-1 0 3\r\nabc\r\nEND\r\nVALUE",
    "two ends": b"VALUE ntc1-test-v-1 0 3\r\nabc\r\nEND\r\nEND\r\n",
    "no value": b"abc\r\nEND\r\n",
}


@pytest.mark.parametrize("lie", GUARDED_LIES)
def test_lie_behind_a_right_guard_is_trouble(lie: str) -> None:
    with liar(b"VALUE ntc1-test-e-0 0 5\r\ntoken\r\n" + GUARDED_LIES[lie]) as where:
        tier = MemcachedTier(Memcached([where]), "test")
        with pytest.raises(TierTroubleError):
            tier.fetch_guarded("e-0", b"token", "v-1")
