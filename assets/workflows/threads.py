"""Makes methods usable from any thread and any event loop: Django's ORM refuses to run where a loop does.

A coroutine's twin runs in one of a few threads, so that no byte and no query holds the loop up.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from assets.services import release_connection
from storagecache.node_cache.forks import watch_forks

THREADS: Final = 32

S = TypeVar("S")
P = ParamSpec("P")
T = TypeVar("T")
Method = Callable[Concatenate[S, P], T]


class _Workers:
    """The threads of a process; a forked child makes its own."""

    def __init__(self) -> None:
        self.after_fork()
        watch_forks(self)

    def after_fork(self) -> None:
        """Forget the parent's threads, which are not here."""
        self.pool = ThreadPoolExecutor(THREADS, thread_name_prefix="workflow-context")


_workers: Final = _Workers()


def anywhere(method: Method[S, P, T]) -> Method[S, P, T]:
    """Let a synchronous method be called where an event loop runs: it then works in a thread of its own.

    The loop waits meanwhile; whoever minds awaits the method's twin. Behind each call the thread's database connection
    is given back, unless a transaction holds it: threads of nodes live long, and are more than there are connections.
    """

    @functools.wraps(method)
    def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        work = functools.partial(method, self, *args, **kwargs)
        return _beside(work) if in_event_loop() else _released(work)

    return call


def twin(method: Method[S, P, T]) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Make the `a`-prefixed twin of a method, for coroutines. A cancelled one lets its thread come to its end."""

    @functools.wraps(method)
    async def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await in_worker(functools.partial(method, self, *args, **kwargs))

    call.__doc__ = f"As `{method.__name__}`."
    return call


async def in_worker(work: Callable[[], T]) -> T:
    """Run a function in one of the threads, and give its database connection back."""
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(_workers.pool, context.run, _released, work)


def in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _beside(work: Callable[[], T]) -> T:
    """Run in a new thread: in a pooled one, calls that wait for each other could fill the pool."""
    outcome: Future[T] = Future()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            outcome.set_result(context.run(_released, work))
        except BaseException as error:  # noqa: BLE001  # handed to the caller
            outcome.set_exception(error)

    threading.Thread(target=run, name="workflow-context-call", daemon=True).start()
    return outcome.result()


def _released(work: Callable[[], T]) -> T:
    """Run, then give the thread's database connection back."""
    try:
        return work()
    finally:
        release_connection()
