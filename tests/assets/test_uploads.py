"""Create and replace: what is visible, what it costs, and what is refused."""

from __future__ import annotations

import hashlib
import io
import itertools
import os
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.storage import storages
from django.db import connection, transaction
from django.utils import timezone

from assets.models import Asset, Derivation, StoredObject
from assets.services import (
    AssetDetails,
    create_asset,
    delete_assets,
    delete_at,
    find_asset_at,
    purge,
    put_content,
    replace_content,
)
from assets.services.sections import write_section
from assets.staging import Expected
from storagecache.environment import Environment
from storagecache.errors import (
    BackendUnavailableError,
    DigestMismatchError,
    InvalidKeyError,
    ObjectExistsError,
    ObjectNotFoundError,
    ObjectTooLargeError,
    PreconditionFailedError,
)
from tests.assets.conftest import Buckets, assert_equal_sides, assert_whole, put, read, statements
from tests.assets.test_staging import Trickle

ZERO = timedelta(0)


def trips(seen: list[str]) -> list[str]:
    """Name the statements that go to the tables: BEGIN and the like cost nothing worth a count."""
    return [sql.split()[0] for sql in seen if sql.split()[0] in {"SELECT", "INSERT", "UPDATE", "DELETE"}]


def must_be_absent(current: Asset | None) -> None:
    if current is not None:
        raise PreconditionFailedError("It is there.")


@pytest.mark.parametrize("data", [b"", b"x", os.urandom(200_000)], ids=["0", "1", "200k"])
def test_put_content_creates_then_replaces_what_readers_see(buckets: Buckets, owner: User, data: bytes) -> None:
    asset = put(owner, "a/b.bin", b"old")
    again = put(owner, "a/b.bin", data)
    assert (again.pk, again.revision, again.name) == (asset.pk, 2, "b.bin")
    found = find_asset_at("assets", "a/b.bin")
    assert (read(found), found.size) == (data, len(data))
    assert found.object is not None
    assert found.object.etag == f'"{hashlib.sha256(data).hexdigest()}"'
    assert_whole()
    purge(grace=ZERO)
    assert_equal_sides(buckets)


def test_put_content_costs_a_constant_number_of_statements(memory: Buckets, owner: User) -> None:
    for key in ("other", "more"):
        put(owner, key, key.encode())
    with statements() as create:
        created = put(owner, "k", b"1")
    with statements() as replace:
        put(owner, "k", b"2")
    with statements() as dedupe:
        put(owner, "twin", b"2")
    with statements() as same:
        put(owner, "k", b"2")
    # Early check (two where something is there), twin; the pending row; then the switch: usage is noted by one INSERT,
    # and the owner's account is charged last. A replacement of the same type and size changes no figure. SQLite keeps
    # names apart.
    made = ["INSERT"] * (3 if connection.vendor == "sqlite" else 2)
    assert trips(create) == ["SELECT"] * 2 + ["INSERT"] + ["SELECT", "UPDATE", *made, "UPDATE"]
    assert trips(replace) == ["SELECT"] * 3 + ["INSERT"] + ["SELECT"] * 2 + ["UPDATE"] * 3
    assert trips(dedupe) == ["SELECT"] * 2 + ["SELECT", "UPDATE", *made, "UPDATE"]
    assert trips(same) == ["SELECT"] * 3 + ["SELECT"] * 2 + ["UPDATE"] * 2
    with statements() as seen:
        assert created.object is not None
        assert created.object.etag
    assert seen == []


def test_find_asset_at_costs_one_statement(memory: Buckets, owner: User) -> None:
    put(owner, "k", b"1")
    with statements() as seen:
        found = find_asset_at("assets", "k")
        assert found.object is not None
        assert found.object.etag
    assert trips(seen) == ["SELECT"]


def test_put_content_of_known_bytes_shares_the_object(buckets: Buckets, owner: User, stranger: User) -> None:
    one, two = put(owner, "one", b"same"), put(owner, "two", b"same")
    foreign, temp = put(stranger, "three", b"same"), put(owner, "one", b"same", bucket="temp")
    assert one.object_id == two.object_id
    assert len({one.object_id, foreign.object_id, temp.object_id}) == 3
    assert put(owner, "four", b"same", bucket="temp").object_id != temp.object_id
    assert len(buckets.keys()) == 4
    assert_whole()


def test_put_content_of_a_twin_whose_bytes_are_lost_stores_anew(buckets: Buckets, owner: User) -> None:
    lost = put(owner, "lost", b"same")
    assert lost.object is not None
    storages["assets"].delete(lost.object.key)
    assert read(put(owner, "new", b"same")) == b"same"


def test_put_content_refused_by_a_condition_reads_no_byte(memory: Buckets, owner: User) -> None:
    put(owner, "k", b"1")
    source = Trickle(b"new")
    with pytest.raises(PreconditionFailedError):
        put_content(owner=owner, bucket="assets", key="k", content=source, check=must_be_absent)
    assert source.taken == 0
    assert read(find_asset_at("assets", "k")) == b"1"


def test_put_content_at_a_foreign_key_is_refused_unread(memory: Buckets, owner: User, stranger: User) -> None:
    put(owner, "k", b"1")
    source = Trickle(b"new")
    with pytest.raises(ObjectExistsError, match="This key is taken"):
        put_content(owner=stranger, bucket="assets", key="k", content=source)
    assert source.taken == 0


@pytest.mark.parametrize("key", ["", "/a", "a//b", "../a", "a\0b", "x" * 1025, "\udcff"])
def test_put_content_at_an_illegal_key_is_refused(memory: Buckets, owner: User, key: str) -> None:
    with pytest.raises(InvalidKeyError):
        put(owner, key, b"1")
    with pytest.raises(InvalidKeyError):
        create_asset(owner=owner, name="n", content=io.BytesIO(b"1"), key=key)
    assert not StoredObject.objects.exists()


def test_content_changed_at_moves_by_a_second_with_each_switch(memory: Buckets, owner: User) -> None:
    times = [put(owner, "k", bytes([i])).content_changed_at for i in range(4)]
    assert all(later - earlier >= timedelta(seconds=1) for earlier, later in itertools.pairwise(times))  # type: ignore[operator]


@pytest.mark.parametrize(
    ("failing", "error"),
    [
        ({"content": Trickle(b"new" * 99, until=30, error=ConnectionResetError())}, ConnectionResetError),
        ({"content": io.BytesIO(b"new"), "expected": Expected(length=4)}, DigestMismatchError),
        ({"content": io.BytesIO(b"new"), "expected": Expected(sha256=bytes(32))}, DigestMismatchError),
        ({"content": io.BytesIO(b"new"), "expected": Expected(length=6 << 30)}, ObjectTooLargeError),
    ],
    ids=["source", "length", "digest", "limit"],
)
def test_put_content_that_fails_while_staging_changes_nothing(
    buckets: Buckets, owner: User, failing: dict[str, Any], error: type[Exception]
) -> None:
    put(owner, "k", b"old")
    before = buckets.keys()
    for key in ("k", "absent"):
        with pytest.raises(error):
            put_content(owner=owner, bucket="assets", key=key, **failing)
    assert read(find_asset_at("assets", "k")) == b"old"
    assert (buckets.keys(), Asset.objects.count(), StoredObject.objects.count()) == (before, 1, 1)
    assert_equal_sides(buckets)


def test_create_asset_without_a_key_is_named_by_its_id(memory: Buckets, owner: User) -> None:
    png = b"\x89PNG\r\n\x1a\n" + bytes(30)
    asset = create_asset(owner=owner, name="Über.png", content=io.BytesIO(png), content_type="image/png")
    assert (asset.key, asset.name_folded) == (f"{asset.pk.hex}.png", "über.png")
    assert read(find_asset_at("assets", asset.key or "")) == png


def test_create_asset_at_a_taken_key_is_refused_unread(memory: Buckets, owner: User) -> None:
    put(owner, "k", b"old")
    source = Trickle(b"new")
    with pytest.raises(ObjectExistsError):
        create_asset(owner=owner, name="n", content=source, key="k")
    assert source.taken == 0


def test_create_asset_records_the_sources_that_are_there(memory: Buckets, owner: User, stranger: User) -> None:
    mine, gone, foreign = put(owner, "1", b"1"), put(owner, "2", b"2"), put(stranger, "3", b"3")
    delete_assets([gone.pk])
    details = AssetDetails(job_id="j", node_id="n", sources=(mine.pk, gone.pk, foreign.pk, mine.pk))
    made = create_asset(owner=owner, name="out", content=io.BytesIO(b"4"), details=details)
    links = Derivation.objects.filter(asset=made)
    assert [(link.source_id, link.job_id, link.node_id) for link in links] == [(mine.pk, "j", "n")]


def test_create_asset_in_a_folder_that_went_away_is_refused(memory: Buckets, owner: User) -> None:
    now = timezone.now()
    folder = Asset.objects.create(owner=owner, name="f", is_folder=True, created_at=now, updated_at=now)
    made = create_asset(owner=owner, name="in", content=io.BytesIO(b"1"), details=AssetDetails(parent=folder))
    assert made.parent == folder
    delete_assets([made.pk])
    Asset.objects.filter(pk=folder.pk).delete()
    with pytest.raises(ObjectNotFoundError):
        create_asset(owner=owner, name="in", content=io.BytesIO(b"2"), details=AssetDetails(parent=folder))


def test_replace_content_keeps_the_address_and_judges_the_type(memory: Buckets, owner: User) -> None:
    png = b"\x89PNG\r\n\x1a\n" + bytes(30)
    asset = put(owner, "k.png", png)
    replaced = replace_content(asset, io.BytesIO(b"<html>"))
    assert (replaced.pk, replaced.content_type, read(replaced)) == (asset.pk, "application/octet-stream", b"<html>")


def test_replace_content_of_a_deleted_asset_is_refused(memory: Buckets, owner: User) -> None:
    asset = put(owner, "k", b"1")
    delete_at(owner.pk, "assets", "k")
    put(owner, "k", b"other")
    with pytest.raises(ObjectNotFoundError):
        replace_content(asset, io.BytesIO(b"2"))
    assert read(find_asset_at("assets", "k")) == b"other"


def test_replace_content_refused_by_a_condition_reads_no_byte(memory: Buckets, owner: User) -> None:
    asset, source = put(owner, "k", b"1"), Trickle(b"new")
    with pytest.raises(PreconditionFailedError):
        replace_content(asset, source, check=must_be_absent)
    assert source.taken == 0


@pytest.mark.parametrize(("asked", "lived"), [(None, None), (60, 60), (10**9, None), (0, 0)])
def test_temp_assets_end_within_temp_ttl(memory: Buckets, owner: User, asked: int | None, lived: int | None) -> None:
    before = timezone.now()
    expires_at = put(owner, "k", b"1", bucket="temp", expires_in=asked).expires_at
    longest = Environment.current().temp_ttl
    assert expires_at is not None
    wanted = before + timedelta(seconds=longest if lived is None else lived)
    assert wanted <= expires_at <= wanted + timedelta(seconds=60)


def test_temp_assets_made_with_a_later_end_end_with_temp_ttl(memory: Buckets, owner: User) -> None:
    never = AssetDetails(expires_at=timezone.now() + timedelta(days=9999))
    asset = create_asset(owner=owner, name="n", content=io.BytesIO(b"1"), bucket="temp", details=never)
    assert asset.expires_at is not None
    assert asset.expires_at <= timezone.now() + timedelta(seconds=Environment.current().temp_ttl)


def test_assets_do_not_end_unless_asked(memory: Buckets, owner: User) -> None:
    assert put(owner, "k", b"1", expires_in=5).expires_at is None


def test_expired_key_belongs_to_nobody(buckets: Buckets, owner: User, stranger: User) -> None:
    old = put(owner, "k", b"old", bucket="temp", expires_in=0)
    with pytest.raises(ObjectNotFoundError):
        find_asset_at("temp", "k")
    with pytest.raises(ObjectNotFoundError):
        delete_at(owner.pk, "temp", "k")
    new = put(stranger, "k", b"new", bucket="temp", check=must_be_absent)
    assert (new.pk != old.pk, new.owner_id) == (True, stranger.pk)
    assert read(find_asset_at("temp", "k")) == b"new"
    purge(grace=ZERO)
    assert_equal_sides(buckets)
    assert read(find_asset_at("temp", "k")) == b"new"


def test_upload_collected_meanwhile_fails_and_leaves_nothing(buckets: Buckets, owner: User) -> None:
    put(owner, "k", b"old")
    with statements() as seen, pytest.raises(BackendUnavailableError, match="given up"):
        # The second look at the condition comes when the bytes are stored and the row is still pending.
        put(owner, "k", b"new", check=lambda current: _purge_after("INSERT", seen))
    assert read(find_asset_at("assets", "k")) == b"old"
    purge(grace=ZERO)
    assert_equal_sides(buckets)


def _purge_after(word: str, seen: list[str]) -> None:
    if word in trips(seen):
        StoredObject.objects.filter(state="pending").update(state="deleting")


def test_write_section_inside_a_transaction_is_refused(owner: User) -> None:
    with transaction.atomic(), pytest.raises(RuntimeError), write_section():
        pytest.fail("entered")
