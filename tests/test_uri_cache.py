"""The cache of `memory://` values and downloads."""

from __future__ import annotations

import gc
import math
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from storagecache.environment import Environment
from storagecache.uri_cache import MemoryURICache, size_of


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


class Thing:
    """Can be watched."""


def test_value_is_given_back_as_it_is_until_it_expires() -> None:
    clock = Clock()
    cache, thing = MemoryURICache(clock=clock), Thing()
    assert cache.set("memory://a", thing) is True
    assert cache.get("memory://a") is thing
    clock.now = 299.9
    assert "memory://a" in cache
    clock.now = 300
    assert cache.get("memory://a", "default") == "default"
    assert len(cache) == 0


def test_none_value_is_kept() -> None:
    cache = MemoryURICache(clock=Clock())
    cache.set("https://x/y", None)
    assert cache.get("https://x/y", "absent") is None


@pytest.mark.parametrize("uri", ["", "file:///etc/passwd", "asset://x", "MEMORY://x", "ftp://x"])
def test_uri_of_another_scheme_is_refused(uri: str) -> None:
    cache = MemoryURICache()
    with pytest.raises(ValueError, match="URI"):
        cache.set(uri, 1)
    with pytest.raises(ValueError, match="URI"):
        cache.get(uri)


def test_replaced_entry_lives_by_its_new_time() -> None:
    clock = Clock()
    cache = MemoryURICache(clock=clock)
    cache.set("memory://a", 1, ttl=10)
    cache.set("memory://a", 2, ttl=100)
    clock.now = 50
    assert cache.get("memory://a") == 2
    cache.set("memory://a", 3, ttl=0)
    assert "memory://a" not in cache


def test_expired_value_leaves_memory_when_anything_is_asked() -> None:
    clock = Clock()
    cache, thing = MemoryURICache(clock=clock), Thing()
    watched = weakref.ref(thing)
    cache.set("memory://a", thing, ttl=1)
    del thing
    clock.now = 2
    cache.get("memory://other")
    gc.collect()
    assert watched() is None
    assert cache.stats() == {"entries": 0, "bytes": 0}


def test_expired_value_leaves_memory_when_nobody_asks() -> None:
    cache, thing = MemoryURICache(), Thing()
    left = threading.Event()
    weakref.finalize(thing, left.set)
    cache.set("memory://a", thing, ttl=0.05)
    del thing
    assert left.wait(6)


def test_oldest_entries_leave_when_it_is_full() -> None:
    cache = MemoryURICache(max_bytes=100_000, clock=Clock())
    for number in range(100):
        cache.set(f"memory://{number}", b"x" * 5_000)
        assert cache.stats()["bytes"] <= 100_000
    assert cache.get("memory://0") is None
    assert cache.get("memory://99") == b"x" * 5_000
    assert cache.set("memory://big", b"x" * 200_000) is False


def test_delete_and_clear() -> None:
    cache = MemoryURICache()
    cache.set("memory://a", 1)
    assert cache.delete("memory://a") is True
    assert cache.delete("memory://a") is False
    cache.set("memory://b", 1)
    cache.clear()
    assert cache.stats() == {"entries": 0, "bytes": 0}


def test_cache_is_safe_for_threads() -> None:
    cache = MemoryURICache(max_bytes=50_000)

    def work(number: int) -> None:
        for step in range(300):
            cache.set(f"memory://{step % 40}", bytes(number * 100), ttl=0.001 if step % 3 else 10)
            cache.get(f"memory://{(step + 7) % 40}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    held = cache.stats()
    assert held["bytes"] <= 50_000
    cache.clear()
    assert cache.stats()["bytes"] == 0


@pytest.mark.parametrize(
    ("value", "least"),
    [
        (b"x" * 1000, 1000),
        (np.zeros(1000), 8000),
        (Image.new("RGB", (100, 100)), 30_000),
        ({"a": [b"x" * 1000, b"y" * 1000]}, 2000),
    ],
    ids=["bytes", "array", "image", "nested"],
)
def test_size_of_counts_what_is_held(value: object, least: int) -> None:
    assert least <= size_of(value) < least * 3 + 2000


@pytest.mark.parametrize("make", [lambda n: f"{n:05}" * 100, lambda n: {"name": f"item {n}", "score": n * 10.5}])
def test_size_of_many_objects_is_near(make: Callable[[int], object]) -> None:
    few, many = [make(n) for n in range(100)], [make(n) for n in range(40_000)]
    assert 0.5 < size_of(many) / (size_of(few) * 400) < 2


def test_size_of_one_object_named_often_is_its_own() -> None:
    assert size_of([b"x" * 100_000] * 50_000) < 1_000_000


def test_life_without_end_leaves_the_sweeper_alive() -> None:
    cache = MemoryURICache()
    cache.set("memory://for-ever", 1, ttl=math.inf)
    cache.set("memory://ages", 1, ttl=1e12)
    time.sleep(0.05)  # the sweeper looks, and sleeps for as long as a lock can be waited for
    assert cache._sweeper is not None
    assert cache._sweeper.is_alive()
    assert cache.set("memory://never", 1, ttl=math.nan) is False
    cache.clear()


def test_environment_gives_one_cache_to_all_threads() -> None:
    with ThreadPoolExecutor(4) as pool:
        found = {id(job.result()) for job in [pool.submit(Environment.get_memory_uri_cache) for _ in range(8)]}
    assert len(found) == 1
    assert isinstance(Environment.get_memory_uri_cache(), MemoryURICache)
