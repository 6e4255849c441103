"""Bytes per user: exact, refused in time, refunded."""

from __future__ import annotations

import json
from datetime import timedelta
from io import BytesIO, StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.utils import timezone

from assets.models import Account, Asset, StoredObject
from assets.services import delete_assets, delete_at, find_asset_at, purge, put_content, replace_content
from assets.services.quota import recount, set_quota
from assets.staging import Expected
from storagecache.errors import (
    ObjectNotFoundError,
    ObjectTooLargeError,
    PreconditionFailedError,
    StorageError,
    StorageFullError,
)
from tests.assets.conftest import Background, Buckets, assert_whole, at_once, before_statement, put, read
from tests.assets.test_staging import Trickle
from tests.roles import ChangeEnvironment

ZERO = timedelta(0)


def used(user: User) -> int:
    """Give what the account says, held against the assets."""
    account = Account.objects.get(pk=user.pk)
    assert account.used_bytes == sum(asset.size or 0 for asset in Asset.objects.filter(owner=user))
    return account.used_bytes


def test_account_follows_create_replace_share_and_delete(memory: Buckets, owner: User, stranger: User) -> None:
    asset = put(owner, "a", b"12345")
    assert used(owner) == 5
    put(owner, "b", b"12345")  # the same object, counted again
    assert used(owner) == 10
    replace_content(asset, BytesIO(b"1"))
    assert used(owner) == 6
    put(owner, "t", b"123", bucket="temp")
    put(stranger, "s", b"12")
    assert (used(owner), used(stranger)) == (9, 2)
    delete_at(owner.pk, "assets", "a")
    delete_assets(Asset.objects.values_list("pk", flat=True))
    assert (used(owner), used(stranger)) == (0, 0)


def test_account_is_refunded_when_temp_expires(memory: Buckets, owner: User, stranger: User) -> None:
    for key in ("purged", "taken over"):
        put(owner, key, b"123", bucket="temp")
    Asset.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    put(stranger, "taken over", b"12", bucket="temp")
    assert (used(owner), used(stranger)) == (3, 2)
    purge(grace=ZERO)
    assert used(owner) == 0


def test_quota_refuses_one_byte_more_and_changes_nothing(buckets: Buckets, owner: User) -> None:
    set_quota(owner.pk, 10)
    asset = put(owner, "a", b"1234567890")
    with pytest.raises(StorageFullError, match=r"10 of 10 bytes are used, and this needs 1 more"):
        put(owner, "b", b"1")
    with pytest.raises(StorageFullError, match="needs 1 more"):
        replace_content(asset, BytesIO(b"12345678901"))
    assert used(owner) == 10
    replace_content(asset, BytesIO(b"0987654321"))  # the same size fits
    put(owner, "a", b"1")
    put(owner, "b", b"123456789")
    assert used(owner) == 10
    assert_whole()
    purge(grace=ZERO)
    purge(grace=ZERO)
    assert {str(stored) for stored in StoredObject.objects.all()} == buckets.keys()


def test_quota_by_default_holds_from_the_first_upload(
    memory: Buckets, owner: User, stranger: User, change_environment: ChangeEnvironment
) -> None:
    change_environment(user_quota_bytes=4)
    with pytest.raises(StorageFullError, match=r"0 of 4 bytes are used, and this needs 5 more"):
        put(owner, "a", b"12345")
    assert not Asset.objects.exists()
    set_quota(owner.pk, 5)
    put(owner, "a", b"12345")
    put(stranger, "b", b"1234")
    with pytest.raises(StorageFullError):
        put(stranger, "c", b"1")


def test_quota_that_was_lowered_keeps_what_is_there_and_lets_it_shrink(memory: Buckets, owner: User) -> None:
    put(owner, "a", b"12345")
    set_quota(owner.pk, 1)
    put(owner, "a", b"1234")
    with pytest.raises(StorageFullError):
        put(owner, "b", b"1")
    delete_at(owner.pk, "assets", "a")
    put(owner, "b", b"1")
    assert used(owner) == 1


def test_quota_refuses_an_announced_body_unread(memory: Buckets, owner: User) -> None:
    set_quota(owner.pk, 1 << 20)
    source = Trickle(b"x")
    with pytest.raises(StorageFullError, match="needs 2097152 more"):
        put_content(owner=owner, bucket="assets", key="a", content=source, expected=Expected(length=2 << 20))
    assert source.taken == 0


def test_no_quota_leaves_any_announced_length_to_the_bound_of_uploads(memory: Buckets, owner: User) -> None:
    put(owner, "k", b"1")
    with pytest.raises(ObjectTooLargeError):
        put_content(owner=owner, bucket="assets", key="n", content=BytesIO(b"1"), expected=Expected(length=10**20))


def test_quota_refuses_staged_bytes_before_the_bucket(memory: Buckets, owner: User) -> None:
    put(owner, "a", b"1" * 700_000)
    set_quota(owner.pk, 1_000_000)
    put(owner, "a", b"2" * 900_000)  # grows by 200,000 only
    with pytest.raises(StorageFullError):
        put(owner, "b", b"3" * 700_000)
    assert not StoredObject.objects.filter(state=StoredObject.State.PENDING).exists()


def test_quota_of_many_at_once_lets_in_exactly_what_fits(disk: Buckets, owner: User) -> None:
    set_quota(owner.pk, 30)
    tasks = at_once(*(lambda n=n: put(owner, str(n), bytes([n]) * 10) for n in range(6)))
    errors = [type(task.error) for task in tasks if task.error]
    assert errors == [StorageFullError] * 3
    assert used(owner) == 30


def test_quota_is_never_exceeded_whatever_step_the_other_writer_comes_at(memory: Buckets, owner: User) -> None:
    """Only one of two fits: the other one runs before each statement of the first, or waits there for its end."""
    number, done = 0, False
    while not done:
        for asset in Asset.objects.all():
            delete_at(owner.pk, "assets", asset.key or "")
        set_quota(owner.pk, 15)
        other = Background(lambda n=number: put(owner, f"other-{n}", b"2" * 10))
        refused = []
        with before_statement(number, lambda other=other: other.start().wait(0.05)) as seen:
            try:
                put(owner, f"first-{number}", b"1" * 10)
            except StorageFullError as error:
                refused.append(error)
        done = number >= len(seen)
        if done:
            other.start()
        assert other.wait()
        refused += [other.error] if other.error else []
        assert [type(error) for error in refused] == [StorageFullError]
        assert used(owner) == 10
        number += 1
    assert number > 3


def test_replaces_and_deletes_of_many_at_once_stay_inside_the_quota(disk: Buckets, owner: User) -> None:
    set_quota(owner.pk, 40)
    for key in range(4):
        put(owner, str(key), b"1" * 5)
    grown = [lambda n=n: put(owner, str(n % 4), bytes([n]) * 20) for n in range(8)]
    deleted = [lambda n=n: delete_at(owner.pk, "assets", str(n)) for n in range(2)]
    tasks = at_once(*grown, *deleted)
    errors = {type(task.error) for task in tasks if task.error}
    assert errors <= {StorageFullError, ObjectNotFoundError}
    assert used(owner) <= 40
    assert_whole()


@pytest.mark.parametrize("size", [11, 200_000], ids=["charged", "asked before"])
def test_replace_that_quota_refuses_leaves_bytes_and_account(buckets: Buckets, owner: User, size: int) -> None:
    old = b"1" * (size - 1)
    asset = put(owner, "a", old)
    set_quota(owner.pk, size - 1)
    for source in (lambda: replace_content(asset, BytesIO(b"2" * size)), lambda: put(owner, "a", b"3" * size)):
        with pytest.raises(StorageFullError):
            source()
    assert read(find_asset_at("assets", "a")) == old
    assert used(owner) == size - 1
    assert_whole()


def _refuse(current: Asset | None) -> None:
    raise PreconditionFailedError("It is another one.")


def test_replace_that_is_refused_for_another_reason_charges_nothing(
    buckets: Buckets, owner: User, stranger: User
) -> None:
    put(owner, "a", b"12345")
    put(stranger, "s", b"1")
    with pytest.raises(PreconditionFailedError):
        put(owner, "a", b"1234567", check=_refuse)
    with pytest.raises(StorageError):
        put(owner, "a", b"1234567", expected=Expected(length=8))
    with pytest.raises(StorageError):
        put(stranger, "a", b"1234567")
    assert (used(owner), used(stranger)) == (5, 1)
    assert_whole()


def test_account_opened_by_many_at_once_is_exact(disk: Buckets, owner: User) -> None:
    tasks = at_once(*(lambda n=n: put(owner, str(n), bytes([n]) * 10) for n in range(6)))
    assert [task.error for task in tasks] == [None] * 6
    assert used(owner) == 60


def test_account_of_assets_older_than_it_counts_them(memory: Buckets, owner: User) -> None:
    put(owner, "old", b"123")
    Account.objects.all().delete()
    put(owner, "new", b"12")
    assert used(owner) == 5


def test_recount_mends_a_wrong_account(memory: Buckets, owner: User) -> None:
    put(owner, "a", b"123")
    Account.objects.update(used_bytes=99)
    assert recount(owner.pk) == (99, 3)
    assert used(owner) == 3


def quota(*arguments: str) -> Any:
    """Run the command; gives what it printed."""
    out = StringIO()
    call_command("quota", *arguments, stdout=out)
    return out.getvalue()


def test_quota_command_sets_lists_and_recounts(memory: Buckets, owner: User) -> None:
    put(owner, "a", b"123")
    assert "no limit" in quota("list")
    quota("set", "owner", "1K")
    assert json.loads(quota("list", "--json")) == [{"user": "owner", "used_bytes": 3, "quota_bytes": 1024}]
    quota("set", "owner", "default")
    assert json.loads(quota("list", "--json"))[0]["quota_bytes"] is None
    assert quota("recount") == ""
    Account.objects.update(used_bytes=99)
    assert quota("recount") == "owner: 99 -> 3\n"


@pytest.mark.parametrize("arguments", [("set", "nobody", "1"), ("set", "owner", "-1"), ("set", "owner", "much")])
def test_quota_command_refuses_what_it_cannot_set(memory: Buckets, owner: User, arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError):
        quota(*arguments)
