"""`python -m bench.archive`: a zip of 100 x 1 MB from the service, beside `zip -0` of the same files in the same run."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
import zipfile
from http.client import HTTPConnection
from pathlib import Path
from typing import Final

from bench import http, servers
from bench.measures import MB
from bench.memory import PeakMemory
from bench.servers import Server

FILES: Final = 100
SIZE: Final = MB
ROUNDS: Final = 7


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(prog="python -m bench.archive", description=__doc__)
    parser.add_argument("--folder", help="where the data goes; default: the system's folder for temporary files")
    with tempfile.TemporaryDirectory(prefix="bench-", dir=parser.parse_args().folder) as name:
        folder = Path(name)
        files = _files(folder / "files")
        (folder / "service").mkdir()
        with servers.service(folder / "service") as server:
            ids = [_put(server, path) for path in files]
            _check(server, ids, folder / "answer.zip")
            ours, beside, growth = _measure(server, ids, files, folder)
    print("| benchmark | unit | service | zip -0 | share | memory +MB |\n|---|---|---|---|---|---|")
    print(f"| zip of {FILES} x 1 MB | MB/s | {ours:,.0f} | {beside:,.0f} | {ours / beside:.2f} | {growth:.0f} |")


def _files(folder: Path) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"{number:03d}.bin" for number in range(FILES)]
    for path in paths:
        path.write_bytes(os.urandom(SIZE))
    return paths


def _put(server: Server, path: Path) -> str:
    connection = http.connect(server.port)
    status = http.put(connection, f"/storage/assets/bench/{path.name}", path.read_bytes(), SIZE)
    if status != 201:
        raise RuntimeError(f"PUT answered {status}")
    connection.request("GET", f"/api/assets/by-filename/{path.name}")
    return str(json.loads(connection.getresponse().read())["id"])


def _download(server: Server, ids: list[str], sink: Path | None = None) -> int:
    """Ask for the archive and read it to its end; gives its size."""
    connection: HTTPConnection = http.connect(server.port)
    body = json.dumps({"asset_ids": ids})
    connection.request("POST", "/api/assets/download", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    if answer.status != 200:
        raise RuntimeError(f"the service answered {answer.status}: {answer.read()!r}")
    if sink is not None:
        with sink.open("wb") as file:
            shutil.copyfileobj(answer, file, MB)
        return sink.stat().st_size
    buffer = bytearray(MB)
    size = 0
    while count := answer.readinto(buffer):
        size += count
    return size


def _check(server: Server, ids: list[str], path: Path) -> None:
    _download(server, ids, path)
    with zipfile.ZipFile(path) as opened:
        if len(opened.namelist()) != FILES or opened.testzip() is not None:
            raise RuntimeError("the archive is not whole")


def _measure(server: Server, ids: list[str], files: list[Path], folder: Path) -> tuple[float, float, float]:
    """Take turns, so that both have the same machine; gives the medians in MB/s, and the memory that was added."""
    ours, beside = [], []
    with PeakMemory(server.process) as memory:
        for _ in range(ROUNDS):
            begin = time.perf_counter()
            size = _download(server, ids)
            ours.append(size / MB / (time.perf_counter() - begin))
            begin = time.perf_counter()
            _zip(files, folder)
            beside.append(FILES * SIZE / MB / (time.perf_counter() - begin))
    return statistics.median(ours), statistics.median(beside), (memory.peak - memory.baseline) / MB


def _zip(files: list[Path], folder: Path) -> None:
    made = folder / "beside.zip"
    made.unlink(missing_ok=True)
    subprocess.run(["zip", "-0", "-q", "-j", str(made), *map(str, files)], check=True)


if __name__ == "__main__":
    main()
