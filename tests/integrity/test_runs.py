"""Comparisons that are recorded, resumed and made in slices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.core.files.storage import storages

from assets.integrity import judging, merging, runs
from assets.integrity.runs import Budget, RunKind, RunTakenOverError, begin, verify, verify_slice
from assets.integrity.verify import Verification
from assets.models import IntegrityFinding, IntegrityRun, StoredObject
from tests.integrity.conftest import in_memory, on_disk, remove_bytes, upload


@pytest.fixture
def faulty(settings: Any, owner: User, monkeypatch: pytest.MonkeyPatch) -> int:
    """Give 30 assets of which 3 lost their bytes, judged 5 at a time."""
    settings.STORAGES = {**settings.STORAGES, **in_memory()}
    assets = [upload(owner, b"asset %d" % number) for number in range(30)]
    for asset in assets[::10]:
        remove_bytes(asset)
    monkeypatch.setattr(merging, "STRIDE", 5)
    return 3


def test_verify_killed_in_the_middle_goes_on_and_finds_each_fault_once(faulty: int) -> None:
    session = begin(RunKind.VERIFY, deep=False, since=None)
    steps = session.advance()
    for _ in range(3):
        next(steps)
    runs._active.clear()  # as when the process is killed
    run, resumed = verify()
    assert (run.pk, resumed, run.status) == (session.run.pk, True, "findings")
    assert (run.counts, run.rows_seen >= 30) == ({"row_without_object": faulty}, True)
    assert IntegrityFinding.objects.filter(run=run).count() == faulty
    with pytest.raises(RunTakenOverError):
        list(steps)


def test_verify_beside_a_living_one_begins_its_own(faulty: int) -> None:
    steps = begin(RunKind.VERIFY, deep=False, since=None).advance()
    next(steps)
    run, resumed = verify()
    assert (resumed, run.counts) == (False, {"row_without_object": faulty})
    steps.close()


def test_verify_slices_end_at_their_budget_and_cover_everything(faulty: int) -> None:
    results = []
    while not results or not results[-1].finished:
        results.append(verify_slice(Budget(objects=10), deep=True))
    assert 3 <= len(results) <= 10
    assert len({result.run_id for result in results}) == 1
    assert (results[-1].status, results[-1].findings, results[-1].hashed_bytes > 0) == ("findings", faulty, True)
    assert StoredObject.objects.filter(verified_at__isnull=False).count() == 27
    assert verify_slice(Budget(objects=10), deep=True).run_id != results[-1].run_id


def test_verify_slice_ends_when_its_time_is_over(faulty: int) -> None:
    times = iter(range(0, 1000, 20))
    result = verify_slice(Budget(seconds=30), clock=lambda: next(times))
    assert not result.finished


def test_verify_that_cannot_tell_leaves_an_unsure_run(settings: Any, owner: User, tmp_path: Path) -> None:
    settings.STORAGES = {**settings.STORAGES, **on_disk(tmp_path / "not" / "mounted")}
    with pytest.raises(Exception, match="Mount"):
        verify()
    run = IntegrityRun.objects.get()
    assert (run.status, "Mount" in run.message, run.ended_at is not None) == ("unsure", True, True)


def test_verify_deep_is_held_to_its_rate(settings: Any, owner: User, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.STORAGES = {**settings.STORAGES, **in_memory()}
    upload(owner, b"x" * 1_000_000)
    waits: list[float] = []
    monkeypatch.setattr(judging.time, "sleep", waits.append)
    list(Verification(deep=True, rate=1_000_000).findings())
    assert waits
    assert 0.5 < max(waits) <= 1.0


def test_runs_of_long_ago_are_forgotten_unless_they_hold_something(
    settings: Any, owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.STORAGES = {**settings.STORAGES, **in_memory()}
    monkeypatch.setattr(runs, "KEPT_RUNS", 2)
    for number in range(20):
        upload(owner, b"%d" % number)
    from assets.integrity.repair import repair

    storages["assets"].save("ab/stray", ContentFile(b"stray"))
    holding = repair()[0]
    for _ in range(5):
        verify()
    assert IntegrityRun.objects.count() == 4  # two kept, the newest, and the one that holds an object
    assert IntegrityRun.objects.filter(pk=holding.pk).exists()
