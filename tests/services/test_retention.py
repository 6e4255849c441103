"""Rules that end assets of a folder, a workflow or a job: what they cover, and what they never take."""

from __future__ import annotations

import io
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.utils import timezone

from assets.models import Asset, RetentionMark, RetentionRule
from assets.services import AssetDetails, create_asset, delete_assets, purge
from assets.services import retention as retaining
from assets.services.folders import create_folder
from assets.services.retention import InvalidRetentionError, apply_rules, remove_rule, set_end, set_rule
from storagecache.errors import ObjectNotFoundError
from tests.integrity.conftest import in_memory

DAY = timedelta(days=1)


@pytest.fixture
def owner(transactional_db: None, settings: Any) -> User:
    settings.STORAGES = {**settings.STORAGES, **in_memory()}
    return User.objects.create_user("ann")


def make(owner: User, *, age: timedelta = timedelta(0), bucket: str = "assets", **details: Any) -> Asset:
    """Make a file that was created so long ago."""
    asset = create_asset(
        owner=owner, name="a.bin", content=io.BytesIO(b"x"), bucket=bucket, details=AssetDetails(**details)
    )
    Asset.objects.filter(pk=asset.pk).update(created_at=timezone.now() - age)
    return fresh(asset)


def fresh(asset: Asset) -> Asset:
    return Asset.objects.get(pk=asset.pk)


def folder(owner: User, name: str, parent: Asset | None = None) -> Asset:
    return create_folder(owner_id=owner.pk, name=name, parent=parent)


def move(asset: Asset, parent: Asset | None) -> None:
    Asset.objects.filter(pk=asset.pk).update(parent=parent)


def keep(owner: User, scope: str, value: str, days: int) -> RetentionRule:
    return set_rule(owner_id=owner.pk, scope=scope, value=value, keep=days * DAY)


def days_kept(asset: Asset) -> int | None:
    end = fresh(asset).expires_at
    return None if end is None else round((end - fresh(asset).created_at) / DAY)


@pytest.mark.parametrize(("scope", "field"), [("workflow", "workflow_id"), ("job", "job_id")])
def test_rule_ends_what_comes_of_its_workflow_or_job_and_nothing_else(owner: User, scope: str, field: str) -> None:
    chosen, other = make(owner, **{field: "w1"}), make(owner, **{field: "w2"})
    foreign = make(User.objects.create_user("bob"), **{field: "w1"})
    keep(owner, scope, "w1", 30)
    assert apply_rules(timezone.now()) == retaining.Applied(ended=1)
    assert [days_kept(asset) for asset in (chosen, other, foreign)] == [30, None, None]
    assert apply_rules(timezone.now()) == retaining.Applied()


def test_rule_of_a_folder_covers_all_below_it_and_the_nearest_one_counts(owner: User) -> None:
    top = folder(owner, "top")
    inner = folder(owner, "inner", top)
    deepest = folder(owner, "deepest", inner)
    files = [make(owner, parent=parent) for parent in (top, inner, deepest, None)]
    keep(owner, "folder", top.pk.hex, 30)
    keep(owner, "folder", inner.pk.hex, 7)
    apply_rules(timezone.now())
    assert [days_kept(file) for file in files] == [30, 7, 7, None]


def test_rules_job_goes_before_workflow_before_folder(owner: User) -> None:
    place = folder(owner, "place")
    files = [
        make(owner, parent=place, workflow_id="w", job_id="j"), make(owner, parent=place, workflow_id="w"),
        make(owner, parent=place),
    ]  # fmt: skip
    for days, (scope, value) in enumerate([("job", "j"), ("workflow", "w"), ("folder", place.pk.hex)], start=2):
        keep(owner, scope, value, days)
    apply_rules(timezone.now())
    assert [days_kept(file) for file in files] == [2, 3, 4]


def test_rule_never_shortens_what_it_meets_for_the_first_time_below_a_day(owner: User) -> None:
    old, place = make(owner, age=100 * DAY), folder(owner, "week")
    keep(owner, "folder", place.pk.hex, 7)
    move(old, place)
    now = timezone.now()
    purge()
    end = fresh(old).expires_at
    assert end is not None
    assert end >= now + DAY
    remove_rule(RetentionRule.objects.get().pk)
    purge()
    assert fresh(old).expires_at is None


def later(monkeypatch: pytest.MonkeyPatch, days: int) -> datetime:
    """Let the clock of services go on."""
    now = timezone.now() + days * DAY
    monkeypatch.setattr(timezone, "now", lambda: now)
    return now


def test_purge_ends_what_a_rule_ended(owner: User, monkeypatch: pytest.MonkeyPatch) -> None:
    gone, stays = make(owner, workflow_id="w"), make(owner)
    keep(owner, "workflow", "w", 3)
    purge()
    later(monkeypatch, 4)
    assert purge().expired == 1
    assert list(Asset.objects.values_list("pk", flat=True)) == [stays.pk]
    assert not Asset.objects.filter(pk=gone.pk).exists()
    purge()
    assert RetentionMark.objects.count() == 0


def test_asset_that_left_the_folder_is_free_even_past_its_end(owner: User, monkeypatch: pytest.MonkeyPatch) -> None:
    place = folder(owner, "week")
    asset = make(owner, parent=place)
    keep(owner, "folder", place.pk.hex, 7)
    purge()
    move(asset, None)
    later(monkeypatch, 30)
    assert purge().expired == 0
    assert fresh(asset).expires_at is None


@pytest.mark.parametrize("how", ["removed", "longer"])
def test_rule_taken_back_before_the_purge_saves_its_assets(
    owner: User, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    asset = make(owner, workflow_id="w")
    rule = keep(owner, "workflow", "w", 3)
    purge()
    later(monkeypatch, 5)
    if how == "removed":
        remove_rule(rule.pk)
    else:
        keep(owner, "workflow", "w", 90)
    assert purge().expired == 0
    assert days_kept(asset) == (None if how == "removed" else 90)


def test_end_of_its_own_is_no_rules_business(owner: User) -> None:
    own = make(owner, workflow_id="w", expires_at=timezone.now() + 2 * DAY)
    later_own, ever = make(owner, workflow_id="w"), make(owner, workflow_id="w")
    keep(owner, "workflow", "w", 30)
    apply_rules(timezone.now())
    set_end(later_own.pk, 400 * DAY)
    assert set_end(ever.pk, None) is None
    for _ in range(2):
        apply_rules(timezone.now())
        assert [days_kept(asset) for asset in (own, later_own, ever)] == [2, 400, None]
    remove_rule(RetentionRule.objects.get().pk)
    apply_rules(timezone.now())
    assert [days_kept(asset) for asset in (own, later_own, ever)] == [2, 400, None]


def test_rules_leave_temp_trash_and_folders_alone(owner: User) -> None:
    temp = make(owner, bucket="temp", workflow_id="w")
    trashed = make(owner, workflow_id="w")
    Asset.objects.filter(pk=trashed.pk).update(trashed_at=timezone.now(), trashed_root=trashed.pk)
    container = create_folder(owner_id=owner.pk, name="f", parent=None, workflow_id="w")
    end = temp.expires_at
    keep(owner, "workflow", "w", 30)
    apply_rules(timezone.now())
    assert (fresh(temp).expires_at, fresh(trashed).expires_at, fresh(container).expires_at) == (end, None, None)


def test_marks_of_deleted_assets_and_users_are_forgotten(owner: User) -> None:
    asset = make(owner, workflow_id="w")
    keep(owner, "workflow", "w", 30)
    apply_rules(timezone.now())
    delete_assets([asset.pk])
    apply_rules(timezone.now())
    assert RetentionMark.objects.count() == 0


def test_rules_of_many_assets_are_applied_in_pages(owner: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retaining, "_PAGE", 3)
    files = [make(owner, job_id="j") for _ in range(8)]
    rule = keep(owner, "job", "j", 30)
    assert apply_rules(timezone.now()).ended == 8
    keep(owner, "job", "j", 60)
    assert apply_rules(timezone.now()).ended == 8
    assert {days_kept(file) for file in files} == {60}
    remove_rule(rule.pk)
    assert apply_rules(timezone.now()).freed == 8
    assert {days_kept(file) for file in files} == {None}


@pytest.mark.parametrize(
    ("scope", "value", "days"),
    [("job", "j", 0), ("job", "", 30), ("job", "j" * 256, 30), ("moon", "x", 30), ("folder", "home", 30)],
)
def test_rule_that_cannot_be_kept_is_refused(owner: User, scope: str, value: str, days: int) -> None:
    with pytest.raises(InvalidRetentionError):
        keep(owner, scope, str(owner.pk) if value == "home" else value, days)
    assert not RetentionRule.objects.exists()


def test_rule_of_anothers_folder_is_refused(owner: User) -> None:
    place = folder(User.objects.create_user("bob"), "his")
    with pytest.raises(ObjectNotFoundError):
        keep(owner, "folder", place.pk.hex, 30)


def test_end_of_what_is_not_there_or_in_temp_is_refused(owner: User) -> None:
    with pytest.raises(ObjectNotFoundError):
        set_end(UUID(int=1), DAY)
    with pytest.raises(InvalidRetentionError):
        set_end(make(owner, bucket="temp").pk, DAY)


def run(*arguments: str) -> str:
    stream = io.StringIO()
    call_command("retention", *arguments, stdout=stream)
    return stream.getvalue()


def test_retention_command_sets_lists_and_removes(owner: User) -> None:
    asset = make(owner, workflow_id="w")
    assert "kept for 30 days" in run("set", "ann", "--workflow", "w", "--keep", "30d")
    rule = RetentionRule.objects.get()
    assert run("list") == f"{rule.pk}\tann\tworkflow\tw\t2592000\n"
    assert '"scope": "workflow"' in run("list", "--json")
    run("asset", asset.pk.hex, "--keep", "90d")
    assert days_kept(asset) == 90
    assert run("asset", asset.pk.hex, "--keep", "ever") == f"{asset.pk.hex} ends never.\n"
    run("remove", str(rule.pk))
    assert run("list") == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ("set", "ann", "--keep", "30d"), ("set", "ann", "--workflow", "w"),
        ("set", "ann", "--job", "j", "--keep", "soon"), ("remove", "7"), ("asset", "x", "--keep", "1d"),
        ("set", "nobody", "--job", "j", "--keep", "30d"), ("set", "ann", "--job", "j", "--keep", "1h"),
        ("set", "ann", "--job", "j", "--workflow", "w", "--keep", "30d"),
        ("set", "ann", "--folder", "x", "--keep", "30d"), ("set", "ann", "--job", "j", "--keep", "999999999d"),
    ],
    ids=lambda arguments: " ".join(arguments),
)  # fmt: skip
def test_retention_command_bad_argument_is_refused(owner: User, arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError):
        run(*arguments)
