"""`python -m bench --all`, first part: every kind of request at every size, of ours and of three others in one run.

The others are nginx (static files, and WebDAV for PUT, which is not durable), a bare Django view and SeaweedFS' own S3,
asked by presigned URLs. Contenders take turns, so that what else the machine does meets all; a figure is the median of
the rounds, and a ratio that of the ratios.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from bench import http, servers
from bench.hot import links
from bench.measures import FOLDER, GB, KB, MB, Scale, seed
from bench.memory import PeakMemory, tree_bytes
from bench.servers import Server

Address = Callable[[str], str]  # name of an object -> path, with its query
RANGE: Final = 64 * KB
MOST_PUT: Final = GB  # bytes that the clients of one row send at once; all of it stays on the disk for the run
SAMPLED: Final = 1.0  # seconds between two looks at the memory of everybody
OURS: Final = "ours"


@dataclass(frozen=True, slots=True)
class Contender:
    """A server with the same objects, and where it gives and takes them."""

    server: Server
    get: Address
    put: Address
    has_ranges: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """One question: what is asked of which object over how many connections; figures of `unit`."""

    what: str
    name: str
    connections: int
    unit: str
    headers: Mapping[str, str] | None = None
    is_put: bool = False
    size: int = 0

    def ask(self, contender: Contender, seconds: float) -> float:
        """Put it to one contender.

        Raises:
            RuntimeError: requests failed.
        """
        load = self._put(contender, seconds) if self.is_put else self._get(contender, seconds)
        if load.errors:
            raise RuntimeError(f"{contender.server.name}: {self.what}: {load.errors} errors")
        return load.throughput / MB if self.unit == "MB/s" else load.rate

    def _get(self, contender: Contender, seconds: float) -> http.Load:
        headers = dict(self.headers or {})
        if "If-None-Match" in headers:
            headers["If-None-Match"] = _etag(contender, self.name)
        path = contender.get(self.name)
        return http.repeat_get(
            contender.server.port, path, connections=self.connections, seconds=seconds, headers=headers
        )

    def _put(self, contender: Contender, seconds: float) -> http.Load:
        run = time.time_ns()

        def work(connection: HTTPConnection, number: int) -> int:
            body = http.blocks(self.size) if self.size > MB else b"x" * self.size
            status = http.put(connection, contender.put(f"put/{run}-{number}"), body, self.size)
            if status not in (200, 201, 204):
                raise RuntimeError(f"PUT answered {status}")
            return self.size

        return http.many(work, contender.server.port, clients=self.connections, seconds=seconds)


def report(folder: Path, scale: Scale) -> Iterator[str]:
    """Measure, and give two tables line by line: requests, and the memory that they took."""
    with _contenders(folder, scale) as contenders, ExitStack() as stack:
        idle = {name: tree_bytes(contender.server.process) for name, contender in contenders.items()}
        peaks = {
            name: stack.enter_context(PeakMemory(contender.server.process, interval=SAMPLED))
            for name, contender in contenders.items()
        }
        others = [name for name in contenders if name != OURS]
        yield f"| request | connections | unit | {' | '.join(contenders)} | {' | '.join(f'to {o}' for o in others)} |"
        yield "|---" * (3 + len(contenders) + len(others)) + "|"
        for row in rows(scale):
            yield _line(row, contenders, scale)
        yield ""
        yield "| memory, MB | idle | peak |\n|---|---|---|"
        for name in contenders:
            yield f"| {name} | {idle[name] / MB:,.0f} | {peaks[name].peak / MB:,.0f} |"


def rows(scale: Scale) -> Iterator[Row]:
    """Give every question of a run."""
    sizes = {"4k": 4 * KB, "100k": 100 * KB, "10m": 10 * MB, "big": scale.big}
    units = {name: "MB/s" if size >= MB else "req/s" for name, size in sizes.items()}
    labels = {"4k": "4 KB", "100k": "100 KB", "10m": "10 MB", "big": f"{scale.big // MB:,} MB"}
    for name in sizes:
        for connections in scale.crowds:
            yield Row(f"GET {labels[name]}", name, connections, units[name])
    first = scale.big // 2
    for connections in scale.crowds:
        headers = {"Range": f"bytes={first}-{first + RANGE - 1}"}
        yield Row("range of 64 KB", "big", connections, "req/s", headers)
    for connections in scale.crowds:
        yield Row("304 of 4 KB", "4k", connections, "req/s", {"If-None-Match": ""})
    for name, size in sizes.items():
        for connections in scale.crowds:
            if size * connections <= MOST_PUT:
                yield Row(f"PUT {labels[name]}", name, connections, units[name], is_put=True, size=size)


def _line(row: Row, contenders: dict[str, Contender], scale: Scale) -> str:
    asked = [name for name, contender in contenders.items() if contender.has_ranges or row.what != "range of 64 KB"]
    rounds: list[dict[str, float]] = []
    for number in range(scale.rounds):
        turn = number % len(asked)
        rounds.append({name: row.ask(contenders[name], scale.seconds / 3) for name in asked[turn:] + asked[:turn]})
    figures = [_number(statistics.median(r[name] for r in rounds)) if name in asked else "-" for name in contenders]
    ratios = [_ratio(rounds, name) if name in asked else "-" for name in contenders if name != OURS]
    cells = (row.what, f"{row.connections}", row.unit, *figures, *ratios)
    return f"| {' | '.join(cells)} |"


def _ratio(rounds: list[dict[str, float]], name: str) -> str:
    return f"{statistics.median(r[OURS] / r[name] for r in rounds):.2f}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


@contextmanager
def _contenders(folder: Path, scale: Scale) -> Iterator[dict[str, Contender]]:
    with ExitStack() as stack:
        places = {name: folder / name for name in (OURS, "nginx", "Django", "SeaweedFS")}
        for place in places.values():
            place.mkdir()
        ours = stack.enter_context(servers.service(places[OURS]))
        nginx = stack.enter_context(servers.nginx(places["nginx"]))
        django = stack.enter_context(servers.bare(places["Django"]))
        store, variables = stack.enter_context(servers.object_store(places["SeaweedFS"]))
        made = {
            "nginx": Contender(nginx, _under(FOLDER), _under(FOLDER)),
            "Django": Contender(django, _under("/bench/"), _under("/bench/"), has_ranges=False),
            "SeaweedFS": Contender(store, _presigned(variables, "get_object"), _presigned(variables, "put_object")),
        }
        seed(ours, scale)
        for contender in made.values():
            seed(contender.server, scale, contender.put)
        yield {OURS: Contender(ours, links(places[OURS], ours.port).__getitem__, _under(FOLDER)), **made}


def _under(prefix: str) -> Address:
    return lambda name: prefix + name


def _presigned(variables: Mapping[str, str], operation: str) -> Address:
    client: Any = servers.s3_client(variables)

    def address(name: str) -> str:
        url = client.generate_presigned_url(
            operation, Params={"Bucket": variables["ASSET_BUCKET"], "Key": name}, ExpiresIn=24 * 3600
        )
        parts = urlsplit(url)
        return f"{parts.path}?{parts.query}"

    return address


def _etag(contender: Contender, name: str) -> str:
    connection = http.connect(contender.server.port)
    connection.request("GET", contender.get(name))
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.headers["ETag"]
