"""The cache for coroutines: its short steps run in Django's sync thread, its waits do not hold any thread."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import sync_to_async

from storagecache.node_cache.core import Core
from storagecache.node_cache.flights import POLL_SECONDS, Flight
from storagecache.node_cache.frames import Frame
from storagecache.node_cache.generations import AnyKey, Lease, flight_name
from storagecache.node_cache.miss import MISS

P = ParamSpec("P")
T = TypeVar("T")
Compute = Callable[[], T | Awaitable[T]]


async def in_thread(step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a short step as Django's own async caches do: in the one thread where its connections live."""
    return await sync_to_async(step, thread_sensitive=True)(*args, **kwargs)


async def get_or_compute(
    core: Core, key: AnyKey | None, compute: Compute[T], ttl: float | None, *, writable: bool
) -> T:
    """See `NodeCache.aget_or_compute`; the compute is the asking coroutine's, cancelled with it."""
    if key is None:
        return await _result(compute)
    value, lease = await in_thread(core.find, key, writable=writable)
    if value is not MISS:
        return value  # type: ignore[no-any-return]
    owner, name = asyncio.current_task(), flight_name(key, lease)
    boarding = core.flights.join(name, owner)
    if boarding.flight is not None and boarding.leads:
        return await _lead(core, key, compute, ttl, name, boarding.flight, writable=writable)
    if boarding.flight is not None:
        shared = await _followed(core, key, boarding.flight, owner, writable=writable)
        if shared is not MISS:
            return shared  # type: ignore[no-any-return]
    return (await _compute(core, key, compute, ttl, lease))[0]


async def _lead(
    core: Core, key: AnyKey, compute: Compute[T], ttl: float | None, name: str, flight: Flight, *, writable: bool
) -> T:
    frame: Frame | None = None
    failure: Exception | None = None
    try:
        value, lease = await _awaited(core, key, name, writable=writable)
        if value is not MISS:
            return value  # type: ignore[no-any-return]
        result, frame = await _compute(core, key, compute, ttl, lease)
        return result
    except Exception as error:
        failure = error
        raise
    finally:
        core.flights.land(name, flight, frame=frame, error=failure)
        await in_thread(core.locks.release, name)


async def _awaited(core: Core, key: AnyKey, name: str, *, writable: bool) -> tuple[Any, Lease | None]:
    nested = core.flights.leads_others(asyncio.current_task())
    while True:
        held = None if nested else await in_thread(core.locks.acquire, name)
        value, lease = await in_thread(core.find, key, writable=writable, counted=False)
        if value is not MISS or held is not False:
            return value, lease
        await asyncio.sleep(POLL_SECONDS)


async def _followed(core: Core, key: AnyKey, flight: Flight, owner: object, *, writable: bool) -> Any:
    try:
        frame = await asyncio.shield(asyncio.wrap_future(flight.future))
    finally:
        core.flights.leave(owner)
    return await in_thread(core.shared, key, frame, writable=writable)


async def _compute(
    core: Core, key: AnyKey, compute: Compute[T], ttl: float | None, lease: Lease | None
) -> tuple[T, Frame | None]:
    started = time.perf_counter()
    result = await _result(compute)
    core.computed()
    frame = await in_thread(core.store, key, lease, result, ttl, time.perf_counter() - started)
    return result, frame


async def _result(compute: Compute[T]) -> T:
    """Await a coroutine function's result; run a plain function in a thread."""
    if inspect.iscoroutinefunction(compute):
        awaited: T = await compute()
        return awaited
    result = await asyncio.to_thread(compute)
    if inspect.isawaitable(result):
        later: T = await result
        return later
    return result
