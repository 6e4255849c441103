"""When the worker works, what it survives, and how it ends."""

from __future__ import annotations

import signal

import pytest
from django.contrib.auth.models import User
from django.db import connection

from assets.management.commands import worker
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


def test_work_runs_first_after_a_minute_then_hourly() -> None:
    naps, runs = Naps(3), []
    with pytest.raises(worker.Stopped):
        worker.work(lambda: runs.append(1), sleep=naps)
    assert naps.seconds == [60, 3600, 3600]
    assert len(runs) == 3


def test_work_failing_job_is_logged_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    naps, runs = Naps(2), []

    def fail() -> None:
        runs.append(1)
        raise OSError("disk gone")

    with pytest.raises(worker.Stopped):
        worker.work(fail, sleep=naps)
    assert len(runs) == 2
    assert [record.getMessage() for record in caplog.records] == ["purge failed next_in=3600"] * 2


@pytest.mark.django_db(transaction=True)
def test_work_between_two_jobs_holds_no_connection() -> None:
    naps = Naps(2)
    connection.close()
    with pytest.raises(worker.Stopped):
        worker.work(lambda: User.objects.count(), sleep=naps)
    assert naps.was_connected == [False, False, False]


@pytest.mark.django_db(transaction=True)
def test_worker_folds_usage_every_minute_between_two_purges(monkeypatch: pytest.MonkeyPatch) -> None:
    naps, folds = Naps(100), []

    def fold() -> int:
        folds.append(1)
        if len(folds) == 2:
            raise OSError("disk gone")
        return 0

    monkeypatch.setattr(worker, "fold", fold)
    worker.fold_meanwhile(3600, sleep=naps)
    assert naps.seconds == [60] * 60
    assert len(folds) == 60
    assert not any(naps.was_connected)


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
