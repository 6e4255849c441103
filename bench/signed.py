"""`python -m bench.signed`: what a signed GET of a 4 KB object on disk keeps of the rate of a public one.

One run of the real service; pairs of short measurements in turn, so that what else the machine does meets both.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from pathlib import Path
from typing import Final

from bench import http, servers
from bench.servers import Server

PAIRS: Final = 9
SECONDS: Final = 1.0  # of each measurement
CONNECTIONS: Final = 16
SIZE: Final = 4 << 10  # bytes
TARGET: Final = 0.8
KEYS: Final = ("bench/public", "bench/signed")


def main() -> int:
    """Print a Markdown table; exit 1 when a request failed."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, servers.service(Path(folder)) as server:
        _seed(server)
        paths = _paths(Path(folder), server)
        pairs = [_pair(server, paths, number, options.seconds) for number in range(-1, options.pairs)][1:]
    print("| pair | public, req/s | signed, req/s | ratio | errors |\n|---|---|---|---|---|")
    for number, (public, signed) in enumerate(pairs, start=1):
        errors = public.errors + signed.errors
        print(f"| {number} | {public.rate:,.0f} | {signed.rate:,.0f} | {signed.rate / public.rate:.3f} | {errors} |")
    median = statistics.median(signed.rate / public.rate for public, signed in pairs)
    print(f"\nmedian ratio {median:.3f}, target {TARGET}")
    return int(any(load.errors for pair in pairs for load in pair))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.signed", description=__doc__)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each measurement")
    return parser.parse_args()


def _seed(server: Server) -> None:
    connection = http.connect(server.port)
    for key in KEYS:
        status = http.put(connection, f"/storage/assets/{key}", http.blocks(SIZE), SIZE)
        if status != 201:
            raise RuntimeError(f"PUT {key} answered {status}")
    connection.close()


def _paths(folder: Path, server: Server) -> tuple[str, str]:
    """Make the first object public, and give its path and the signed one of the second, from the service's catalog."""
    os.environ |= servers.variables(folder, server.port) | {"DJANGO_SETTINGS_MODULE": "nodetool_site.settings"}
    import django

    django.setup()
    from assets.links import current_links
    from assets.models import Asset

    Asset.objects.filter(bucket="assets", key=KEYS[0]).update(is_public=True)
    links = current_links()
    urls = [links.url(Asset.objects.select_related("object").get(bucket="assets", key=key)) or "" for key in KEYS]
    public, signed = (url.removeprefix(links.base_url) for url in urls)
    return public, signed


def _pair(server: Server, paths: tuple[str, str], number: int, seconds: float) -> tuple[http.Load, http.Load]:
    """Measure both, each first in its turn."""
    first = number % 2
    loads = {index: _load(server, paths[index], seconds) for index in (first, 1 - first)}
    return loads[0], loads[1]


def _load(server: Server, path: str, seconds: float) -> http.Load:
    return http.repeat_get(server.port, path, connections=CONNECTIONS, seconds=seconds)


if __name__ == "__main__":
    raise SystemExit(main())
