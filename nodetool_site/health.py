"""`/healthz` and `/readyz`: what load balancers and supervisors ask, without login.

`/healthz` says that the process answers. `/readyz` tries the parts the service is made of; each part is tried by at
most one thread at a time, however many ask, and nobody waits longer than `PATIENCE` for a part that hangs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from django.core.files.storage import storages
from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from pymemcache.client.base import Client
from pymemcache.exceptions import MemcacheError

from assets.models import StoredObject
from storagecache.capabilities import Pingable
from storagecache.environment import Environment
from storagecache.errors import StorageError

PATIENCE: Final = 2.5  # seconds until a part that does not answer counts as failed
_MEMCACHED_TIMEOUT: Final = 1.0  # seconds


class PartFailedError(Exception):
    """A part is not usable; the message is shown to anybody, so it holds no address and no secret."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a try of one part ended; `problem` is None when the part works."""

    problem: str | None
    milliseconds: float

    def as_json(self, *, needed: bool) -> dict[str, str | float]:
        """Give the part's entry in the answer."""
        if self.problem is None:
            return {"status": "ok", "ms": self.milliseconds}
        return {"status": "failed" if needed else "degraded", "ms": self.milliseconds, "detail": self.problem}


class Part:
    """One part of the service and how it is tried. Thread-safe: those who ask together share one try."""

    def __init__(self, name: str, check: Callable[[], None], *, needed: bool) -> None:
        self.name = name
        self.needed = needed
        self._check = check
        self._lock = threading.Lock()
        self._trial: Future[Outcome] | None = None

    def start(self) -> Future[Outcome]:
        """Start a try, or join the one that is under way, even if it has hung for long."""
        with self._lock:
            if self._trial is None or self._trial.done():
                self._trial = Future()
                # A daemon: a part that hangs for ever must not keep the process from ending.
                threading.Thread(target=self._run, args=(self._trial,), name=f"ready-{self.name}", daemon=True).start()
            return self._trial

    def _run(self, trial: Future[Outcome]) -> None:
        started = time.perf_counter()
        problem: str | None = "The check broke; see the log."
        try:
            problem = _problem(self._check)
        finally:
            trial.set_result(Outcome(problem, _milliseconds_since(started)))


@require_safe
@never_cache
def healthz(_request: HttpRequest) -> HttpResponse:
    """Answer: this process is alive. Touches nothing."""
    return JsonResponse({"status": "ok"})


@require_safe
@never_cache
def readyz(_request: HttpRequest) -> HttpResponse:
    """Answer how each part does; 503 when one that is needed fails."""
    return answer(PARTS, patience=PATIENCE)


def answer(parts: tuple[Part, ...], *, patience: float) -> HttpResponse:
    """Try all parts at once and tell how each did; `patience` is in seconds, for all of them."""
    deadline = time.monotonic() + patience
    trials = [(part, part.start()) for part in parts]
    outcomes = [(part, _outcome(trial, deadline, patience)) for part, trial in trials]
    failed = any(part.needed and outcome.problem for part, outcome in outcomes)
    weak = any(outcome.problem for _, outcome in outcomes)
    body: dict[str, object] = {"status": "failed" if failed else "degraded" if weak else "ok"}
    body.update({part.name: outcome.as_json(needed=part.needed) for part, outcome in outcomes})
    return JsonResponse(body, status=HTTPStatus.SERVICE_UNAVAILABLE if failed else HTTPStatus.OK)


def _outcome(trial: Future[Outcome], deadline: float, patience: float) -> Outcome:
    try:
        return trial.result(max(0.0, deadline - time.monotonic()))
    except TimeoutError:
        return Outcome(f"No answer within {patience:g} s.", patience * 1000)


def _problem(check: Callable[[], None]) -> str | None:
    try:
        check()
    except (PartFailedError, StorageError) as error:
        return str(error)
    return None


def _milliseconds_since(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 1)


def check_database() -> None:
    """Read from the catalog: it answers, and it has been migrated."""
    try:
        StoredObject.objects.order_by().values("pk")[:1].exists()
    except DatabaseError as error:
        raise PartFailedError(
            f"The catalog does not answer ({type(error).__name__}). Check DATABASE_URL or DB_PATH, and the migrations."
        ) from error
    finally:
        connection.close()


def check_buckets() -> None:
    """Ask both buckets."""
    for alias in ("assets", "temp"):
        storage = storages[alias]
        if isinstance(storage, Pingable):
            storage.check_ready()


def check_cache() -> None:
    """Ask every Memcached node; without any, caches live in the processes and have nothing to fail."""
    for number, server in enumerate(Environment.current().memcache_servers, start=1):
        client = Client(server, connect_timeout=_MEMCACHED_TIMEOUT, timeout=_MEMCACHED_TIMEOUT)
        try:
            client.version()
        except (MemcacheError, OSError) as error:
            raise PartFailedError(
                f"Memcached node {number} does not answer ({type(error).__name__}). Check MEMCACHE_HOST."
            ) from error
        finally:
            client.close()


PARTS: Final = (
    Part("database", check_database, needed=True),
    Part("buckets", check_buckets, needed=True),
    Part("cache", check_cache, needed=False),
)
