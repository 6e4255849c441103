"""HTTP clients of the benchmarks: bodies in blocks, many clients at once, wrk when it is installed."""

from __future__ import annotations

import http.client
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

BLOCK = 1 << 20
TIMEOUT = 120  # seconds a socket may stall before a benchmark fails


@dataclass(frozen=True, slots=True)
class Load:
    """What many clients did together: answers a second, requests refused or broken, each latency (s), bytes a second."""

    rate: float
    errors: int
    latencies: tuple[float, ...] = ()
    throughput: float = 0.0

    def percentile(self, share: float) -> float:
        """Give the latency in seconds under which `share` (0 to 1) of the requests stayed."""
        ordered = sorted(self.latencies) or [float("nan")]
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def connect(port: int) -> http.client.HTTPConnection:
    """Open one keep-alive connection to a server on this machine."""
    return http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT, blocksize=BLOCK)


def get(connection: http.client.HTTPConnection, path: str, *, headers: dict[str, str] | None = None) -> int:
    """Read one whole answer in blocks, keeping none; give its size.

    Raises:
        RuntimeError: the answer is not 200, 206 or 304, or shorter than announced.
    """
    connection.request("GET", path, headers=headers or {})
    answer = connection.getresponse()
    size = sum(iter(lambda: answer.readinto(_scratch()), 0))
    announced = 0 if answer.status == 304 else int(answer.headers.get("Content-Length", -1))
    if answer.status not in (200, 206, 304) or size != announced:
        raise RuntimeError(f"GET {path}: status {answer.status}, {size} of {announced} bytes")
    return size


def put(connection: http.client.HTTPConnection, path: str, body: bytes | Iterator[bytes], size: int) -> int:
    """Send one body; give the status."""
    connection.request("PUT", path, body=body, headers={"Content-Length": str(size)})
    answer = connection.getresponse()
    answer.read()
    return answer.status


def blocks(size: int) -> Iterator[bytes]:
    """Make a body of `size` bytes out of one block, so that its source costs neither disk nor memory."""
    block = bytes(range(256)) * (BLOCK // 256)
    for start in range(0, size, BLOCK):
        yield block[: min(BLOCK, size - start)]


def repeat_get(
    port: int, path: str, *, connections: int, seconds: float, headers: dict[str, str] | None = None
) -> Load:
    """Ask for one path over many connections, by wrk when there is one (our own clients are slower than a server)."""
    if shutil.which("wrk"):
        return _wrk(port, path, connections=connections, seconds=seconds, headers=headers or {})
    return many(
        lambda connection, _: get(connection, path, headers=headers), port, clients=connections, seconds=seconds
    )


def many(work: Callable[[http.client.HTTPConnection, int], object], port: int, *, clients: int, seconds: float) -> Load:
    """Let `clients` threads call `work(connection, number)` until the time is over; an exception counts as an error.

    Each calls it once at least. What `work` returns, if it is a number, is the bytes it moved.
    """
    latencies: list[float] = []
    sizes: list[int] = []
    errors: list[str] = []
    numbers = iter(range(1 << 62))
    lock = threading.Lock()
    deadline = time.monotonic() + seconds

    def client() -> None:
        connection = connect(port)
        while True:
            with lock:
                number = next(numbers)
            begin = time.perf_counter()
            try:
                moved = work(connection, number)
                latencies.append(time.perf_counter() - begin)
                sizes.append(moved if isinstance(moved, int) else 0)
            except (OSError, http.client.HTTPException, RuntimeError) as error:
                errors.append(repr(error))
                connection.close()
            if time.monotonic() >= deadline:
                break
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = time.monotonic() - begin
    return Load(len(latencies) / taken, len(errors), tuple(latencies), sum(sizes) / taken)


_local = threading.local()


def _scratch() -> memoryview:
    if not hasattr(_local, "view"):
        _local.view = memoryview(bytearray(BLOCK))
    view: memoryview = _local.view
    return view


_UNITS = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}


def _wrk(port: int, path: str, *, connections: int, seconds: float, headers: dict[str, str]) -> Load:
    url = f"http://127.0.0.1:{port}{path}"
    command = [
        "wrk",
        f"-t{min(2, connections)}",
        f"-c{connections}",
        f"-d{max(1, round(seconds))}s",
        "--timeout",
        "30s",
        url,
    ]
    command += [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rate = re.search(r"Requests/sec:\s*([\d.]+)", text)
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    errors = int(refused[1]) if refused else 0
    errors += sum(map(int, broken.groups())) if broken else 0
    moved = re.search(r"Transfer/sec:\s*([\d.]+)(\w+)", text)
    throughput = float(moved[1]) * _UNITS[moved[2]] if moved else 0.0
    return Load(float(rate[1]) if rate else 0.0, errors, throughput=throughput)
