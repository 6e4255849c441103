"""Which background work is due, and who does it: one worker of many, until it has ended or its holder is dead.

The row of a piece of work is its lock. Its holder is heard of each minute; one that died is replaced: at once on its
own machine, after five minutes from another one. So nothing here makes work exclusive beyond doubt: what runs twice
must be safe beside itself, and is only spared the double trouble. What the work is, the worker says.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db import DatabaseError, connection
from django.utils import timezone

from assets.models import ScheduledWork
from assets.services.holders import is_process, new_holder, place_of
from assets.services.sections import release_connection, write_section
from storagecache.errors import StorageError

logger = logging.getLogger(__name__)

RETRY: Final = timedelta(hours=1)  # after a failure, at the latest
SILENT: Final = timedelta(minutes=5)  # then the holder is taken for dead
_BEAT: Final = 60.0  # seconds between two signs of life
_RESULT: Final = 2000  # characters kept
_active: set[str] = set()  # holders of this process
Status = ScheduledWork.Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a run, in a line for people; `next_in` instead of the interval."""

    text: str
    status: str = Status.DONE
    next_in: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Something done again and again: `interval` after the end of the last run, and first after `first_in`."""

    """Something to be done again and again: `interval` after each end, for the first time after `first_in`."""

    name: str
    interval: timedelta
    job: Callable[[], Outcome]
    first_in: timedelta = timedelta(0)


def plan(work: Work, *, now: datetime | None = None) -> None:
    """See to it that the work has a row, and that a shorter interval counts from now on; costs two statements."""
    now = now or timezone.now()
    late = ScheduledWork.objects.filter(name=work.name, next_at__gt=now + work.interval)
    with write_section():
        row = ScheduledWork(name=work.name, next_at=now + work.first_in)
        ScheduledWork.objects.bulk_create([row], ignore_conflicts=True)
        late.update(next_at=now + work.interval)
    release_connection()


def forget(name: str) -> None:
    """Drop the row of work that is not done any more."""
    with write_section():
        ScheduledWork.objects.filter(name=name).delete()
    release_connection()


def run_if_due(work: Work, *, now: datetime | None = None) -> Outcome | None:
    """Do the work if it is due and nobody else is at it; None when not. A failure is an outcome, and tried again.

    Raises:
        BackendUnavailableError: the catalog does not answer.
    """
    holder = _claim(work.name, now or timezone.now())
    if holder is None:
        return None
    try:
        with _beating(work.name, holder):
            outcome = _attempt(work)
        _settle(work, holder, outcome)
    finally:
        _active.discard(holder)
    return outcome


def _claim(name: str, now: datetime) -> str | None:
    row = ScheduledWork.objects.filter(name=name, next_at__lte=now).first()
    release_connection()
    if row is None or _is_held(row, now):
        return None
    if row.holder:
        logger.warning("work taken over name=%s from=%s", name, row.holder)
    holder = new_holder()
    free = ScheduledWork.objects.filter(name=name, next_at__lte=now, holder=row.holder, seen_at=row.seen_at)
    taken = 0
    _active.add(holder)  # before its name is in the row, where another thread would take it for a dead one
    try:
        with write_section():
            taken = free.update(holder=holder, status=Status.RUNNING, seen_at=now, started_at=now)
    finally:
        if not taken:
            _active.discard(holder)
    release_connection()
    return holder if taken else None


def _is_held(row: ScheduledWork, now: datetime) -> bool:
    """Tell whether the work's holder lives: silence ends it, and so does the end of its process on this machine."""
    if not row.holder or row.seen_at is None or row.seen_at <= now - SILENT:
        return False
    host, pid = place_of(row.holder)
    if host != socket.gethostname():
        return True
    return row.holder in _active if pid == os.getpid() else is_process(pid)


def _attempt(work: Work) -> Outcome:
    try:
        return work.job()
    except Exception as error:  # whatever it is, the next run may succeed
        logger.exception("work failed name=%s", work.name)
        text = f"{type(error).__name__}: {error}"
        return Outcome(text=text, status=Status.FAILED, next_in=min(work.interval, RETRY))


def _settle(work: Work, holder: str, outcome: Outcome) -> None:
    """Write down what came of it; a catalog that does not answer leaves the row to whoever finds it silent."""
    now = timezone.now()
    next_at = now + (work.interval if outcome.next_in is None else outcome.next_in)
    mine = ScheduledWork.objects.filter(name=work.name, holder=holder)
    try:
        with write_section():
            settled = mine.update(
                holder="", status=outcome.status, ended_at=now, next_at=next_at, result=outcome.text[:_RESULT]
            )
        release_connection()
    except (StorageError, DatabaseError) as error:
        logger.warning("work not settled name=%s reason=%s", work.name, error)
        return
    if not settled:
        logger.warning("work was taken over name=%s", work.name)


@contextmanager
def _beating(name: str, holder: str) -> Iterator[None]:
    """Give signs of life inside the block, from a thread that dies with the process."""
    over = threading.Event()
    threading.Thread(target=_beat, args=(name, holder, over), name=f"beat-{name}", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _beat(name: str, holder: str, over: threading.Event) -> None:
    while not over.wait(_BEAT):
        try:
            show_life(name, holder)
        except (StorageError, DatabaseError) as error:
            logger.warning("no sign of life name=%s reason=%s", name, error)
        finally:
            connection.close()


def show_life(name: str, holder: str, *, now: datetime | None = None) -> None:
    """Note that the holder lives."""
    with write_section():
        ScheduledWork.objects.filter(name=name, holder=holder).update(seen_at=now or timezone.now())
