"""`python -m bench.download`: what memory a gibibyte through `ProcessingContext.download_asset` takes, from disk and S3.

Each kind is measured in a process of its own, whose highest resident memory the kernel keeps (VmHWM); S3 is a real
SeaweedFS. A sink counts the bytes and keeps none. Linux only.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench import servers

if TYPE_CHECKING:
    from assets.workflows import ProcessingContext

GIB: Final = 1 << 30
MIB: Final = 1 << 20
KINDS: Final = ("filesystem", "s3")
WANTED: Final = 32  # MiB of growth, at most


def main() -> int:
    """Print a Markdown table; 1 when a download took more memory than it may."""
    options = _options()
    if options.child:
        print(_store(options.size) if options.child == "store" else _load(options.child, options.size))
        return 0
    print(
        f"| {options.size >> 20:,} MiB from | MB/s | before, MiB | highest, MiB | growth, MiB |\n|---|---|---|---|---|"
    )
    growths = [_report(kind, options) for kind in options.only or KINDS]
    return int(max(growths) > WANTED)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.download", description=__doc__)
    parser.add_argument("--size", type=int, default=GIB, help="bytes of the asset")
    parser.add_argument("--only", action="append", choices=KINDS)
    parser.add_argument("--folder", help="where the data goes; default: the system's folder for temporary files")
    parser.add_argument("--child", help=argparse.SUPPRESS)  # "store", or the id of the asset to load
    return parser.parse_args()


def _report(kind: str, options: argparse.Namespace) -> float:
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder) as name:
        folder = Path(name)
        if kind == "s3":
            with servers.seaweedfs(folder) as where:
                figures = _run(folder, options.size, where)
        else:
            figures = _run(folder, options.size, {"ASSET_STORAGE": "filesystem"})
    rate, before, highest = figures
    print(f"| {kind} | {rate:,.0f} | {before:.1f} | {highest:.1f} | {highest - before:.1f} |", flush=True)
    return highest - before


def _run(folder: Path, size: int, where: dict[str, str]) -> tuple[float, float, float]:
    environment = servers.variables(folder, servers.free_port()) | where
    environment["DJANGO_SETTINGS_MODULE"] = "nodetool_site.settings"
    asset_id = _child("store", size, environment).strip()  # elsewhere: its buffers must not be there already
    rate, before, highest = map(float, _child(asset_id, size, environment).split())
    return rate, before, highest


def _child(what: str, size: int, environment: dict[str, str]) -> str:
    command = [sys.executable, "-m", "bench.download", "--child", what, "--size", str(size)]
    return subprocess.run(
        command, cwd=servers.PROJECT, env=environment, stdout=subprocess.PIPE, text=True, check=True
    ).stdout


class _Source:
    """So many bytes, read in pieces."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._block = os.urandom(MIB)

    def read(self, size: int, /) -> bytes:
        piece = self._block[: min(size, self._left)]
        self._left -= len(piece)
        return piece


class _Sink:
    """Counts what it is given."""

    size = 0

    def write(self, data: bytes, /) -> int:
        self.size += len(data)
        return len(data)


def _context() -> ProcessingContext:
    import django

    django.setup()
    from assets.workflows import ProcessingContext

    return ProcessingContext()


def _store(size: int) -> str:
    """Store the asset in this process; gives its id."""
    context = _context()
    from django.core.management import call_command

    call_command("prepare", stdout=io.StringIO())
    return context.create_asset("big", "application/octet-stream", _Source(size)).pk.hex


def _load(asset_id: str, size: int) -> str:
    """Download it in this process; gives MB/s, and memory in MiB before and at its highest."""
    context, sink = _context(), _Sink()
    asset = context.find_asset(asset_id)
    context.download_asset(asset, _Sink(), 0, 1)  # what is imported and connected on the way
    Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets VmHWM
    before, begin = _memory("VmRSS"), time.perf_counter()
    context.download_asset(asset, sink)
    seconds = time.perf_counter() - begin
    if sink.size != size:
        raise RuntimeError(f"{sink.size} bytes came, not {size}")
    return f"{size / 1e6 / seconds} {before} {_memory('VmHWM')}"


def _memory(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    raise SystemExit(main())
