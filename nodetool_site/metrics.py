"""`/metrics`: the numbers of the service in Prometheus' text format. What is counted is in `storagecache.metrics`.

What the catalog knows (what waits, how the last comparison ended) is asked for at each scrape, by bounded statements.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily

from assets.access import require_overseer
from assets.models import IntegrityRun, Job, ScheduledWork, StoredObject
from storagecache.environment import Environment
from storagecache.metrics import FLUSH_EVERY, TALLY, Growth, exposition, is_shared

MOST: Final = 10_000  # rows that are counted of a queue; one more means that there are more
_WORKS: Final = 100  # pieces of scheduled work; there are two
_growth: Final = Growth()
_TOTALS: Final = "all"


@require_safe
@never_cache
def metrics(request: HttpRequest) -> HttpResponse:
    """Answer this machine, who knows METRICS_TOKEN, and staff."""
    require_overseer(request)
    flush()
    catalog = CollectorRegistry()
    catalog.register(Catalog())
    text = exposition(_folder()) + generate_latest(catalog)
    return HttpResponse(text, content_type=CONTENT_TYPE_LATEST)


def flush() -> None:
    """Hand on what this process added up."""
    TALLY.flush()
    cache = Environment.node_cache_in_use()
    if cache is None:
        return
    stats = cache.stats()
    tiers = {(tier, event): n for tier in ("l1", "l2", "l3") for event, n in stats[tier].items()}
    totals = {(_TOTALS, event): n for event, n in stats.items() if isinstance(n, int)}
    _growth.add({labels: n for labels, n in (tiers | totals).items() if labels[1] not in _LEVELS})


_LEVELS: Final = frozenset({"entries", "held_bytes"})  # of the cache: they fall as well as grow


def start_flushing() -> None:
    """Hand on each second from now on, by a thread that ends with the process."""
    if is_shared():
        threading.Thread(target=_flush_forever, name="metrics", daemon=True).start()


def _flush_forever() -> None:
    while True:
        time.sleep(FLUSH_EVERY)
        flush()


def _folder() -> Path | None:
    folder = Environment.current().metrics_folder
    return folder if is_shared() else None


class Catalog:
    """What the catalog knows; without an answer of it only that."""

    def collect(self) -> Iterator[Metric]:
        """Ask the catalog: six statements, none over more than `MOST` rows."""
        found: list[Metric] = []
        try:
            found += [_queue(), _jobs(), *_last_run(), *_works()]
        except DatabaseError:
            found = []
        finally:
            connection.close()
        up = GaugeMetricFamily("nodetool_catalog_up", "Whether the catalog answered.")
        up.add_metric([], float(bool(found)))
        yield up
        yield from found


def _queue() -> Metric:
    queue = GaugeMetricFamily(
        "nodetool_queue", f"Objects that wait: {MOST + 1} stands for more than {MOST}.", labels=["what"]
    )
    rows = StoredObject.objects.order_by()
    waiting = {
        "uploads": rows.filter(state=StoredObject.State.PENDING),
        "deletions": rows.filter(state=StoredObject.State.DELETING),
        "previews": rows.filter(preview=StoredObject.Preview.WANTED),
    }
    for what, objects in waiting.items():
        queue.add_metric([what], objects.values("pk")[: MOST + 1].count())
    return queue


def _jobs() -> Metric:
    jobs = GaugeMetricFamily("nodetool_jobs_running", "Jobs of workflows that run.")
    jobs.add_metric([], Job.objects.filter(state=Job.State.RUNNING).order_by().values("pk")[: MOST + 1].count())
    return jobs


def _last_run() -> Iterator[Metric]:
    run = IntegrityRun.objects.filter(ended_at__isnull=False).order_by("-ended_at").first()
    if run is None or run.ended_at is None:
        return
    ended = GaugeMetricFamily(
        "nodetool_verify_ended_timestamp_seconds", "When the last comparison ended, since 1970.", labels=["status"]
    )
    ended.add_metric([run.status], run.ended_at.timestamp())
    yield ended
    findings = GaugeMetricFamily("nodetool_verify_findings", "What the last comparison found.", labels=["kind"])
    findings.add_metric(["all"], sum(run.counts.values()))
    for kind, number in run.counts.items():
        findings.add_metric([kind], number)
    yield findings


def _works() -> Iterator[Metric]:
    """Tell of each piece of scheduled work when it ended, when it is due, and how it stands."""
    ended = GaugeMetricFamily(
        "nodetool_work_ended_timestamp_seconds", "When scheduled work last ended, since 1970.", labels=["work"]
    )
    due = GaugeMetricFamily(
        "nodetool_work_next_timestamp_seconds", "When scheduled work is due next, since 1970.", labels=["work"]
    )
    status = GaugeMetricFamily("nodetool_work_status", "1: how scheduled work stands.", labels=["work", "status"])
    for work in ScheduledWork.objects.order_by("name")[:_WORKS]:
        due.add_metric([work.name], work.next_at.timestamp())
        if work.ended_at is not None:
            ended.add_metric([work.name], work.ended_at.timestamp())
        for name in ScheduledWork.Status.values:
            status.add_metric([work.name, name], float(work.status == name))
    yield from (ended, due, status)
