"""Usage: figures that follow every change, folded or not, and agree with the catalog."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from assets.ids import new_id
from assets.models import Asset, UsageDelta, UsageTotal
from assets.services import changes, delete_assets, delete_at, purge, replace_content, usage, usage_upkeep
from assets.services.quota import set_quota
from assets.services.sections import write_section
from assets.services.usage import Amount, Usage, folder_totals, tree_total, usage_of
from assets.services.usage_upkeep import compare, fold, recount
from storagecache.errors import StorageFullError
from tests.assets.conftest import Background, Buckets, at_once, before_statement, make_folder, put, statements

DAY = timedelta(days=1)


@pytest.fixture(params=["waiting", "folded", "both"])
def settle(request: pytest.FixtureRequest) -> Callable[[], None]:
    """Give what a test calls between changes: nothing, a fold, or every other time one."""
    calls: list[int] = []

    def step() -> None:
        calls.append(1)
        if request.param == "folded" or (request.param == "both" and len(calls) % 2):
            fold()

    return step


def now_of(owner: User) -> Usage:
    """Read the figures, held against the catalog."""
    assert compare(owner.pk) == []
    return usage_of(owner.pk, now=timezone.now())


def change(asset: Asset, **fields: Any) -> None:
    """Change an asset as services do."""
    with write_section():
        before = Asset.objects.get(pk=asset.pk)
        after = copy.copy(before)
        for name, value in fields.items():
            setattr(after, name, value)
        Asset.objects.filter(pk=asset.pk).update(**fields)
        changes.changed(before, after)


def trash(*assets: Asset) -> None:
    with write_section():
        Asset.objects.filter(pk__in=[asset.pk for asset in assets]).update(trashed_at=timezone.now())
        changes.trashed(assets)


def restore(*assets: Asset) -> None:
    with write_section():
        Asset.objects.filter(pk__in=[asset.pk for asset in assets]).update(trashed_at=None)
        changes.restored([Asset.objects.get(pk=asset.pk) for asset in assets])


def test_usage_follows_create_replace_and_delete(
    memory: Buckets, owner: User, stranger: User, settle: Callable[[], None]
) -> None:
    today = timezone.now().date().isoformat()
    a = put(owner, "a.txt", b"12345", content_type="text/plain")
    settle()
    b = put(owner, "b.json", b"12345", content_type="application/json")  # one object, counted twice
    put(owner, "t", b"123", bucket="temp", content_type="text/x")
    put(stranger, "s", b"12")
    settle()
    seen = now_of(owner)
    assert seen.places == {"assets": Amount(10, 2), "temp": Amount(3, 1)}
    assert seen.groups == {"text": Amount(8, 2), "application": Amount(5, 1)}
    assert seen.folders == {str(owner.pk): Amount(13, 3)}
    assert seen.days == {today: Amount(13, 3)}
    replace_content(a, io.BytesIO(b"1"), content_type="application/x")
    settle()
    assert now_of(owner).groups == {"text": Amount(3, 1), "application": Amount(6, 2)}
    delete_at(owner.pk, "assets", "a.txt")
    settle()
    delete_assets([b.pk, *Asset.objects.filter(bucket="temp").values_list("pk", flat=True)])
    settle()
    assert now_of(owner) == Usage({}, {}, {}, {})
    assert now_of(stranger).places == {"assets": Amount(2, 1)}


def test_usage_follows_trash_and_restore(memory: Buckets, owner: User, settle: Callable[[], None]) -> None:
    inside = make_folder(owner, "inside")
    a, b, kept = (put(owner, name, name.encode()) for name in ("a", "bb", "ccc"))
    change(b, parent_id=inside.pk)
    settle()
    trash(a, Asset.objects.get(pk=b.pk), inside)
    settle()
    seen = now_of(owner)
    assert seen.places == {"assets": Amount(3, 1), "trash": Amount(3, 2)}
    assert seen.folders == {str(owner.pk): Amount(3, 1)}
    restore(b)
    settle()
    assert now_of(owner).folders == {str(owner.pk): Amount(3, 1), inside.pk.hex: Amount(2, 1)}
    delete_assets([a.pk, b.pk, kept.pk])
    settle()
    assert now_of(owner) == Usage({}, {}, {}, {})


def test_usage_follows_moves_one_by_one_and_together(memory: Buckets, owner: User, settle: Callable[[], None]) -> None:
    first, second = make_folder(owner, "1"), make_folder(owner, "2")
    assets = [put(owner, str(number), b"x") for number in range(5)]
    change(assets[0], parent_id=first.pk)
    settle()
    change(assets[0], parent_id=second.pk)
    with write_section():
        Asset.objects.filter(pk__in=[asset.pk for asset in assets[1:]]).update(parent=first)
        usage.moved(assets[1:], first.pk)
    settle()
    assert now_of(owner).folders == {first.pk.hex: Amount(4, 4), second.pk.hex: Amount(1, 1)}
    change(assets[0], parent_id=None)
    assert now_of(owner).folders == {first.pk.hex: Amount(4, 4), str(owner.pk): Amount(1, 1)}
    assert folder_totals(owner.pk, [None, first.pk, second.pk]) == {
        None: Amount(1, 1), first.pk: Amount(4, 4), second.pk: Amount(),
    }  # fmt: skip


def test_usage_follows_expiry_whoever_ends_it(memory: Buckets, owner: User, stranger: User) -> None:
    for key in ("purged", "taken over"):
        put(owner, key, b"123", bucket="temp")
    Asset.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    put(stranger, "taken over", b"12", bucket="temp")
    assert now_of(owner).places == {"temp": Amount(3, 1)}
    purge(grace=timedelta(0))
    assert now_of(owner).places == {}
    assert now_of(stranger).places == {"temp": Amount(2, 1)}


def test_usage_of_an_upload_that_the_quota_refuses_stays(memory: Buckets, owner: User) -> None:
    put(owner, "a", b"12345")
    set_quota(owner.pk, 6)
    with pytest.raises(StorageFullError):
        put(owner, "b", b"12")
    assert now_of(owner).places == {"assets": Amount(5, 1)}


def test_upload_costs_one_insert_more_and_a_folder_none(memory: Buckets, owner: User) -> None:
    put(owner, "a", b"1")
    with statements() as seen:
        put(owner, "b", b"2")
    assert sum("usagedelta" in sql for sql in seen) == 1
    with statements() as seen:
        replaced = replace_content(Asset.objects.get(key="b"), io.BytesIO(b"3"))
    assert sum("usagedelta" in sql for sql in seen) == 0  # nothing that is counted changed
    with write_section(), statements() as seen:
        usage.trashed([replaced] * 1500)
    assert sum("usagedelta" in sql for sql in seen) == 1
    with write_section(), statements() as seen:
        usage.created(make_folder(owner, "f"))
    assert sum("usagedelta" in sql for sql in seen) == 0


def test_usage_is_one_statement_however_much_waits(memory: Buckets, owner: User) -> None:
    costs = []
    for start in (0, 1, 30):
        for number in range(start):
            put(owner, f"{start}-{number}", b"x")
        with statements() as seen:
            usage_of(owner.pk, now=timezone.now())
        costs.append(len([sql for sql in seen if "SELECT" in sql]))
    assert costs == [1, 1, 1]


def test_usage_shows_a_year_of_days_and_the_largest_folders(
    memory: Buckets, owner: User, monkeypatch: pytest.MonkeyPatch, settle: Callable[[], None]
) -> None:
    now = timezone.now()
    for number, age in enumerate((0, 365, 366)):
        asset = put(owner, str(number), b"x" * (number + 1))
        inside = make_folder(owner, "f")
        with write_section():
            after = copy.copy(asset)
            after.created_at, after.parent = now - age * DAY, inside
            Asset.objects.filter(pk=asset.pk).update(created_at=after.created_at, parent=inside)
            usage.changed(asset, after)
        settle()
    fold()
    seen = now_of(owner)
    assert set(seen.days) == {(now - age * DAY).date().isoformat() for age in (0, 365)}
    assert len(seen.folders) == 3
    monkeypatch.setattr(usage, "FOLDERS", 2)
    assert sorted(usage_of(owner.pk, now=now).folders.values(), key=lambda found: found.bytes) == [
        Amount(2, 1),
        Amount(3, 1),
    ]


def test_tree_total_adds_up_live_folders_below(memory: Buckets, owner: User, settle: Callable[[], None]) -> None:
    top = make_folder(owner, "top")
    inner, gone = make_folder(owner, "inner", top), make_folder(owner, "gone", top)
    deep = make_folder(owner, "deep", inner)
    for number, parent in enumerate((top, inner, deep, gone, None)):
        change(put(owner, str(number), b"x" * (10**number)), parent_id=parent and parent.pk)
        settle()
    Asset.objects.filter(pk=gone.pk).update(trashed_at=timezone.now())
    with statements() as seen:
        assert tree_total(owner.pk, top.pk) == Amount(111, 3)
    assert len([sql for sql in seen if "SELECT" in sql]) == 1
    assert tree_total(owner.pk, deep.pk) == Amount(100, 1)
    assert tree_total(owner.pk, new_id()) == Amount()


# --- folding ----------------------------------------------------------------------------------


def test_fold_leaves_nothing_waiting_and_no_empty_figure(memory: Buckets, owner: User) -> None:
    for number in range(7):
        put(owner, str(number), b"x")
    assert fold(batch=3) == 7
    assert not UsageDelta.objects.exists()
    assert UsageTotal.objects.count() == 4
    assert fold() == 0
    delete_assets(Asset.objects.values_list("pk", flat=True))
    assert fold() == 1  # seven files of one cell are one row
    assert not UsageTotal.objects.exists()


def test_folds_at_once_beside_uploads_count_everything_once(memory: Buckets, owner: User) -> None:
    def upload(start: int) -> Callable[[], None]:
        def run() -> None:
            for number in range(10):
                put(owner, f"{start}-{number}", b"x")

        return run

    def folding() -> None:
        for _ in range(10):
            fold(batch=2)

    for task in at_once(upload(1), upload(2), folding, folding):
        task.outcome()
    assert now_of(owner).places == {"assets": Amount(20, 20)}
    fold()
    assert now_of(owner).places == {"assets": Amount(20, 20)}


def test_fold_that_is_cut_changes_nothing(memory: Buckets, owner: User, monkeypatch: pytest.MonkeyPatch) -> None:
    put(owner, "a", b"x")
    real = usage_upkeep._add

    def cut(sums: Any) -> None:
        real(sums)
        raise KeyboardInterrupt

    monkeypatch.setattr(usage_upkeep, "_add", cut)
    with pytest.raises(KeyboardInterrupt):
        fold()
    assert (UsageDelta.objects.count(), UsageTotal.objects.count()) == (1, 0)


# --- counting anew ------------------------------------------------------------------------------


def test_recount_makes_the_figures_anew_and_tells_what_differed(memory: Buckets, owner: User) -> None:
    put(owner, "a", b"123", content_type="text/plain")
    fold()
    put(owner, "b", b"4", content_type="text/plain")
    assert recount(owner.pk) == []
    UsageTotal.objects.filter(dimension="group").update(bytes=7)
    UsageTotal.objects.create(owner=owner, dimension="folder", value="f" * 32, bytes=1, count=1)
    found = {(one.dimension, one.value): (one.stored, one.counted) for one in compare(owner.pk)}
    assert found == {
        ("group", "text"): (Amount(8, 2), Amount(4, 2)),
        ("folder", "f" * 32): (Amount(1, 1), Amount()),
    }
    assert len(recount(owner.pk)) == 2
    assert now_of(owner).groups == {"text": Amount(4, 2)}
    assert not UsageDelta.objects.exists()


def test_recount_beside_uploads_and_folds_loses_nothing(memory: Buckets, owner: User) -> None:
    def upload() -> None:
        for number in range(15):
            put(owner, str(number), b"x")

    def counting() -> None:
        for _ in range(5):
            recount(owner.pk)
            fold(batch=3)

    for task in at_once(upload, counting):
        task.outcome()
    assert now_of(owner).places == {"assets": Amount(15, 15)}


def test_recount_of_what_waits_behind_its_moment_stays(memory: Buckets, owner: User) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("nobody else writes meanwhile")
    put(owner, "a", b"x")
    fold()
    UsageTotal.objects.update(bytes=7)
    late = Background(lambda: put(owner, "b", b"y"))

    def upload() -> None:
        assert late.start().wait()

    with before_statement(4, upload) as seen:  # behind the isolation level and three readings
        recount(owner.pk)
    late.outcome()
    assert "DELETE" in seen[4]
    assert now_of(owner).places == {"assets": Amount(2, 2)}


def test_recount_usage_command_tells_what_it_mended(memory: Buckets, owner: User, stranger: User) -> None:
    put(owner, "a", b"123")
    fold()
    UsageTotal.objects.filter(dimension="place").update(bytes=5)

    def run(*arguments: str) -> str:
        out = StringIO()
        call_command("recount_usage", *arguments, stdout=out)
        return out.getvalue()

    expected = {
        "owner_id": owner.pk, "dimension": "place", "value": "assets",
        "stored": {"bytes": 5, "count": 1}, "counted": {"bytes": 3, "count": 1},
    }  # fmt: skip
    assert json.loads(run("--dry-run", "--json")) == [expected]
    assert run("stranger").strip() == "0 figures differed."
    told = run()
    assert "place assets: 5 bytes in 1 files -> 3 bytes in 1 files" in told
    assert run().strip() == "0 figures differed."
    with pytest.raises(CommandError, match="nobody"):
        run("nobody")
