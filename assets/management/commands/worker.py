"""`manage.py worker`: the background process of the service: it purges hourly, folds usage every minute in between,
and looks into new media.

Any number of workers may run: a purge is safe beside another, so is a fold, and a look is claimed by one. What they do
lives in `assets.services.purging`, `assets.services.usage_upkeep` and `assets.services.previews`.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from datetime import timedelta
from types import FrameType
from typing import Any, Final, NoReturn

from django.core.files.storage import storages
from django.core.management.base import BaseCommand
from django.db import connection
from django.utils import timezone

from assets.services import purge
from assets.services.jobs import forget_jobs
from assets.services.previews import work_forever
from assets.services.usage_upkeep import fold
from assets.workflows.jobs import recover_jobs
from storagecache.environment import Environment
from storagecache.node_cache.area import drop_expired, trim

FIRST_PURGE: Final = 60.0  # seconds after the start, when the service has warmed up
PURGE_INTERVAL: Final = 3600.0  # seconds between the end of a purge and the next
FOLD_INTERVAL: Final = 60.0  # seconds; what is not folded is added up by whoever reads
logger = logging.getLogger(__name__)


class Stopped(BaseException):
    """SIGTERM or SIGINT arrived. Not an Exception: nothing on the way may take it for a failure."""


class Command(BaseCommand):
    """Run background work until SIGTERM or SIGINT."""

    help = "Runs the background work of the service (an hourly purge, thumbnails) until it is told to stop."

    def handle(self, *_args: Any, **_options: Any) -> None:
        """Work until a signal comes; a purge in progress is cut, and the next one goes on from there."""
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, _stop)
            logger.info("worker started interval=%d", PURGE_INTERVAL)
            environment = Environment.current()
            _recover(environment)
            if not _has_no_catalog(environment):
                # Beside the purge, which may take long. It dies with the process; whatever it was at is done again.
                threading.Thread(target=work_forever, name="previews", daemon=True).start()
            work(_job(environment), sleep=_pause(environment))
        except Stopped:
            logger.info("worker stopped")


def work(job: Callable[[], object], *, sleep: Callable[[float], None]) -> NoReturn:
    """Do the job a minute after the start and then hourly, until `sleep` raises. A failing job is tried again."""
    pause = FIRST_PURGE
    while True:
        sleep(pause)
        pause = PURGE_INTERVAL
        try:
            job()
        except Exception:  # whatever it is, the next purge may succeed
            logger.exception("purge failed next_in=%d", pause)
        finally:
            _drop_connection()


def _job(environment: Environment) -> Callable[[], object]:
    """Choose the job: objects in memory are out of reach, they live and end with the process that serves them."""
    if _has_no_catalog(environment):
        logger.info("worker idle reason=memory-storage")
        return lambda: None

    def job() -> None:
        purge()
        tidy_cache(environment)
        forgotten = forget_jobs(ended_before=timezone.now() - timedelta(seconds=environment.job_ttl))
        logger.info("jobs forgotten count=%d", forgotten)

    return job


def _has_no_catalog(environment: Environment) -> bool:
    """Tell whether the catalog is one that is thrown away with the process that serves it."""
    return environment.storage_kind == "memory" and environment.env != "test"


def _recover(environment: Environment) -> None:
    """Mark the jobs of dead processes lost, and remove what they left; a failure must not keep the worker from work."""
    if _has_no_catalog(environment):
        return
    try:
        recover_jobs()
    except Exception as error:  # noqa: BLE001  # no catalog yet, or whatever: the next start may succeed
        logger.warning("jobs not recovered reason=%s", error)
    finally:
        _drop_connection()


def tidy_cache(environment: Environment) -> None:
    """Drop what is over in the area of big node-cache values, and keep the rest within NODE_CACHE_DISK_BYTES."""
    storage = storages["cache"]
    files, size = drop_expired(storage, timezone.now())
    trimmed, more = trim(storage, environment.node_cache_disk_bytes)
    logger.info("node cache tidied files=%d bytes=%d", files + trimmed, size + more)


def _drop_connection() -> None:
    """Hold no connection while idle; one that is broken must not spoil the next purge."""
    try:
        connection.close()
    except Exception:
        logger.exception("connection not closed")


def _pause(environment: Environment) -> Callable[[float], None]:
    """Choose what passes the time between two purges: sleeping, and folding where the catalog is kept."""
    if _has_no_catalog(environment):
        return _sleep
    return lambda seconds: fold_meanwhile(seconds, sleep=_sleep)


def fold_meanwhile(seconds: float, *, sleep: Callable[[float], None]) -> None:
    """Pass this time, and fold usage each minute of it. A failing fold is tried again."""
    for _ in range(max(1, round(seconds / FOLD_INTERVAL))):
        sleep(min(seconds, FOLD_INTERVAL))
        try:
            fold()
        except Exception:  # whatever it is, the next fold may succeed
            logger.exception("fold failed next_in=%d", FOLD_INTERVAL)
        finally:
            _drop_connection()


def _sleep(seconds: float) -> None:
    threading.Event().wait(seconds)  # a signal's handler runs at once, and raises


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # the first one is enough
    raise Stopped
