"""The named benchmarks: each puts one question to one server and gives one figure. Knows HTTP and process ids only."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection
from types import MappingProxyType

from bench import http
from bench.servers import Server
from bench.slow_clients import Crowd, served, slow_clients

KB, MB, GB = 1 << 10, 1 << 20, 1 << 30
FOLDER = "/storage/assets/bench/"
CONNECTIONS = 16
READER_RATE = 50 * KB  # bytes a second
TAIL = 64 * KB  # the range at the end of the big object


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything: seconds a benchmark lasts, size of the big object (bytes), number of slow readers.

    `crowds` are the numbers of connections, and `rounds` how often each contender is asked (bench/matrix.py).
    """

    seconds: float
    big: int
    readers: int
    crowds: tuple[int, ...] = (1, 16, 256)
    rounds: int = 3


FULL = Scale(seconds=6, big=GB, readers=500)
QUICK = Scale(seconds=1, big=32 * MB, readers=50, crowds=(1, 4), rounds=1)


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value, with remarks such as percentiles; `errors` counts requests that failed."""

    value: float
    errors: int = 0
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A question with its unit; `more_is_better` says which way the ratio to nginx is read."""

    ask: Callable[[Server, Scale], Figure]
    unit: str
    more_is_better: bool = True


def seed(server: Server, scale: Scale, address: Callable[[str], str] = lambda name: FOLDER + name) -> None:
    """Store the objects that are read later, each at its address.

    Raises:
        RuntimeError: the server refused one.
    """
    connection = http.connect(server.port)
    for name, size in (("4k", 4 * KB), ("100k", 100 * KB), ("10m", 10 * MB), ("big", scale.big)):
        status = http.put(connection, address(name), http.blocks(size), size)
        if status not in (200, 201, 204):
            raise RuntimeError(f"{server.name} refused PUT {name} with {status}")
    connection.close()


def _rate_of(name: str) -> Callable[[Server, Scale], Figure]:
    def ask(server: Server, scale: Scale) -> Figure:
        load = http.repeat_get(server.port, FOLDER + name, connections=CONNECTIONS, seconds=scale.seconds)
        return Figure(load.rate, load.errors)

    return ask


def _throughput_of(name: str) -> Callable[[Server, Scale], Figure]:
    def ask(server: Server, scale: Scale) -> Figure:
        connection = http.connect(server.port)
        size, begin = 0, time.perf_counter()
        while time.perf_counter() - begin < scale.seconds / 2:
            size += http.get(connection, FOLDER + name)
        return Figure(size / MB / (time.perf_counter() - begin))

    return ask


def _put_small(server: Server, scale: Scale) -> Figure:
    body = b"x" * 4 * KB
    run = time.time_ns()

    def work(connection: HTTPConnection, number: int) -> None:
        status = http.put(connection, f"{FOLDER}put/{run}-{number}", body, len(body))
        if status != 201:
            raise RuntimeError(f"PUT answered {status}")

    load = http.many(work, server.port, clients=CONNECTIONS, seconds=scale.seconds)
    remark = f"p50 {load.percentile(0.5) * 1e3:.0f} ms, p99 {load.percentile(0.99) * 1e3:.0f} ms"
    return Figure(load.rate, load.errors, remark)


def _put_big(server: Server, scale: Scale) -> Figure:
    begin = time.perf_counter()
    status = http.put(http.connect(server.port), FOLDER + "put-big", http.blocks(scale.big), scale.big)
    return Figure(scale.big / MB / (time.perf_counter() - begin), int(status not in (200, 201, 204)))


def _tail(server: Server, scale: Scale) -> Figure:
    connection = http.connect(server.port)
    headers = {"Range": f"bytes={scale.big - TAIL}-"}
    latencies = [_timed(connection, FOLDER + "big", headers) for _ in range(50)]
    return Figure(statistics.median(latencies) * 1e3, remark=f"worst {max(latencies) * 1e3:.1f} ms")


def _probe_beside_readers(server: Server, scale: Scale) -> Figure:
    crowd = Crowd(readers=scale.readers, rate=READER_RATE)
    with slow_clients(server.port, FOLDER + "10m", crowd) as readers:
        connection = http.connect(server.port)
        latencies = []
        deadline = time.monotonic() + scale.seconds
        while time.monotonic() < deadline:
            latencies.append(_timed(connection, FOLDER + "4k", {}))
            time.sleep(0.01)
        alive = served(readers).readers
    load = http.Load(0, 0, tuple(latencies))
    remark = f"{alive} of {scale.readers} served, worst {max(latencies) * 1e3:.0f} ms"
    return Figure(load.percentile(0.99) * 1e3, scale.readers - alive, remark)


def _timed(connection: HTTPConnection, path: str, headers: dict[str, str]) -> float:
    begin = time.perf_counter()
    http.get(connection, path, headers=headers)
    return time.perf_counter() - begin


BENCHMARKS: Mapping[str, Benchmark] = MappingProxyType(
    {
        "get-4k": Benchmark(_rate_of("4k"), "req/s"),
        "get-100k": Benchmark(_rate_of("100k"), "req/s"),
        "get-10m": Benchmark(_throughput_of("10m"), "MB/s"),
        "get-big": Benchmark(_throughput_of("big"), "MB/s"),
        "put-4k": Benchmark(_put_small, "req/s"),
        "put-big": Benchmark(_put_big, "MB/s"),
        "tail": Benchmark(_tail, "ms", more_is_better=False),
        "slow-readers": Benchmark(_probe_beside_readers, "ms p99", more_is_better=False),
    }
)
