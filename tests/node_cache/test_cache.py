"""The cache as its users see it, on both kinds of shared tier."""

from __future__ import annotations

import gc
import math
import os
import threading
import tracemalloc
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from django.db import DatabaseError

from storagecache.node_cache import MISS, NodeCacheKey, node_cache_key, register_assets
from storagecache.node_cache.area import CacheArea
from tests.node_cache.conftest import MakeCache
from tests.node_cache.parts import Clock, Node


def a_key(digest: str = "d" * 64, user: str = "1", workflow: str = "w", node_type: str = "t") -> NodeCacheKey:
    return NodeCacheKey(user, workflow, node_type, digest)


def test_set_value_hits_here_and_in_another_process(make_cache: MakeCache) -> None:
    here, there = make_cache(), make_cache()
    assert here.get(a_key(), MISS) is MISS
    assert here.set(a_key(), {"a": [1, None]}) is True
    assert here.get(a_key()) == {"a": [1, None]}
    assert there.get(a_key()) == {"a": [1, None]}
    assert there.stats()["l2"]["hits"] == 1
    assert there.get(a_key()) == {"a": [1, None]}
    assert there.stats()["l1"]["hits"] == 1


@pytest.mark.parametrize("key", ["plain", "ümlaut / space \n", "x" * 5000, ""])
def test_text_key_any_text_round_trips(make_cache: MakeCache, key: str) -> None:
    make_cache().set(key, 1)
    assert make_cache().get(key) == 1


def test_none_value_is_a_hit(make_cache: MakeCache) -> None:
    cache = make_cache()
    cache.set("k", None)
    assert cache.get("k", MISS) is None
    assert make_cache().get("k", MISS) is None


def test_default_on_miss_is_given(make_cache: MakeCache) -> None:
    assert make_cache().get("absent", 7) == 7
    assert make_cache().get("absent") is None


@pytest.mark.parametrize("size", [1_200_000, 8_000_000])
def test_big_value_comes_back_in_another_process(make_cache: MakeCache, size: int) -> None:
    value = {"data": np.arange(size, dtype="u1"), "text": "x" * 3000}
    assert make_cache().set(a_key(), value) is True
    there = make_cache()
    found = there.get(a_key())
    assert found["text"] == value["text"]
    assert np.array_equal(found["data"], value["data"])
    assert there.stats()["l3"]["hits"] == 1


def test_blob_that_is_gone_is_a_miss(make_cache: MakeCache, area: CacheArea) -> None:
    cache = make_cache()
    cache.set(a_key(), b"x" * 2_000_000)
    blobs = [name for name in area.names("") if name[0].isdigit()]
    assert len(blobs) == 1
    area.delete(blobs)
    assert make_cache().get(a_key(), MISS) is MISS
    assert make_cache().set(a_key(), b"y" * 2_000_000) is True
    assert make_cache().get(a_key()) == b"y" * 2_000_000


@pytest.mark.parametrize(("ttl", "later", "is_hit"), [(10, 9.5, True), (10, 10, False), (None, 1e9, True)])
def test_ttl_ends_on_time(make_cache: MakeCache, clock: Clock, ttl: float | None, later: float, is_hit: bool) -> None:
    cache = make_cache()
    cache.set("k", 1, ttl=ttl)
    clock.now += later
    assert (cache.get("k", MISS) is MISS) is not is_hit
    assert (make_cache().get("k", MISS) is MISS) is not is_hit


def test_ttl_over_thirty_days_is_no_date(make_cache: MakeCache) -> None:
    make_cache().set("k", 1, ttl=60 * 60 * 24 * 45)
    assert make_cache().get("k") == 1


@pytest.mark.parametrize("ttl", [1e-9, 1e12, 10**18, math.inf])
def test_ttl_of_any_length_is_taken(make_cache: MakeCache, ttl: float) -> None:
    assert make_cache().set("k", 1, ttl=ttl) is True
    assert make_cache().set("big", b"x" * 1_100_000, ttl=ttl) is True
    if ttl > 1:
        assert make_cache().get("k") == 1


@pytest.mark.parametrize("ttl", [0, -5, math.nan])
def test_ttl_that_is_over_stores_nothing(make_cache: MakeCache, ttl: int) -> None:
    cache = make_cache()
    assert cache.set("k", 1, ttl=ttl) is False
    assert cache.get("k", MISS) is MISS


def test_key_that_cannot_be_made_is_a_miss(make_cache: MakeCache) -> None:
    class Broken(Node):
        def fingerprint(self) -> str:
            raise OSError("its file is gone")

    cache = make_cache()
    assert cache.key_for(Broken()) is None
    assert cache.get_or_compute(cache.key_for(Broken()), lambda: 1) == 1
    assert cache.stats()["uncacheable"] == 2


def test_expired_value_is_replaced(make_cache: MakeCache, clock: Clock) -> None:
    cache = make_cache()
    cache.set("k", 1, ttl=10)
    clock.now += 20
    assert cache.get("k", MISS) is MISS
    assert cache.set("k", 2, ttl=10) is True
    assert make_cache().get("k") == 2


def test_overwritten_value_is_seen_by_all(make_cache: MakeCache) -> None:
    here, there = make_cache(), make_cache()
    here.set("k", 1)
    assert there.get("k") == 1
    assert here.set("k", 2) is True
    assert here.get("k") == 2
    assert there.get("k") == 2


def test_overwritten_value_leaves_no_entry_behind(make_cache: MakeCache) -> None:
    cache = make_cache()
    cache.set("k", 1)
    tier = cache._core.shelves.tier
    before = cache._core.current_lease("k")
    assert before is not None
    assert before.wire in tier.fetch([before.wire])
    cache.set("k", 2)
    assert tier.fetch([before.wire]) == {}


def test_deleted_key_is_a_miss_where_it_was_only_remembered(memcached_cache: MakeCache) -> None:
    here, there = memcached_cache(), memcached_cache(max_bytes=0)
    here.set("k", 1)
    assert there.get("k") == 1
    assert there.get("k") == 1  # now by the epoch alone
    here.delete("k")
    assert there.get("k", MISS) is MISS
    here.set("k", 2)
    assert there.get("k") == 2


def test_stored_value_mutated_by_its_owner_stays(make_cache: MakeCache) -> None:
    cache, value = make_cache(), {"list": [1], "array": np.zeros(3), "bytes": bytearray(b"abc")}
    cache.set("k", value)
    value["list"].append(2)
    value["array"][0] = 9
    value["bytes"][0] = 0
    found = cache.get("k")
    assert found["list"] == [1]
    assert found["array"][0] == 0
    assert found["bytes"] == b"abc"


def test_found_value_mutated_by_a_caller_stays(make_cache: MakeCache) -> None:
    cache = make_cache()
    cache.set("k", {"list": [1], "array": np.zeros(300)})
    found = cache.get("k")
    found["list"].append(2)
    with pytest.raises(ValueError, match="read-only"):
        found["array"][0] = 9
    with pytest.raises(ValueError, match="WRITEABLE"):
        found["array"].setflags(write=True)
    mine = cache.get("k", writable=True)
    mine["array"][0] = 9
    again = cache.get("k")
    assert again["list"] == [1]
    assert again["array"][0] == 0


def test_delete_one_key_is_seen_by_all(make_cache: MakeCache) -> None:
    here, there = make_cache(), make_cache()
    for key in ("a", "b", a_key()):
        here.set(key, 1)
        assert there.get(key) == 1
    assert here.delete("a") is True
    assert here.delete(a_key()) is True
    assert there.get("a", MISS) is MISS
    assert here.get(a_key(), MISS) is MISS
    assert there.get("b") == 1
    assert here.set("a", 2) is True
    assert there.get("a") == 2


SCOPES = [
    ({}, set()),
    ({"user": "1"}, {"other user"}),
    ({"workflow": "w"}, {"other workflow"}),
    ({"node_type": "t"}, {"other type"}),
    ({"user": "1", "workflow": "w"}, {"other user", "other workflow"}),
    ({"user": "1", "workflow": "w", "node_type": "t"}, {"other user", "other workflow", "other type"}),
    ({"user": "nobody"}, {"this", "other user", "other workflow", "other type"}),
]


@pytest.mark.parametrize(("scope", "left"), SCOPES)
def test_clear_takes_its_scope_alone(make_cache: MakeCache, scope: dict[str, str], left: set[str]) -> None:
    keys = {
        "this": a_key(),
        "other user": a_key(user="2"),
        "other workflow": a_key(workflow="v"),
        "other type": a_key(node_type="s"),
    }
    here, there = make_cache(), make_cache()
    for key in keys.values():
        here.set(key, 1)
        assert there.get(key) == 1
    there.clear(**scope)
    assert {name for name, key in keys.items() if here.get(key, MISS) == 1} == left
    assert {name for name, key in keys.items() if there.get(key, MISS) == 1} == left
    here.set(a_key(), 2)
    assert there.get(a_key()) == 2


def test_set_that_began_before_a_clear_stores_nothing_live(make_cache: MakeCache) -> None:
    here, there = make_cache(), make_cache()

    def compute() -> str:
        there.clear(user="1")
        return "old"

    assert here.get_or_compute(a_key(), compute) == "old"
    assert here.get(a_key(), MISS) is MISS
    assert there.get(a_key(), MISS) is MISS


def test_set_after_a_miss_before_a_clear_stores_nothing_live(make_cache: MakeCache) -> None:
    here, there = make_cache(), make_cache()
    assert here.get(a_key(), MISS) is MISS
    there.clear(workflow="w")
    here.set(a_key(), "old")
    assert here.get(a_key(), MISS) is MISS
    here.set(a_key(), "new")
    assert there.get(a_key()) == "new"


def test_delete_during_a_compute_keeps_its_result_out(make_cache: MakeCache) -> None:
    here, there = make_cache(), make_cache()

    def compute() -> str:
        there.delete("k")
        return "old"

    assert here.get_or_compute("k", compute) == "old"
    assert there.get("k", MISS) is MISS


def test_get_or_compute_computes_once_for_many_threads(make_cache: MakeCache) -> None:
    cache, calls, start = make_cache(), [], threading.Barrier(32)
    release = threading.Event()

    def compute() -> dict[str, list[int]]:
        calls.append(1)
        release.wait(5)
        return {"v": [1]}

    def ask() -> dict[str, list[int]]:
        start.wait()
        threading.Timer(0.05, release.set).start()
        return cache.get_or_compute(a_key(), compute)

    with ThreadPoolExecutor(32) as pool:
        found = [job.result() for job in [pool.submit(ask) for _ in range(32)]]
    assert len(calls) == 1
    assert found == [{"v": [1]}] * 32
    found[0]["v"].append(2)
    assert found[1] == {"v": [1]}
    assert cache.stats()["computes"] == 1


def test_get_or_compute_failure_reaches_followers_and_is_not_stored(make_cache: MakeCache) -> None:
    cache, started, release = make_cache(), threading.Event(), threading.Event()

    def compute() -> int:
        started.set()
        release.wait(5)
        raise KeyError("boom")

    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(cache.get_or_compute, "k", compute)
        started.wait(5)
        follower = pool.submit(cache.get_or_compute, "k", lambda: 5)
        threading.Timer(0.1, release.set).start()
        with pytest.raises(KeyError, match="boom"):
            leader.result()
        with pytest.raises(KeyError, match="boom"):
            follower.result()
    assert cache.get_or_compute("k", lambda: 5) == 5


def test_get_or_compute_of_itself_does_not_wait_for_itself(make_cache: MakeCache) -> None:
    cache = make_cache()
    assert cache.get_or_compute("k", lambda: cache.get_or_compute("k", lambda: 1) + 1) == 2


def test_get_or_compute_crosswise_does_not_hang(make_cache: MakeCache) -> None:
    cache, both = make_cache(), threading.Barrier(2)

    def compute(other: str) -> str:
        both.wait(5)
        return other + cache.get_or_compute(other, lambda: "leaf")

    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(cache.get_or_compute, a, lambda b=b: compute(b)) for a, b in (("a", "b"), ("b", "a"))]
        assert all(job.result(20) for job in jobs)


def test_get_or_compute_result_that_cannot_be_stored_is_returned(make_cache: MakeCache) -> None:
    cache, thing = make_cache(), object()
    assert cache.get_or_compute("k", lambda: thing) is thing
    assert cache.get("k", MISS) is MISS
    assert cache.stats()["uncacheable"] == 1


def test_no_key_is_a_miss_and_computes(make_cache: MakeCache) -> None:
    cache = make_cache()
    assert cache.key_for(Node({"x": object()})) is None
    assert cache.get(None, MISS) is MISS
    assert cache.set(None, 1) is False
    assert cache.get_or_compute(None, lambda: 3) == 3
    assert cache.delete(None) is False
    assert cache.stats()["uncacheable"] == 1


def test_explain_names_the_first_differing_field(make_cache: MakeCache) -> None:
    cache = make_cache()
    for text in ("a cat", "a dog"):
        node = Node({"prompt": {"text": text, "api_key": text}, "steps": [1, 2]})
        cache.get(node_cache_key(node, user="7", workflow="w"))
    cache.flush()
    found = make_cache().explain("test.Node", user="7").difference
    assert found is not None
    assert found.path == "properties.prompt.api_key"
    assert "hidden" in found.after
    assert make_cache().explain("test.Node", user="8").history == []
    assert len(make_cache().explain("test.Node").history) == 2
    assert len(make_cache().explain("test.Node", workflow="w").history) == 2


def test_stats_count_what_happened(make_cache: MakeCache, clock: Clock) -> None:
    cache = make_cache()
    cache.get_or_compute("k", lambda: 1)
    cache.get_or_compute("k", lambda: 1)
    cache.get("absent")
    stats = cache.stats()
    assert (stats["hits"], stats["misses"], stats["computes"], stats["sets"]) == (1, 2, 1, 1)
    assert (stats["l1"]["hits"], stats["l1"]["misses"]) == (1, 2)
    assert (stats["l2"]["hits"], stats["l2"]["misses"]) == (0, 2)
    assert stats["seconds_saved"] > 0
    assert stats["l1"]["entries"] == 1
    cache.flush()
    processes, total = make_cache().stats_of_all()
    assert processes >= 1
    assert total["computes"] == 1


def test_memory_stays_in_its_budget(file_cache: MakeCache) -> None:
    cache = file_cache(max_bytes=1_000_000)
    for number in range(300):
        cache.set(str(number), b"x" * 10_000)
    held = cache.stats()["l1"]
    assert 900_000 < held["held_bytes"] <= 1_000_000
    assert held["evictions"] > 0
    assert cache.get("0") == b"x" * 10_000  # from disk


def test_files_of_the_area_are_no_pickles_and_damage_is_a_miss(file_cache: MakeCache, tmp_path: Path) -> None:
    file_cache().set("k", {"a": 1})
    (path,) = [found for found in (tmp_path / "cache" / "v").rglob("*") if found.is_file()]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    cache = file_cache()
    assert cache.get("k", MISS) is MISS
    assert cache.stats()["bad_frames"] == 1
    assert cache.set("k", 2) is True
    assert cache.get("k") == 2


@pytest.fixture
def catalog() -> set[str]:
    """Give the ids of the assets that live, in a catalog registered as the assets app does."""
    alive: set[str] = set()
    asked: list[int] = []

    def is_live(ids: Collection[str]) -> bool:
        asked.append(len(ids))
        return alive.issuperset(ids)

    register_assets(is_live=is_live, digest_of=lambda _: "0" * 64)
    return alive


def test_deleted_asset_makes_every_entry_that_names_it_a_miss(make_cache: MakeCache, catalog: set[str]) -> None:
    catalog |= {"a", "b"}
    cache = make_cache()
    cache.set("one", [{"asset_id": "a"}, {"uri": "asset://b.png"}])
    cache.set("two", "no reference")
    assert cache.get("one", MISS) is not MISS
    catalog.discard("b")
    assert cache.get("one", MISS) is MISS
    assert make_cache().get("one", MISS) is MISS
    assert cache.get("two") == "no reference"
    assert cache.stats()["dead_references"] == 1
    assert cache.get_or_compute("one", lambda: "again") == "again"
    assert cache.get("one") == "again"


def test_catalog_that_fails_is_a_miss(make_cache: MakeCache) -> None:
    def is_live(_ids: Collection[str]) -> bool:
        raise DatabaseError("gone")

    register_assets(is_live=is_live, digest_of=lambda _: None)
    cache = make_cache()
    cache.set("one", {"asset_id": "a"})
    assert cache.get("one", MISS) is MISS
    assert cache.get_or_compute("one", lambda: 1) == 1


def test_forked_child_works_on_its_own(make_cache: MakeCache) -> None:
    cache = make_cache()
    cache.set("k", 1)
    assert cache.get("k") == 1
    child = os.fork()
    if child == 0:
        code = 1
        with suppress(BaseException):
            code = 0 if cache.get("k") == 1 and cache.get_or_compute("new", lambda: 2) == 2 and cache.set("x", 3) else 1
        os._exit(code)
    assert cache.get("k") == 1
    assert os.waitpid(child, 0)[1] == 0
    assert cache.get("x") == 3
    assert cache.get("new") == 2


def test_memory_that_is_held_is_what_is_counted(file_cache: MakeCache) -> None:
    cache = file_cache(max_bytes=2_000_000)
    cache.set("warm", {"a": 1})
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(6000):
        cache.set(f"key-{number}", {"n": number, "text": "x" * (number % 700)})
    held = cache._core.shelves.l1
    leases = cache._core.generations._known
    leases.leases.clear()
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert held.usage()["evictions"] > 0
    assert grown < 2_000_000 * 1.05


def test_memory_that_received_values_hold_is_what_is_counted(make_cache: MakeCache) -> None:
    there, here = make_cache(), make_cache(max_bytes=1_000_000)
    for number in range(150):
        there.set(f"key-{number}", {"array": np.full(20_000, number, "u1"), "text": "x" * 3000})
    here.get("key-0")
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(150):
        here.get(f"key-{number}")
    here._core.generations._known.leases.clear()
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert here.stats()["l1"]["evictions"] > 0
    assert grown < 1_000_000 * 1.05
