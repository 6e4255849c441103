"""`manage.py worker`: the background process of the service. It looks into new media, folds usage every minute, and
does what is due: purges, and slices of the comparison of catalog and buckets.

Any number of workers may run: what is due is claimed by one (`assets.services.schedule`), a fold and a look are safe
beside others. Each tidies what lies on its own machine. What they do lives in `assets.services` and `assets.integrity`.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from types import FrameType
from typing import Any, Final, NoReturn

from django.core.files.storage import storages
from django.core.management.base import BaseCommand
from django.db import connection
from django.utils import timezone

from assets.integrity.runs import verify_slice
from assets.models import IntegrityRun
from assets.services import purge
from assets.services.jobs import forget_jobs
from assets.services.previews import work_forever
from assets.services.purging import sweep_staging
from assets.services.schedule import Outcome, Status, Work, forget, plan, run_if_due
from assets.services.usage_upkeep import fold
from assets.workflows.jobs import recover_jobs
from storagecache.environment import Environment
from storagecache.interrupts import Sleep, on_signals
from storagecache.node_cache.area import drop_expired, trim

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
TICK: Final = 60.0  # seconds between two looks at what is due
TIDY_EVERY: Final = 60  # ticks
FIRST_VERIFY: Final = timedelta(minutes=10)  # after the first start of all
NEXT_SLICE: Final = timedelta(minutes=5)  # between two slices of one comparison
logger = logging.getLogger(__name__)

Task = Callable[[], object]


class Stopped(BaseException):
    """SIGTERM or SIGINT arrived. Not an Exception: nothing on the way may take it for a failure."""


class Command(BaseCommand):
    """Run background work until SIGTERM or SIGINT."""

    help = "Runs the background work of the service (purges, verification, thumbnails) until it is told to stop."

    def handle(self, *_args: Any, **_options: Any) -> None:
        """Work until a signal comes; work in progress is cut, and the next worker goes on from there."""
        try:
            sleep = on_signals(STOP_SIGNALS, _stop)
            logger.info("worker started tick=%d", TICK)
            environment = Environment.current()
            if _has_no_catalog(environment):
                logger.info("worker idle reason=memory-storage")
                work([], sleep=sleep)
            _recover()
            # Beside the purge, which may take long. It dies with the process; whatever it was at is done again.
            threading.Thread(target=work_forever, name="previews", daemon=True).start()
            work(tasks(environment), sleep=sleep)
        except Stopped:
            logger.info("worker stopped")


def work(chosen: Sequence[Task], *, sleep: Sleep) -> NoReturn:
    """Do each of these every minute until `sleep` raises. One that fails keeps nobody from work, and is tried again."""
    while True:
        sleep(TICK)
        for task in chosen:
            _attempt(task)


def tasks(environment: Environment) -> list[Task]:
    """Give what this worker does each minute."""
    works = scheduled(environment)
    due = [partial(run_if_due, chosen) for chosen in works]
    return [fold, partial(_plan, environment, works), *due, every(TIDY_EVERY, partial(tidy, environment))]


def scheduled(environment: Environment) -> list[Work]:
    """Give the work that one worker of many does."""
    purging = Work(name="purge", interval=timedelta(seconds=environment.purge_interval), job=_purge)
    interval = timedelta(seconds=environment.verify_interval)
    verifying = Work(name="verify", interval=interval, job=_verify, first_in=min(FIRST_VERIFY, interval))
    return [purging, verifying] if interval else [purging]


def every(number: int, task: Task) -> Task:
    """Do a task at the first of each `number` calls."""
    calls = iter(range(number))

    def call() -> None:
        nonlocal calls
        turn = next(calls)
        if turn == number - 1:
            calls = iter(range(number))
        if turn == 0:
            task()

    return call


def tidy(environment: Environment) -> None:
    """Tidy what lies on this machine, where no other worker may reach: staged files, and the node cache's area."""
    sweep_staging(timezone.now() - timedelta(seconds=environment.grace_time))
    storage = storages["cache"]
    files, size = drop_expired(storage, timezone.now())
    trimmed, more = trim(storage, environment.node_cache_disk_bytes)
    logger.info("node cache tidied files=%d bytes=%d", files + trimmed, size + more)


def _plan(environment: Environment, works: list[Work]) -> None:
    for chosen in works:
        plan(chosen)
    if not environment.verify_interval:
        forget("verify")


def _purge() -> Outcome:
    report = purge()
    forgotten = forget_jobs(ended_before=timezone.now() - timedelta(seconds=Environment.current().job_ttl))
    text = (
        f"{report.objects} objects and {report.bytes} bytes deleted, {report.expired} assets ended, "
        f"{report.staged_files} staged files removed, {forgotten} records of jobs forgotten."
    )
    if not report.failures:
        return Outcome(text=text)
    return Outcome(text=" ".join([text, "Not deleted:", *report.failures]), status=Status.ATTENTION)


def _verify() -> Outcome:
    """Compare the next piece; when it was the last one, say what the whole came to and wait for the interval."""
    done = verify_slice()
    text = f"Run {done.run_id.hex}: {done.objects} objects, {done.findings} findings"
    status = Status.ATTENTION if done.findings or done.status == IntegrityRun.Status.UNSURE else Status.DONE
    if not done.finished:
        return Outcome(text=f"{text} so far.", status=status, next_in=NEXT_SLICE)
    return Outcome(text=f"{text}; {done.status}.", status=status)


def _has_no_catalog(environment: Environment) -> bool:
    """Tell whether the catalog is one that is thrown away with the process that serves it."""
    return environment.storage_kind == "memory" and environment.env != "test"


def _recover() -> None:
    """Mark the jobs of dead processes lost, and remove what they left; a failure must not keep the worker from work."""
    try:
        recover_jobs()
    except Exception as error:  # noqa: BLE001  # no catalog yet, or whatever: the next start may succeed
        logger.warning("jobs not recovered reason=%s", error)
    finally:
        _drop_connection()


def _attempt(task: Task) -> None:
    try:
        task()
    except Exception:  # whatever it is, the next time may be better
        logger.exception("task failed next_in=%d", TICK)
    finally:
        _drop_connection()


def _drop_connection() -> None:
    """Hold no connection while idle; one that is broken must not spoil the next purge."""
    try:
        connection.close()
    except Exception:
        logger.exception("connection not closed")


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # the first one is enough
    raise Stopped
