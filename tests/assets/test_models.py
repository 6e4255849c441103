"""What the catalog's tables promise by themselves, on each engine."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, connection, models, transaction
from django.utils import timezone

from assets.ids import new_id
from assets.models import Asset, StoredObject, fold_name
from assets.services.purging import collectable
from assets.services.purging.limits import Limits
from tests.assets.conftest import Buckets, put, statements

KEYS = ["a", "B", "a/b", "a-b", "Z", "é", "e\u0301", "z", "\uffff", "\U0001f600", "aa", "A"]


def make_object(**fields: Any) -> StoredObject:
    now = timezone.now()
    defaults = {
        "storage": "assets", "bucket": "assets", "key": new_id().hex, "size": 1, "sha256": "0" * 64,
        "state_changed_at": now, "referenced_at": now, "created_at": now,
    }  # fmt: skip
    return StoredObject.objects.create(**{**defaults, **fields})


@pytest.mark.parametrize(
    ("one", "other"), [("straße", "STRASSE"), ("über", "ÜBER"), ("e\u0301", "É"), ("ﬁ", "FI"), ("İ", "i\u0307")]
)
def test_fold_name_of_names_that_differ_in_case_or_form_is_equal(one: str, other: str) -> None:
    assert fold_name(one) == fold_name(other)


@pytest.mark.django_db
def test_object_keys_sort_bytewise_as_a_listing_does() -> None:
    for key in KEYS:
        make_object(key=key)
    found = list(StoredObject.objects.order_by("key").values_list("key", flat=True))
    assert found == sorted(KEYS, key=lambda key: key.encode())


def test_asset_keys_sort_bytewise_and_never_alias(memory: Buckets, owner: User) -> None:
    for key in KEYS:
        put(owner, key, key.encode())
    found = list(Asset.objects.order_by("key").values_list("key", flat=True))
    assert found == sorted(KEYS, key=lambda key: key.encode())


@pytest.mark.django_db
def test_object_key_taken_in_its_bucket_is_refused() -> None:
    make_object(key="k")
    make_object(key="k", bucket="other")
    with pytest.raises(IntegrityError), transaction.atomic():
        make_object(key="k")


@pytest.mark.django_db
@pytest.mark.parametrize(
    "fields", [{"is_folder": True, "key": "k"}, {"is_folder": False, "key": "k"}, {"is_folder": False, "key": None}]
)
def test_asset_that_is_neither_file_nor_folder_is_refused(fields: dict[str, Any]) -> None:
    owner, now = User.objects.create_user("u"), timezone.now()
    with pytest.raises(IntegrityError), transaction.atomic():
        Asset.objects.create(owner=owner, name="n", created_at=now, updated_at=now, **fields)


def test_address_of_a_trashed_asset_is_free(memory: Buckets, owner: User) -> None:
    first = put(owner, "k", b"1")
    Asset.objects.filter(pk=first.pk).update(trashed_at=timezone.now())
    assert put(owner, "k", b"2").pk != first.pk


def test_unreferenced_asks_every_protecting_relation() -> None:
    """Each relation that protects an object counts as a reference, those of later models too."""
    protecting = [r for r in StoredObject._meta.related_objects if r.on_delete is models.PROTECT]
    sql = str(StoredObject.objects.unreferenced().query)
    assert protecting
    assert sql.count("NOT EXISTS") == len(protecting)
    others = {(r.related_model._meta.model_name, r.field.name) for r in StoredObject._meta.related_objects} - {
        (r.related_model._meta.model_name, r.field.name) for r in protecting
    }
    assert others == {("rendition", "source")}, "only what is made from an object goes with it and does not hold it"


@pytest.mark.django_db
@pytest.mark.skipif(connection.vendor != "sqlite", reason="the planner of PostgreSQL reads tables this small in order")
@pytest.mark.parametrize(
    ("name", "index"),
    [("abandoned_objects", "object_pending"), ("due_objects", "object_deleting"), ("expired_assets", "asset_expiry")],
)
def test_purge_finds_its_rows_by_a_partial_index(name: str, index: str) -> None:
    limits = Limits(now=timezone.now(), grace=timedelta(0), batch=10, limit=None)
    rows = getattr(collectable, name)(limits)
    order = ("expires_at", "pk") if name == "expired_assets" else ("pk",)
    keyset = rows if name == "expired_assets" else rows.filter(pk__gt=uuid.UUID(int=0))
    assert index in keyset.order_by(*order)[:10].explain()


@pytest.mark.skipif(connection.vendor != "sqlite", reason="the planner of PostgreSQL reads tables this small in order")
def test_find_twin_does_not_read_the_assets_of_the_owner(memory: Buckets, owner: User) -> None:
    with statements() as seen:
        put(owner, "k", b"1")
    (twin,) = [sql for sql in seen if '"sha256" = ' in sql and sql.startswith("SELECT")]
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN QUERY PLAN " + twin, ["x"] * twin.count("%s"))
        plan = "\n".join(str(row[3]) for row in cursor.fetchall())
    assert "object_digest" in plan
    assert "(object_id=?)" in plan
    assert "SCAN" not in plan
