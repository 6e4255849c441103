"""Work that one worker of many does: when it is due, who does it, and what becomes of it when somebody dies."""

from __future__ import annotations

import socket
from datetime import timedelta

import pytest
from django.utils import timezone

from assets.models import ScheduledWork
from assets.services import schedule
from assets.services.schedule import Outcome, Work, forget, plan, run_if_due
from tests.assets.conftest import at_once

HOUR = timedelta(hours=1)
NOBODY = 2**22 + 1  # no process has an id beyond /proc/sys/kernel/pid_max's largest value


class Job:
    """Work that counts."""

    def __init__(self, outcome: Outcome | Exception = Outcome(text="well")) -> None:  # noqa: B008  # frozen
        self.runs = 0
        self._outcome = outcome

    def __call__(self) -> Outcome:
        """Count, and end as told."""
        self.runs += 1
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


def planned(job: Job, *, interval: timedelta = HOUR) -> Work:
    """Give planned work that is due."""
    work = Work(name="purge", interval=interval, job=job)
    plan(work, now=timezone.now() - timedelta(seconds=1))
    return work


def row() -> ScheduledWork:
    """Give the one row."""
    return ScheduledWork.objects.get()


@pytest.mark.django_db(transaction=True)
def test_work_that_is_due_runs_once_an_interval() -> None:
    work = planned(job := Job())
    assert run_if_due(work) == Outcome(text="well")
    assert run_if_due(work) is None
    assert (row().status, row().result, row().holder) == ("done", "well", "")
    assert row().next_at - row().ended_at == HOUR
    run_if_due(work, now=timezone.now() + HOUR)
    assert job.runs == 2


@pytest.mark.django_db(transaction=True)
def test_work_asked_for_by_eight_at_once_runs_once() -> None:
    work = planned(job := Job())
    outcomes = [task.outcome() for task in at_once(*[lambda: run_if_due(work)] * 8)]
    assert (job.runs, outcomes.count(None)) == (1, 7)


@pytest.mark.django_db(transaction=True)
def test_work_that_fails_is_an_outcome_and_tried_again_within_an_hour(caplog: pytest.LogCaptureFixture) -> None:
    work = planned(Job(OSError("disk gone")), interval=timedelta(days=1))
    run_if_due(work)
    assert (row().status, row().result) == ("failed", "OSError: disk gone")
    assert row().next_at - row().ended_at == HOUR
    assert "work failed name=purge" in caplog.text


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("holder", "silence", "runs"),
    [
        (f"{socket.gethostname()}/{NOBODY}/x", timedelta(0), 1),
        (f"{socket.gethostname()}/1/x", timedelta(0), 0),
        (f"{socket.gethostname()}/1/x", schedule.SILENT, 1),
        ("elsewhere/1/x", timedelta(minutes=4), 0),
        ("elsewhere/1/x", schedule.SILENT, 1),
    ],
    ids=["dead here", "alive here", "silent here", "heard of elsewhere", "silent elsewhere"],
)
def test_work_of_a_holder_goes_to_another_only_when_it_is_dead(holder: str, silence: timedelta, runs: int) -> None:
    work = planned(job := Job())
    ScheduledWork.objects.update(holder=holder, status="running", seen_at=timezone.now() - silence)
    run_if_due(work)
    assert job.runs == runs


@pytest.mark.django_db(transaction=True)
def test_work_taken_over_meanwhile_is_not_settled_by_its_first_holder(caplog: pytest.LogCaptureFixture) -> None:
    def lose() -> Outcome:
        ScheduledWork.objects.update(holder="elsewhere/1/x")
        return Outcome(text="late")

    work = Work(name="purge", interval=HOUR, job=lose)
    plan(work)
    run_if_due(work, now=timezone.now() + HOUR)
    assert (row().holder, row().result) == ("elsewhere/1/x", "")
    assert "work was taken over" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_show_life_keeps_work_from_being_taken_over() -> None:
    work = planned(job := Job())
    old = timezone.now() - schedule.SILENT
    ScheduledWork.objects.update(holder="elsewhere/1/x", status="running", seen_at=old)
    schedule.show_life("purge", "elsewhere/1/x")
    assert run_if_due(work) is None
    assert job.runs == 0


@pytest.mark.django_db(transaction=True)
def test_plan_with_a_shorter_interval_brings_work_forward_and_never_back() -> None:
    now = timezone.now()
    ScheduledWork.objects.create(name="purge", next_at=now + timedelta(days=9))
    plan(Work(name="purge", interval=HOUR, job=Job()), now=now)
    assert row().next_at == now + HOUR
    plan(Work(name="purge", interval=timedelta(days=1), job=Job()), now=now)
    assert row().next_at == now + HOUR
    forget("purge")
    assert not ScheduledWork.objects.exists()
