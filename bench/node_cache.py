"""The node cache beside its peers, in one run: raw pymemcache, pymemcache with pickle, Django's caches, a plain file.

Run: python -m bench.node_cache [--only keys memory ..]. Needs the Debian package memcached; joblib is compared when
it is installed.
Prints one line per figure: what, ours, the peer, the ratio and the wanted bound.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import pickle
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "nodetool_site.settings")
os.environ.setdefault("NODETOOL_CONFIG_DIR", tempfile.mkdtemp(prefix="nodetool-bench-"))

import django

django.setup()

import numpy as np  # noqa: E402
import pymemcache  # noqa: E402
from blake3 import blake3  # noqa: E402
from django.core.cache.backends.locmem import LocMemCache  # noqa: E402
from django.core.cache.backends.memcached import PyMemcacheCache  # noqa: E402

from storagecache.node_cache import MISS, node_cache_key  # noqa: E402
from storagecache.node_cache.area import CacheArea  # noqa: E402
from storagecache.node_cache.cache import NodeCache  # noqa: E402
from storagecache.node_cache.codec import decode_value, encode_value  # noqa: E402
from storagecache.node_cache.frames import mac_key  # noqa: E402
from storagecache.node_cache.memcached import Memcached  # noqa: E402
from storagecache.node_cache.tiers import FileTier, MemcachedTier  # noqa: E402
from storagecache.storages.filesystem import FilesystemObjectStorage  # noqa: E402

MB = 1_000_000
SECRET = mac_key("bench")

PROPERTIES: dict[str, Any] = {
    "prompt": "a photo of a cat sitting on a chair in the sun, " * 4,
    "negative_prompt": "blurry, low quality, watermark",
    "model": {"type": "hf.stable_diffusion", "repo_id": "org/model-xl", "path": None, "variant": "fp16"},
    "loras": [{"name": "detail", "weight": 0.5}, {"name": "style", "weight": 0.25}],
    "sigmas": [14.6146, 11.9484, 9.7738, 8.0107, 6.5738, 5.4012, 4.4428, 3.6581, 3.0142, 2.4849, 2.0488, 1.6887],
    "crop": [0.0, 0.0, 1.0, 1.0],
    "steps": 30,
    "guidance_scale": 7.5,
    "strength": 0.8,
    "seed": 123456,
    "width": 1024,
    "height": 1024,
    "scheduler": "euler",
    "enabled": True,
    "tiling": False,
    "detail": 0.35,
    "tags": ["portrait", "light", "studio"],
    "clip_skip": 2,
    "output_format": "png",
    "eta": 0.1,
}


class Node:
    """A node as NodeTool's, of 1 KB."""

    def __init__(self, properties: dict[str, Any]) -> None:
        self.properties = properties

    def get_node_type(self) -> str:
        return "bench.image.Generate"

    def model_dump(self) -> dict[str, Any]:
        return self.properties


def best(step: Callable[[], object], *, seconds: float = 0.4, rounds: int = 7) -> float:
    """Give the best mean seconds of a step, over rounds."""
    step()
    started = time.perf_counter()
    step()
    once = max(time.perf_counter() - started, 1e-7)
    count = max(1, int(seconds / rounds / once))
    found = []
    for _ in range(rounds):
        started = time.perf_counter()
        for _ in range(count):
            step()
        found.append((time.perf_counter() - started) / count)
    return min(found)


def paired(ours: Callable[[], object], peer: Callable[[], object], **options: Any) -> tuple[float, float]:
    """Time two steps in turns, so that both see the same machine."""
    times = [(best(ours, rounds=3, **options), best(peer, rounds=3, **options)) for _ in range(3)]
    return min(a for a, _ in times), min(b for _, b in times)


def told(what: str, ours: float, peer: float, bound: float, *, at_least: bool = False, unit: float = 1e6) -> None:
    ratio = ours / peer
    is_met = ratio >= bound if at_least else ratio <= bound
    sign = ">=" if at_least else "<="
    print(
        f"{'ok ' if is_met else 'NO '} {what:<58} {ours * unit:>12.2f} {peer * unit:>12.2f}  {ratio:.3f} {sign} {bound}"
    )


@contextmanager
def memcached(memory: int = 1024) -> Iterator[tuple[str, int]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    as_user = ["-u", "memcache"] if os.geteuid() == 0 else []
    command = ["memcached", *as_user, "-U", "0", "-l", "127.0.0.1", "-p", str(port), "-m", str(memory), "-t", "2"]
    process = subprocess.Popen(command)
    time.sleep(0.3)
    try:
        yield "127.0.0.1", port
    finally:
        process.terminate()
        process.wait()


@contextmanager
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="nodetool-bench-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def cache_on_files(path: Path, max_bytes: int = 512 << 20) -> NodeCache:
    area = CacheArea(FilesystemObjectStorage(location=path / "cache"))
    return NodeCache(tier=FileTier(area, time.time), area=area, secret=SECRET, max_bytes=max_bytes)


def cache_on_memcached(server: tuple[str, int], path: Path, max_bytes: int = 0) -> NodeCache:
    area = CacheArea(FilesystemObjectStorage(location=path / "cache"))
    tier = MemcachedTier(Memcached([server]), "bench")
    return NodeCache(tier=tier, area=area, secret=SECRET, max_bytes=max_bytes)


def keys() -> None:
    node = Node(PROPERTIES)
    print(f"   (node: {len(repr(PROPERTIES))} characters)")
    told(
        "key of a 1 KB node | hash(repr())",
        *paired(lambda: node_cache_key(node), lambda: hash(repr(node.model_dump()))),
        0.5,
    )
    array = np.random.default_rng(0).random(8 << 20)
    big = Node({"image": array, "a": 1})
    view = memoryview(array).cast("B")
    options = {"seconds": 1.0}
    told(
        "key with a 64 MB array | raw blake3, ms",
        *paired(lambda: node_cache_key(big), lambda: blake3(view).digest(), **options),
        1.2,
        unit=1e3,
    )
    try:
        joblib = importlib.import_module("joblib")
    except ImportError:
        print("   joblib is not installed: not compared")
        return
    told(
        "key of a 1 KB node | joblib.hash", *paired(lambda: node_cache_key(node), lambda: joblib.hash(PROPERTIES)), 1.0
    )


def memory() -> None:
    locmem = LocMemCache("bench", {})
    with folder() as path:
        cache = cache_on_files(path)
        small, middle, large = ({"a": "x" * 1000}, np.zeros(MB), np.zeros(8 * MB))
        for name, value in (("small", small), ("middle", middle), ("large", large), ("bytes", bytes(8 * MB))):
            cache.set(name, value)
            locmem.set(name, value)
        told(
            "L1 hit, 8 MB array | Django LocMem",
            *paired(lambda: cache.get("middle"), lambda: locmem.get("middle")),
            0.05,
        )
        told(
            "L1 hit, 8 MB bytes | Django LocMem", *paired(lambda: cache.get("bytes"), lambda: locmem.get("bytes")), 0.05
        )
        told("L1 hit, 64 MB array | 1 KB", *paired(lambda: cache.get("large"), lambda: cache.get("small")), 1.5)
        cache.close()


def over_memcached() -> None:
    """Compare an L2 get; the raw client gets as many bytes as the value has."""
    with memcached() as server, folder() as path:
        cache = cache_on_memcached(server, path)
        array = np.frombuffer(os.urandom(MB), "u1")
        of_json = [{"id": n, "score": n / 7, "label": f"item {n}"} for n in range(22_000)]
        one_get(cache, server, "1 MB array", array, bounds=(0.8, 0.4))
        nested = [
            {"name": f"n{n}", "tags": ["a", "b"], "box": [n / 7, 2.5, 3.0], "meta": {"n": n}} for n in range(13_000)
        ]
        for name, value in (("1 MB of JSON-like", of_json), ("1 MB of nested JSON", nested)):
            one_get(cache, server, name, value, bounds=(99.0, 0.4))
            of_codec(name, value)
        one_get(cache, server, "1 KB", {"a": "x" * 980}, bounds=(1.3, 99.0))
        threads(cache, server, array)
        cache.close()


def one_get(
    cache: NodeCache, server: tuple[str, int], name: str, value: object, *, bounds: tuple[float, float]
) -> None:
    raw = pymemcache.Client(server, default_noreply=False)
    pickled = pymemcache.Client(server, default_noreply=False, serde=pymemcache.serde.pickle_serde)
    of_django = PyMemcacheCache(f"{server[0]}:{server[1]}", {})
    cache.set(name, value)
    raw.set("raw", os.urandom(MB if "MB" in name else 1000))
    pickled.set("pickled", value)
    of_django.set("django", value)

    def ours() -> object:
        return cache.get(name)

    told(f"L2 get, {name} | raw pymemcache", *paired(ours, lambda: raw.get("raw")), bounds[0])
    told(f"L2 get, {name} | pymemcache + pickle", *paired(ours, lambda: pickled.get("pickled")), bounds[1])
    told(f"L2 get, {name} | Django's Memcached", *paired(ours, lambda: of_django.get("django")), 99.0)


def of_codec(name: str, value: list[dict[str, Any]]) -> None:
    """Compare the codec alone, and tell what only making the outermost dicts again costs."""
    encoded, pickled = encode_value(value), pickle.dumps(value)
    told(f"encode, {name} | pickle", *paired(lambda: encode_value(value), lambda: pickle.dumps(value)), 99.0)
    told(f"decode, {name} | pickle", *paired(lambda: decode_value(encoded), lambda: pickle.loads(pickled)), 99.0)
    floor = paired(lambda: [dict(row) for row in value], lambda: pickle.loads(pickled))
    told(f"   floor: only copying the rows, {name} | pickle", *floor, 99.0)


def threads(cache: NodeCache, server: tuple[str, int], value: object) -> None:
    cache.set("1 MB", value)
    stock = pymemcache.PooledClient(server, max_pool_size=8, default_noreply=False)

    stock.set("stock", os.urandom(MB))

    def rate(get: Callable[[], object]) -> float:
        def many(_: int) -> None:
            for _ in range(60):
                get()

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(many, range(8)))
            started = time.perf_counter()
            list(pool.map(many, range(8)))
            return 8 * 60 / (time.perf_counter() - started)

    own = threading.local()

    def floor() -> None:
        """Receive the same bytes at once, knowing their number, and hash them: no cache can do less."""
        if not hasattr(own, "socket"):
            own.socket = socket.create_connection(server)
        own.socket.sendall(b"get stock\r\n")
        blake3(own.socket.recv(len(f"VALUE stock 0 {MB}\r\n") + MB + 7, socket.MSG_WAITALL), key=SECRET).digest()

    found = [(rate(lambda: cache.get("1 MB")), rate(lambda: stock.get("stock")), rate(floor)) for _ in range(5)]
    ours, peer, least = (sorted(rates)[2] for rates in zip(*found, strict=True))
    told("8 threads getting 1 MB, per second | stock pymemcache", ours, peer, 3.0, at_least=True, unit=1)
    told("   floor: one receive and one MAC | stock pymemcache", least, peer, 3.0, at_least=True, unit=1)
    print(f"   (ours, stock, floor in each round: {[tuple(map(round, rates)) for rates in found]})")


def big_values() -> None:
    with folder() as path:
        cache = cache_on_files(path, max_bytes=0)
        value = np.random.default_rng(0).random(8 * MB)
        cache.set("big", value)
        plain = path / "plain"
        plain.write_bytes(value.tobytes())
        told(
            "L3 get, 64 MB | plain file read, ms",
            *paired(lambda: cache.get("big"), plain.read_bytes, seconds=1.0),
            1.5,
            unit=1e3,
        )
        cache.close()


def single_flight() -> None:
    seconds = 0.5
    with memcached() as server, folder() as path:
        cache = cache_on_memcached(server, path, max_bytes=64 << 20)
        calls: list[int] = []
        slowest = _asked(cache, 32, "thirty-two", calls, seconds)
        flown("32 threads", len(calls), slowest, seconds)
        with multiprocessing.get_context("spawn").Pool(4) as pool:
            done = pool.starmap(_process, [(server, str(path), time.time() + 4, seconds)] * 4)
        flown("4 processes x 8 threads", sum(computes for computes, _ in done), max(slow for _, slow in done), seconds)
        cache.close()


def flown(what: str, computes: int, slowest: float, seconds: float) -> None:
    is_met = computes == 1 and slowest <= seconds + 0.3
    print(f"{'ok ' if is_met else 'NO '} {what}: computes {computes}, slowest {slowest:.3f} s of {seconds} + 0.3")


def _process(server: tuple[str, int], path: str, start_at: float, seconds: float) -> tuple[int, float]:
    cache = cache_on_memcached(server, Path(path), max_bytes=64 << 20)
    calls: list[int] = []
    cache.get("warm", MISS)
    time.sleep(max(0, start_at - time.time()))
    slowest = _asked(cache, 8, "four", calls, seconds)
    return len(calls), slowest


def _asked(cache: NodeCache, count: int, key: str, calls: list[int], seconds: float) -> float:
    start = threading.Barrier(count)

    def compute() -> str:
        calls.append(1)
        time.sleep(seconds)
        return "x" * 1000

    def ask(_: int) -> float:
        start.wait()
        started = time.perf_counter()
        cache.get_or_compute(key, compute)
        return time.perf_counter() - started

    with ThreadPoolExecutor(count) as pool:
        return max(pool.map(ask, range(count)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=[])
    wanted = parser.parse_args().only
    parts = {"keys": keys, "memory": memory, "memcached": over_memcached, "big": big_values, "flight": single_flight}
    print(f"   {'figure (microseconds unless named)':<58} {'ours':>12} {'peer':>12}")
    for name, part in parts.items():
        if not wanted or name in wanted:
            part()


if __name__ == "__main__":
    main()
