"""`python -m bench --hot`: signed GETs of our service beside nginx's static files, in pairs, each figure a median.

Pairs are measured in turn, so that what else the machine does meets both. The memory of a crowd of slow clients and what
a probe beside it waits have no pair; uploads are held against what the disk and SHA-256 alone take.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bench import http, servers
from bench.measures import FOLDER, KB, MB, Scale, seed
from bench.memory import PeakMemory
from bench.servers import Server
from bench.slow_clients import Crowd, served, slow_clients

PAIRS: Final = 5
CONNECTIONS: Final = 16
SMALL_UPLOADS: Final = 600
TURN: Final = 100  # small uploads, then as many writes and syncs alone: one by one each would find the other's caches
REST: Final = 7  # seconds; by then the threads of a crowd have ended, among which small answers would come half as fast
HEAD: Final = "| what | unit | ours | beside | ratio | target | remarks |\n|---|---|---|---|---|---|---|"
Ask = Callable[[int, str], float]  # port, path -> figure


@dataclass(frozen=True, slots=True)
class Site:
    """Both servers with the same objects, and the links by which ours gives them."""

    ours: Server
    nginx: Server
    links: dict[str, str]
    scale: Scale

    def pairs(self, name: str, ask: Ask) -> tuple[float, float, float]:
        """Give the medians of ours, of nginx, and of their ratio."""
        found = []
        for number in range(PAIRS):
            both = {0: lambda: ask(self.ours.port, self.links[name]), 1: lambda: ask(self.nginx.port, FOLDER + name)}
            figures = {index: both[index]() for index in (number % 2, 1 - number % 2)}
            found.append((figures[0], figures[1], figures[0] / figures[1]))
        ours, beside, ratio = (statistics.median(column) for column in zip(*found, strict=True))
        return ours, beside, ratio


def report(ours: Server, nginx: Server, folder: Path, scale: Scale) -> Iterator[str]:
    """Measure, and give the table line by line."""
    seed(ours, scale)
    seed(nginx, scale)
    site = Site(ours, nginx, links(folder, ours.port), scale)
    yield HEAD
    yield _memory(site)  # first: what the others leave behind would be no growth of it
    time.sleep(REST)
    for name, ask, unit, target in _reads(scale):
        yield _line(name, unit, *site.pairs(name.split()[0], ask), target)
    yield from _accelerated(site, folder)
    yield from _uploads(ours, folder, scale)
    yield _crowd(site)


def _reads(scale: Scale) -> Iterator[tuple[str, Ask, str, str]]:
    rate = _rate(scale.seconds / 4, CONNECTIONS)
    yield "4k", rate, "req/s", ">= 0.30"
    yield "100k", rate, "req/s", ">= 0.45"
    yield "10m", _throughput(scale.seconds / 4), "MB/s", ">= 0.90"
    yield "big", _throughput(scale.seconds / 4), "MB/s", ">= 0.90"
    yield "4k unchanged (304)", _latency({"If-None-Match": "*"}), "ms", "as a 4 KB GET"
    yield "4k alone", _latency({}), "ms", ""
    yield (
        "big range of 64 KB",
        _latency({"Range": f"bytes={scale.big // 2}-{scale.big // 2 + 64 * KB - 1}"}),
        "ms",
        "<= 5",
    )
    yield "4k at 256 connections", _rate(scale.seconds / 4, 256), "req/s", ""


def _accelerated(site: Site, folder: Path) -> Iterator[str]:
    with servers.behind_nginx(folder) as front:
        behind = replace(site, ours=front)
        for name in ("10m", "big"):
            figures = behind.pairs(name, _throughput(site.scale.seconds / 4))
            yield _line(f"{name} behind nginx, X-Accel-Redirect", "MB/s", *figures, ">= 0.95")


def _rate(seconds: float, connections: int) -> Ask:
    def ask(port: int, path: str) -> float:
        load = http.repeat_get(port, path, connections=connections, seconds=max(1, round(seconds)))
        if load.errors:
            raise RuntimeError(f"GET {path.partition('?')[0]}: {load.errors} errors")
        return load.rate

    return ask


def _throughput(seconds: float) -> Ask:
    def ask(port: int, path: str) -> float:
        connection = http.connect(port)
        size, begin = 0, time.perf_counter()
        while time.perf_counter() - begin < seconds:
            size += http.get(connection, path)
        return size / MB / (time.perf_counter() - begin)

    return ask


def _latency(headers: dict[str, str]) -> Ask:
    def ask(port: int, path: str) -> float:
        connection, taken = http.connect(port), []
        for _ in range(200):
            begin = time.perf_counter()
            connection.request("GET", path, headers=headers)
            connection.getresponse().read()
            taken.append(time.perf_counter() - begin)
        return statistics.median(taken) * 1e3

    return ask


def _memory(site: Site) -> str:
    with PeakMemory(site.ours.process) as memory:
        _rate(site.scale.seconds / 4, 256)(site.ours.port, site.links["100k"])
    return f"| memory, 100 KB at 256 connections | MB | +{(memory.peak - memory.baseline) / MB:.0f} | | | +64 | |"


def _uploads(ours: Server, folder: Path, scale: Scale) -> Iterator[str]:
    os.sync()  # what seeding left behind must not wait in front of the first uploads
    yield _small_uploads(ours, folder)
    pairs = [(_timed(lambda: _put_big(ours, scale)), _timed(lambda: _copy(folder, scale))) for _ in range(3)]
    put, copy, ratio = (statistics.median(column) for column in zip(*((a, b, b / a) for a, b in pairs), strict=True))
    yield _line(
        "PUT big beside cp + sync + sha256sum", "MB/s", scale.big / MB / put, scale.big / MB / copy, ratio, ">= 0.50"
    )


def _small_uploads(ours: Server, folder: Path) -> str:
    connection = http.connect(ours.port)
    puts, syncs = [], []
    for begin in range(0, SMALL_UPLOADS, TURN):
        bodies = {str(number): os.urandom(64 * KB) for number in range(begin, begin + TURN)}
        for name, body in bodies.items():
            puts.append(_timed(lambda: http.put(connection, f"{FOLDER}small/{name}", body, len(body))))
        for name, body in bodies.items():
            syncs.append(_timed(lambda: _write_durably(folder / "durable", name, body)))
    (ours_p50, ours_p99), (alone_p50, alone_p99) = _percentiles(puts), _percentiles(syncs)
    remark = f"beside: the same writes and syncs alone; p50 {ours_p50:.1f} and {alone_p50:.1f} ms"
    ratio = ours_p99 / alone_p99
    return f"| PUT 64 KB, durable, one after the other | ms p99 | {ours_p99:.1f} | {alone_p99:.1f} | {ratio:.2f} | < 15 | {remark} |"


def _write_durably(folder: Path, name: str, body: bytes) -> None:
    """Do what of a PUT is the disk's: two commits of a log that is written over, between them a file in its folder."""
    folder.mkdir(exist_ok=True)
    _synced(folder / "log", body)
    _synced(folder / name, body)
    _synced(folder)
    _synced(folder / "log", body)


def _synced(path: Path, data: bytes = b"") -> None:
    """Write to the start of a file and sync it; without data only sync, which also serves for folders."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT if data else os.O_RDONLY, 0o600)
    try:
        if data:
            os.write(descriptor, data)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def _percentiles(taken: list[float]) -> tuple[float, float]:
    """Give p50 and p99 in ms."""
    return statistics.median(taken) * 1e3, sorted(taken)[int(0.99 * len(taken))] * 1e3


def _put_big(ours: Server, scale: Scale) -> None:
    http.put(http.connect(ours.port), FOLDER + "put-big", http.blocks(scale.big), scale.big)


def _copy(folder: Path, scale: Scale) -> None:
    source = folder / "source"
    if not source.exists():
        source.write_bytes(b"".join(http.blocks(scale.big)))
    command = f"cp {source} {folder}/copy && sync {folder}/copy && sha256sum {folder}/copy && rm {folder}/copy"
    subprocess.run(["sh", "-c", command], check=True, capture_output=True)


def _timed(work: Callable[[], None]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _crowd(site: Site) -> str:
    number, waits = site.scale.readers, []
    with PeakMemory(site.ours.process) as memory:
        crowd = Crowd(readers=number, writers=number, heads=number)
        with slow_clients(site.ours.port, site.links["10m"], crowd) as clients:
            connection, end = http.connect(site.ours.port), time.monotonic() + 10 * site.scale.seconds
            while time.monotonic() < end:
                waits.append(_timed(lambda: http.get(connection, site.links["4k"]) and None))
                time.sleep(0.02)
            alive = served(clients)
    p99 = http.Load(0, 0, tuple(waits)).percentile(0.99) * 1e3
    what = f"{number} slow readers, writers and unfinished heads each: probe"
    remark = f"peak {memory.peak / MB:.0f} MB; served: {alive.readers} readers, {alive.writers} writers"
    return f"| {what} | ms p99 | {p99:.1f} | | | < 250, 700 MB | {remark} |"


def _line(name: str, unit: str, ours: float, beside: float, ratio: float, target: str) -> str:
    numbers = (f"{value:,.0f}" if value >= 100 else f"{value:.2f}" for value in (ours, beside))
    return f"| {name} | {unit} | {' | '.join(numbers)} | {ratio:.2f} | {target} | |"


def links(folder: Path, port: int) -> dict[str, str]:
    """Sign links of a day with the service's own key; they name what is at the address now."""
    os.environ |= servers.variables(folder, port) | {"DJANGO_SETTINGS_MODULE": "nodetool_site.settings"}
    import django

    django.setup()
    from assets.links import current_links
    from assets.models import Asset

    links = current_links(life=24 * 3600)
    found = Asset.objects.select_related("object").filter(bucket="assets", key__startswith="bench/")
    return {(a.key or "").removeprefix("bench/"): (links.url(a) or "").removeprefix(links.base_url) for a in found}
