"""The numbers that Prometheus reads: what is counted, and how the processes of a run add up.

Under the supervisor every process keeps its numbers in files of the run's folder (prometheus-client's multi-process
mode: PROMETHEUS_MULTIPROC_DIR, set by `nodetool_site.supervisor`), so that whoever is asked answers for all of them,
and a process that died is still counted. Elsewhere they are those of one process. Nothing here knows a request or a
model, and no label holds what a client wrote.
"""

from __future__ import annotations

import threading
import time
from collections import Counter as Counts
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from storagecache import metrics_files

metrics_files.prepare()  # before prometheus-client looks where to keep the numbers

from prometheus_client import (  # noqa: E402
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    generate_latest,
    values,
)
from prometheus_client.multiprocess import MultiProcessCollector  # noqa: E402

from storagecache.errors import (  # noqa: E402
    InvalidKeyError,
    ObjectExistsError,
    ObjectNotFoundError,
    StorageError,
)

FLUSH_EVERY: Final = 1.0  # seconds until what a process added up is seen by the others
WORKER_RUN: Final = "worker"  # begins the name of a run's folder whose processes answer no request
_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_NO_FAULT: Final = (ObjectNotFoundError, ObjectExistsError, InvalidKeyError)

REGISTRY: Final = CollectorRegistry()
REQUESTS: Final = Counter(
    "nodetool_http_requests", "Requests answered.", ["method", "route", "status"], registry=REGISTRY
)
RECEIVED: Final = Counter("nodetool_http_received_bytes", "Bytes of request bodies.", ["route"], registry=REGISTRY)
SENT: Final = Counter(
    "nodetool_http_sent_bytes", "Bytes of answers' bodies handed to the web server.", ["route"], registry=REGISTRY
)
REQUEST_SECONDS: Final = Histogram(
    "nodetool_http_request_seconds",
    "Seconds until an answer began, of requests that Django answered (not those answered below it).",
    ["route"],
    buckets=_BUCKETS,
    registry=REGISTRY,
)
STORAGE_SECONDS: Final = Histogram(
    "nodetool_storage_seconds",
    "Seconds of the verbs of storages; opening a stream, not reading it.",
    ["backend", "operation"],
    buckets=_BUCKETS,
    registry=REGISTRY,
)
STORAGE_ERRORS: Final = Counter(
    "nodetool_storage_errors", "Verbs of storages that failed.", ["backend", "operation", "error"], registry=REGISTRY
)
S3_SECONDS: Final = Histogram(
    "nodetool_s3_seconds", "Seconds of calls to S3, tries included.", ["call"], buckets=_BUCKETS, registry=REGISTRY
)
S3_ERRORS: Final = Counter("nodetool_s3_errors", "Calls that S3 refused or left.", ["call", "error"], registry=REGISTRY)
S3_RETRIES: Final = Counter("nodetool_s3_retries", "Calls to S3 that were tried again.", ["call"], registry=REGISTRY)
NODE_CACHE: Final = Counter(
    "nodetool_node_cache", "Events of the node cache; the tier `all` has those of no tier.", ["tier", "event"],
    registry=REGISTRY,
)  # fmt: skip
PURGED_OBJECTS: Final = Counter("nodetool_purged_objects", "Objects that purges deleted.", registry=REGISTRY)
PURGED_BYTES: Final = Counter("nodetool_purged_bytes", "Bytes that purges deleted.", registry=REGISTRY)
PURGE_FAILURES: Final = Counter("nodetool_purge_failures", "Objects that purges could not delete.", registry=REGISTRY)
PURGE_ENDED: Final = Gauge(
    "nodetool_purge_ended_timestamp_seconds", "When a purge last ended, since 1970.", registry=REGISTRY,
    multiprocess_mode="mostrecent",
)  # fmt: skip

Key = tuple[Any, ...]


class Tally:
    """What happens on the shortest way, added up in memory (0.2 µs each) until a flush hands it on (5 µs each)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counts[Key] = Counts()
        self._sent: Counts[str] = Counts()

    def answered(self, method: str, route: str, status: str, size: int = 0) -> None:
        """Count an answer and the bytes that are known to go with it."""
        with self._lock:
            self._requests[method, route, status] += 1
            self._sent[route] += size

    def sent(self, route: str, size: int) -> None:
        """Count bytes of an answer that goes out in blocks."""
        with self._lock:
            self._sent[route] += size

    def flush(self) -> None:
        """Hand everything on."""
        with self._lock:
            requests, self._requests = self._requests, Counts()
            sent, self._sent = self._sent, Counts()
        for labels, number in requests.items():
            REQUESTS.labels(*labels).inc(number)
        for route, size in sent.items():
            SENT.labels(route).inc(size)


class Growth:
    """How much counters that are kept elsewhere have grown since the last look."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._before: dict[tuple[str, str], float] = {}

    def add(self, now: Mapping[tuple[str, str], float]) -> None:
        """Add the growth of each (tier, event) to the node cache's numbers; a fall is a counter that began anew."""
        with self._lock:
            for labels, value in now.items():
                before = self._before.get(labels, 0.0)
                NODE_CACHE.labels(*labels).inc(value - before if value >= before else value)
                self._before[labels] = value


TALLY: Final = Tally()


@contextmanager
def timed(backend: str, operation: str) -> Iterator[None]:
    """Measure a verb of a storage; count its failure, unless it is about the name only."""
    started = time.perf_counter()
    try:
        yield
    except _NO_FAULT:
        raise
    except (StorageError, OSError) as error:
        STORAGE_ERRORS.labels(backend, operation, type(error).__name__).inc()
        raise
    finally:
        STORAGE_SECONDS.labels(backend, operation).observe(time.perf_counter() - started)


def exposition(folder: Path | None) -> bytes:
    """Give the numbers in Prometheus' text format.

    `folder` is that of the run, where its processes keep them; None: those of this process.
    """
    if folder is None:
        return generate_latest(REGISTRY)
    merged = CollectorRegistry()
    merged.register(_Merged(folder))
    return generate_latest(merged)


class _Merged:
    """The numbers of all processes of a run, and of runs beside it that answer no request: nobody else tells theirs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        files = [*self._folder.glob("*.db")]
        for beside in self._folder.parent.glob(f"{WORKER_RUN}-*"):
            files += beside.glob("*.db") if beside != self._folder else ()
        merged = MultiProcessCollector.merge([str(file) for file in files])  # type: ignore[no-untyped-call]
        yield from merged


def is_shared() -> bool:
    """Tell whether the numbers are kept in files."""
    return bool(values.ValueClass._multiprocess)
