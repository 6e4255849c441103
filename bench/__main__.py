"""`python -m bench`: runs the benchmarks against our service and nginx in one run and prints a Markdown table."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from bench import hot, matrix, parts, servers
from bench.measures import BENCHMARKS, FULL, MB, QUICK, Figure, Scale, seed
from bench.memory import PeakMemory
from bench.servers import Server

HEAD = (
    "| benchmark | unit | service | nginx | share of nginx | errors | memory +MB | remarks |\n"
    "|---|---|---|---|---|---|---|---|"
)


def main() -> int:
    """Run what the command line asks for; exit 1 when a request failed, so that a broken answer is no record."""
    options = _options()
    scale = QUICK if options.quick else FULL
    if options.all:
        for line in _all(options, scale):
            print(line, flush=True)
        return 0
    failed = 0
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder)))
        ours, limit = _start(stack, folder, options.command)
        if options.hot and limit:
            for line in hot.report(ours, limit, folder / "service", scale):
                print(line, flush=True)
            return 0
        for server in filter(None, (ours, limit)):
            seed(server, scale)
        print(HEAD, flush=True)
        for name in options.only or BENCHMARKS:
            line, errors = _compare(name, ours, limit, scale)
            print(line, flush=True)
            failed += errors
    return int(failed > 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes and one second each, for continuous checks")
    parser.add_argument("--hot", action="store_true", help="signed reads beside nginx, in pairs (bench/hot.py)")
    parser.add_argument("--all", action="store_true", help="everything, beside all others (bench/matrix.py, parts.py)")
    parser.add_argument("--only", action="append", choices=list(BENCHMARKS), help="this benchmark; may be repeated")
    parser.add_argument("--folder", help="where the data goes; default: the system's folder for temporary files")
    parser.add_argument("--command", type=shlex.split, help="measure this server instead of ours; {port} is filled in")
    return parser.parse_args()


def _all(options: argparse.Namespace, scale: Scale) -> Iterator[str]:
    """Give what docs/performance.md keeps: when and where, the requests, slow clients, and each part.

    Raises:
        RuntimeError: nginx is not installed.
    """
    if shutil.which("nginx") is None:
        raise RuntimeError(
            "Without nginx there is no limit beside our figures: install it (Debian: apt install nginx)."
        )
    yield f"{datetime.now(UTC):%d %B %Y}, {os.cpu_count()} cores, {_processor()}, load {os.getloadavg()[0]:.1f} at the start"
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder) as folder:
        yield "\n## Requests\n"
        yield from matrix.report(Path(folder), scale)
    yield from parts.report(quick=options.quick, folder=options.folder)


def _processor() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else "an unknown processor"


def _start(stack: ExitStack, folder: Path, command: list[str] | None) -> tuple[Server, Server | None]:
    ours = stack.enter_context(servers.service(_made(folder / "service"), command=command))
    if shutil.which("nginx") is None:
        print("nginx is not installed: no limit beside our figures\n")
        return ours, None
    return ours, stack.enter_context(servers.nginx(_made(folder / "nginx")))


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _compare(name: str, ours: Server, limit: Server | None, scale: Scale) -> tuple[str, int]:
    benchmark = BENCHMARKS[name]
    with PeakMemory(ours.process) as memory:
        figure = benchmark.ask(ours, scale)
    beside = benchmark.ask(limit, scale) if limit else None
    growth = f"{(memory.peak - memory.baseline) / MB:.0f} (peak {memory.peak / MB:.0f})"
    cells = (name, benchmark.unit, *_pair(figure, beside), str(figure.errors), growth, figure.remark)
    return f"| {' | '.join(cells)} |", figure.errors


def _pair(ours: Figure, beside: Figure | None) -> Iterator[str]:
    yield _number(ours.value)
    yield _number(beside.value) if beside else "-"
    yield f"{ours.value / beside.value:.3f}" if beside else "-"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


if __name__ == "__main__":
    raise SystemExit(main())
