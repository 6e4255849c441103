"""The cache for coroutines."""

from __future__ import annotations

import asyncio

import pytest
from asgiref.sync import async_to_sync

from storagecache.node_cache import MISS
from tests.node_cache.conftest import MakeCache


def test_async_twins_do_as_the_others(make_cache: MakeCache) -> None:
    cache = make_cache()

    async def use() -> None:
        assert await cache.aget("k", MISS) is MISS
        assert await cache.aset("k", [1]) is True
        assert await cache.aget("k") == [1]
        assert await cache.adelete("k") is True
        assert await cache.aget("k", MISS) is MISS
        await cache.aset("k", 2)
        await cache.aclear()
        assert await cache.aget("k", MISS) is MISS
        assert (await cache.astats())["sets"] == 2

    async_to_sync(use)()


def test_aset_of_a_task_uses_that_tasks_own_miss(make_cache: MakeCache) -> None:
    """What one task computed from before a clear is not live, though another missed the same key after it."""
    cache, elsewhere = make_cache(), make_cache()

    async def use() -> None:
        cleared, missed = asyncio.Event(), asyncio.Event()

        async def early() -> None:
            assert await cache.aget("k", MISS) is MISS
            await asyncio.to_thread(elsewhere.clear)
            cleared.set()
            await missed.wait()
            await cache.aset("k", "old")

        async def late() -> None:
            await cleared.wait()
            assert await cache.aget("k", MISS) is MISS
            missed.set()

        await asyncio.gather(early(), late())
        assert await cache.aget("k", MISS) is MISS

    async_to_sync(use)()


def test_aget_or_compute_computes_once_for_many_tasks(make_cache: MakeCache) -> None:
    cache, calls = make_cache(), []

    async def compute() -> dict[str, list[int]]:
        calls.append(1)
        await asyncio.sleep(0.05)
        return {"v": [1]}

    async def use() -> list[dict[str, list[int]]]:
        return await asyncio.gather(*(cache.aget_or_compute("k", compute) for _ in range(32)))

    found = async_to_sync(use)()
    assert found == [{"v": [1]}] * 32
    assert len(calls) == 1


def test_aget_or_compute_takes_a_plain_function(make_cache: MakeCache) -> None:
    cache = make_cache()
    assert async_to_sync(cache.aget_or_compute)("k", lambda: 3) == 3
    assert async_to_sync(cache.aget_or_compute)("k", lambda: 4) == 3
    assert async_to_sync(cache.aget_or_compute)(None, lambda: 5) == 5


def test_aget_or_compute_failure_is_raised_and_not_stored(make_cache: MakeCache) -> None:
    cache = make_cache()

    async def compute() -> int:
        raise KeyError("boom")

    with pytest.raises(KeyError, match="boom"):
        async_to_sync(cache.aget_or_compute)("k", compute)
    assert async_to_sync(cache.aget_or_compute)("k", lambda: 1) == 1


def test_aget_or_compute_cancelled_leader_frees_the_others(make_cache: MakeCache) -> None:
    cache = make_cache()

    async def use() -> int:
        started = asyncio.Event()

        async def slow() -> int:
            started.set()
            await asyncio.sleep(60)
            return 1

        leader = asyncio.create_task(cache.aget_or_compute("k", slow))
        await started.wait()
        follower = asyncio.create_task(cache.aget_or_compute("k", lambda: 2))
        await asyncio.sleep(0)
        leader.cancel()
        return await asyncio.wait_for(follower, 10)

    assert async_to_sync(use)() == 2
