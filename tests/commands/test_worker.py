"""When the worker works, what it survives, and how it ends."""

from __future__ import annotations

import signal
from dataclasses import replace
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone

from assets.management.commands import worker
from assets.models import ScheduledWork
from assets.services import previews
from storagecache.environment import Environment
from tests.manage import Manage


class Naps:
    """A sleep that passes no time: it notes the seconds, and ends the worker after a number of naps."""

    def __init__(self, number: int) -> None:
        self.seconds: list[float] = []
        self.was_connected: list[bool] = []
        self._number = number

    def __call__(self, seconds: float) -> None:
        """Note, or stop."""
        self.was_connected.append(connection.connection is not None)
        if len(self.seconds) == self._number:
            raise worker.Stopped
        self.seconds.append(seconds)


def test_work_looks_every_minute() -> None:
    naps, runs = Naps(3), []
    with pytest.raises(worker.Stopped):
        worker.work([lambda: runs.append(1)], sleep=naps)
    assert naps.seconds == [60, 60, 60]
    assert len(runs) == 3


def test_work_failing_task_is_logged_and_keeps_nobody_from_work(caplog: pytest.LogCaptureFixture) -> None:
    naps, runs = Naps(2), []

    def fail() -> None:
        raise OSError("disk gone")

    with pytest.raises(worker.Stopped):
        worker.work([fail, lambda: runs.append(1)], sleep=naps)
    assert len(runs) == 2
    assert [record.getMessage() for record in caplog.records] == ["task failed next_in=60"] * 2


@pytest.mark.django_db
def test_previews_without_a_catalog_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    naps = Naps(3)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE assets_storedobject RENAME TO away")
    with pytest.raises(worker.Stopped):
        previews.work_forever(sleep=naps)
    assert min(naps.seconds) >= 10
    failures = [record.getMessage() for record in caplog.records if record.name == previews.__name__]
    assert failures == ["previews failed next_in=15"] * 4


@pytest.mark.django_db(transaction=True)
def test_work_between_two_looks_holds_no_connection() -> None:
    naps = Naps(2)
    connection.close()
    with pytest.raises(worker.Stopped):
        worker.work([lambda: User.objects.count()], sleep=naps)
    assert naps.was_connected == [False, False, False]


def test_every_third_call_does_the_task() -> None:
    runs: list[int] = []
    task = worker.every(3, lambda: runs.append(len(runs)))
    done = [(task(), len(runs))[1] for _ in range(7)]
    assert done == [1, 1, 1, 2, 2, 2, 3]


@pytest.mark.django_db(transaction=True)
def test_worker_purges_at_once_and_verifies_later() -> None:
    for task in worker.tasks(Environment.current()):
        task()
    rows = {row.name: row for row in ScheduledWork.objects.all()}
    assert (rows["purge"].status, rows["verify"].status) == ("done", "waiting")
    assert "0 objects" in rows["purge"].result
    ScheduledWork.objects.filter(name="verify").update(next_at=timezone.now())
    for task in worker.tasks(Environment.current()):
        task()
    verified = ScheduledWork.objects.get(name="verify")
    assert (verified.status, verified.holder) == ("done", "")
    assert verified.result.endswith("clean.")
    assert verified.next_at - verified.ended_at == timedelta(hours=24)


@pytest.mark.django_db(transaction=True)
def test_worker_without_a_verify_interval_verifies_never() -> None:
    ScheduledWork.objects.create(name="verify", next_at=timezone.now())
    for task in worker.tasks(replace(Environment.current(), verify_interval=0)):
        task()
    assert not ScheduledWork.objects.filter(name="verify").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
@pytest.mark.parametrize("storage", ["filesystem", "memory"])
def test_worker_process_ends_at_once_when_told(manage: Manage, number: signal.Signals, storage: str) -> None:
    process = manage.start("worker", ASSET_STORAGE=storage)
    assert process.stderr is not None
    assert "worker started" in process.stderr.readline()
    process.send_signal(number)
    _, log = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "worker stopped" in log
    assert "Traceback" not in log


def test_worker_with_memory_storage_leaves_the_catalog_alone(manage: Manage) -> None:
    process = manage.start("worker", ASSET_STORAGE="memory")
    assert process.stderr is not None
    lines = [process.stderr.readline(), process.stderr.readline()]
    process.terminate()
    process.communicate(timeout=20)
    assert "worker idle" in "".join(lines)


def test_worker_marks_the_jobs_of_a_dead_process_lost(manage: Manage) -> None:
    assert manage("prepare").returncode == 0
    code = (
        "from django.contrib.auth.models import User; from assets.ids import new_id;"
        "from assets.services.jobs import open_job;"
        "open_job(new_id(), user=User.objects.get(), strategy='subprocess', task='t', workflow='', node='')"
    )
    assert manage("shell", "-v0", "-c", code).returncode == 0
    process = manage.start("worker")
    assert process.stderr is not None
    while "worker started" not in process.stderr.readline():
        pass
    shown, states = ["shell", "-v0", "-c", "from assets.models import Job; print(Job.objects.get().state)"], {"running"}
    while states == {"running"}:
        states = {manage(*shown).stdout.strip().splitlines()[-1]}
    process.terminate()
    process.communicate(timeout=20)
    assert states == {"lost"}
