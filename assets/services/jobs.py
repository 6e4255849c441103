"""The records of jobs: opened before a job starts, closed at its end, lost when its process died, forgotten in time."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.contrib.auth.models import AbstractBaseUser
from django.utils import timezone

from assets.ids import last_id_at
from assets.models import Asset, Job
from assets.services.sections import write_section

SILENCE: Final = timedelta(
    minutes=10
)  # after which a job of another machine is given up; alive ones say so every minute
_BATCH: Final = 500


@dataclass(frozen=True, slots=True)
class JobEnd:
    """How a job ended."""

    state: str
    exit_code: int | None = None
    error: str = ""


def open_job(job_id: UUID, *, user: AbstractBaseUser, strategy: str, task: str, workflow: str, node: str) -> Job:
    """Record a job that is about to start, once its process holds the lock that tells it is alive.

    Raises:
        BackendUnavailableError
    """
    now = timezone.now()
    with write_section():
        return Job.objects.create(
            id=job_id, user_id=user.pk, strategy=strategy, task=_storable(task)[:255],
            workflow_id=workflow, node_id=node, host=socket.gethostname()[:255], started_at=now, seen_at=now,
        )  # fmt: skip


def note_alive(job: Job) -> None:
    """Note that the process of a job lives.

    Raises:
        BackendUnavailableError
    """
    with write_section():
        Job.objects.filter(pk=job.pk).update(seen_at=timezone.now())


def finish_job(job: Job, end: JobEnd, *, log_tail: str, outputs: Iterable[Asset], problems: Sequence[str]) -> None:
    """Record the end of a job, on the row and on `job`. One that was given up meanwhile is told as it ended.

    Raises:
        BackendUnavailableError
    """
    changes: dict[str, Any] = {
        "state": end.state,
        "exit_code": end.exit_code,
        "error": _storable(end.error),
        "ended_at": timezone.now(),
        "log_tail": log_tail,
        "outputs": [{"id": asset.pk.hex, "name": asset.name, "size": asset.size} for asset in outputs],
        "problems": list(problems),
    }
    for name, value in changes.items():
        setattr(job, name, value)
    with write_section():
        Job.objects.filter(pk=job.pk).update(**changes)  # no row: its user was deleted meanwhile


def lose_jobs(is_alive: Callable[[str], bool]) -> list[Job]:
    """Mark the running jobs lost whose process is gone: this machine's by `is_alive`, others by their silence."""
    host, now = socket.gethostname()[:255], timezone.now()
    running = Job.objects.filter(state=Job.State.RUNNING).order_by("pk")
    lost = [
        job
        for job in running.only("pk", "host", "seen_at", "strategy").iterator(chunk_size=_BATCH)
        if (not is_alive(job.pk.hex) if job.host == host else job.seen_at < now - SILENCE)
    ]
    for first in range(0, len(lost), _BATCH):
        ids = [job.pk for job in lost[first : first + _BATCH]]
        with write_section():
            Job.objects.filter(pk__in=ids, state=Job.State.RUNNING).update(
                state=Job.State.LOST, ended_at=now, error="The process that ran it ended before it did."
            )
    return lost


def forget_jobs(*, ended_before: datetime) -> int:
    """Delete the records of jobs that ended before a time; the assets they left keep their ids. Returns how many.

    Two statements for each 500 records, in the order of their ids. A job that still runs is kept, however old.

    Raises:
        BackendUnavailableError
    """
    count, last = 0, UUID(int=0)
    while ids := _ended(last, ended_before):
        with write_section():
            count += Job.objects.filter(pk__in=ids).exclude(state=Job.State.RUNNING).delete()[0]
        last = ids[-1]
    return count


def _storable(text: str) -> str:
    """Give a text without what no database takes: NUL, and the bytes of a path that are no UTF-8."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def _ended(behind: UUID, ended_before: datetime) -> list[UUID]:
    """Give the next ids. They tell when they were made, so that the younger part of the table is not looked at."""
    old = Job.objects.filter(pk__gt=behind, pk__lte=last_id_at(ended_before), ended_at__lt=ended_before)
    return list(old.order_by("pk").values_list("pk", flat=True)[:_BATCH])
