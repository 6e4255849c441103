"""Delete: rows go, references drop, buckets stay as they are."""

from __future__ import annotations

import uuid

import pytest
from django.contrib.auth.models import User
from django.db import connection

from assets.models import Asset, Derivation, StoredObject
from assets.services import delete_assets, delete_at, find_asset_at
from storagecache.errors import ObjectNotFoundError, PreconditionFailedError
from tests.assets.conftest import Buckets, put, statements
from tests.assets.test_uploads import trips


def refuse(current: Asset | None) -> None:
    assert current is not None
    assert current.object is not None
    raise PreconditionFailedError("No.")


def test_delete_at_removes_the_row_and_leaves_the_bytes(buckets: Buckets, owner: User) -> None:
    asset = put(owner, "k", b"1")
    before = buckets.keys()
    delete_at(owner.pk, "assets", "k")
    with pytest.raises(ObjectNotFoundError):
        find_asset_at("assets", "k")
    assert buckets.keys() == before
    assert StoredObject.objects.get(pk=asset.object_id).state == StoredObject.State.READY


def test_delete_at_drops_the_reference_now(memory: Buckets, owner: User) -> None:
    taken = put(owner, "k", b"1").object
    assert taken is not None
    delete_at(owner.pk, "assets", "k")
    assert StoredObject.objects.get(pk=taken.pk).referenced_at > taken.referenced_at


@pytest.mark.parametrize(("bucket", "key"), [("assets", "absent"), ("temp", "k"), ("assets", "K")])
def test_delete_at_of_an_absent_key_is_not_found(memory: Buckets, owner: User, bucket: str, key: str) -> None:
    put(owner, "k", b"1")
    with pytest.raises(ObjectNotFoundError):
        delete_at(owner.pk, bucket, key)


def test_delete_at_of_a_foreign_key_is_not_found(memory: Buckets, owner: User, stranger: User) -> None:
    put(owner, "k", b"1")
    with pytest.raises(ObjectNotFoundError):
        delete_at(stranger.pk, "assets", "k", check=refuse)
    assert find_asset_at("assets", "k")


def test_delete_at_refused_by_a_condition_changes_nothing(memory: Buckets, owner: User) -> None:
    put(owner, "k", b"1")
    with pytest.raises(PreconditionFailedError):
        delete_at(owner.pk, "assets", "k", check=refuse)
    assert find_asset_at("assets", "k")


def test_delete_assets_takes_files_of_the_owner_only(memory: Buckets, owner: User, stranger: User) -> None:
    mine, foreign = put(owner, "1", b"1"), put(stranger, "2", b"2")
    ids = [mine.pk, foreign.pk, uuid.uuid4(), mine.pk]
    assert delete_assets(ids, owner_id=owner.pk) == [mine.pk]
    assert delete_assets(ids) == [foreign.pk]
    assert delete_assets([]) == []
    assert not Asset.objects.exists()


def test_delete_assets_takes_their_derivations_along(memory: Buckets, owner: User) -> None:
    one, two = put(owner, "1", b"1"), put(owner, "2", b"2")
    Derivation.objects.create(asset=two, source=one)
    delete_assets([one.pk])
    assert not Derivation.objects.exists()
    assert find_asset_at("assets", "2")


def test_delete_costs_a_constant_number_of_statements(memory: Buckets, owner: User) -> None:
    for number in range(12):
        put(owner, str(number), bytes([number]))
    with statements() as one:
        delete_at(owner.pk, "assets", "0")
    with statements() as few:
        delete_assets(Asset.objects.filter(key__in=["1", "2"]).values_list("pk", flat=True))
    with statements() as many:
        delete_assets(Asset.objects.exclude(key="3").values_list("pk", flat=True))
    assert len(trips(few)) == len(trips(many))
    assert trips(one)[:2] == ["SELECT", "SELECT"]
    assert trips(one)[-1] == "UPDATE"
    # Derivations and attributes go by themselves (three relations); children are asked for; usage is noted; SQLite
    # keeps names apart.
    assert len(trips(one)) <= 11, connection.vendor
