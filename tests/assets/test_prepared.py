"""Statements that are written once do what the ORM's own do, on each engine."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, connection, transaction
from django.db.models import F, Model, Q
from django.db.models.sql.compiler import SQLCompiler
from django.utils import timezone

from assets.ids import new_id
from assets.models import Account, Asset, StoredObject
from assets.prepared import Change, Given, Insertion, Selection
from tests.assets.conftest import statements

MOMENT = datetime(2026, 2, 3, 4, 5, 6, 789012, tzinfo=UTC)
AT = Selection(lambda: Asset.objects.at(Given(Asset, "bucket"), Given(Asset, "key")))


def new_object() -> StoredObject:
    return StoredObject(
        id=new_id(), storage="assets", bucket="assets", key=new_id().hex, size=2**40, sha256="0" * 64,
        state_changed_at=MOMENT, referenced_at=MOMENT, created_at=MOMENT, duration=0.1,
    )  # fmt: skip


def new_asset(owner: User, **fields: Any) -> Asset:
    stored = new_object()
    stored.save()
    defaults = {
        "owner": owner, "key": new_id().hex, "object": stored, "name": "a", "name_folded": "a", "size": 3,
        "created_at": MOMENT, "updated_at": MOMENT,
    }  # fmt: skip
    return Asset(id=new_id(), **{**defaults, **fields})


def values(row: Model) -> dict[str, object]:
    """Give every column of a row as the instance has it, deferred ones not."""
    assert not row.get_deferred_fields()
    return {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"key": "100%s 'x' \"y\" %(a)s ? é\U0001f600", "name": "%", "name_folded": "%"},
        {"metadata": {"a": [1, None, "é"], "b": {"%s": 1.5}}, "tags": ["x", "%s"], "is_public": True},
        {"expires_at": MOMENT + timedelta(days=1), "duration": 1.5, "width": 2**31 - 1, "revision": 2**40},
    ],
)
def test_row_is_inserted_and_found_as_the_orm_does(owner: User, fields: dict[str, Any]) -> None:
    asset = new_asset(owner, **fields)
    with statements() as seen:
        Insertion(Asset).run(asset)
    assert len(seen) == 1
    by_orm = Asset.objects.get(pk=asset.pk)
    assert values(asset) == values(by_orm)  # generated ones too
    with statements() as seen:
        found = AT.first(bucket=asset.bucket, key=asset.key)
    assert len(seen) == 1
    assert found is not None
    assert values(found) == values(by_orm)
    found.name = "b"
    found.save(update_fields=["name"])
    asset.delete()
    assert AT.first(bucket=asset.bucket, key=asset.key) is None


def test_inserted_folder_has_its_own_place(owner: User) -> None:
    folder = new_asset(owner, is_folder=True, key=None, object=None, size=None)
    Insertion(Asset).run(folder)
    inner = new_asset(owner, parent=folder)
    Insertion(Asset).run(inner)
    assert (inner.folder, inner.name_key, inner.parent) == (folder.pk, "a", folder)
    assert Asset.objects.get(folder=folder.pk) == inner


def test_what_constraints_refuse_is_refused(owner: User) -> None:
    first = new_asset(owner)
    Insertion(Asset).run(first)
    for wrong in (new_asset(owner, key=first.key), new_asset(owner, object=None), first):
        with pytest.raises(IntegrityError), transaction.atomic():
            Insertion(Asset).run(wrong)
    assert Asset.objects.count() == 1


@pytest.mark.django_db
def test_insertion_writes_what_a_signal_free_save_does() -> None:
    one, other = new_object(), new_object()
    Insertion(StoredObject).run(one)
    other.save(force_insert=True)
    differing = {"id", "key"}
    assert {
        name: value for name, value in values(StoredObject.objects.get(pk=one.pk)).items() if name not in differing
    } == {name: value for name, value in values(StoredObject.objects.get(pk=other.pk)).items() if name not in differing}
    one.preview = "due"
    one.save()
    assert StoredObject.objects.get(pk=one.pk).preview == "due"


@pytest.mark.django_db
def test_change_tells_how_many_rows_it_changed() -> None:
    change = Change(
        lambda: StoredObject.objects.filter(id=Given(StoredObject, "id"), state=StoredObject.State.PENDING),
        lambda: {"referenced_at": Given(StoredObject, "referenced_at", "now"), "state": StoredObject.State.READY},
    )
    one, other, now = new_object(), new_object(), timezone.now()
    for stored in (one, other):
        stored.save()
    with statements() as seen:
        assert change.run(id=one.pk, now=now) == 1
    assert len(seen) == 1
    assert change.run(id=one.pk, now=now) == 0
    assert change.run(id=uuid.uuid4(), now=now) == 0
    one.refresh_from_db()
    assert (one.state, one.referenced_at) == ("ready", now)
    other.refresh_from_db()
    assert (other.state, other.referenced_at) == ("pending", MOMENT)


def test_change_reckons_with_columns(owner: User) -> None:
    Account.objects.create(user=owner, used_bytes=5)
    most, change = Given(Account, "used_bytes", "most"), Given(Account, "used_bytes", "change")
    add = Change(
        lambda: Account.objects.filter(Q(quota_bytes=None, used_bytes__lte=most), pk=Given(Account, "user")),
        lambda: {"used_bytes": F("used_bytes") + change},
    )
    assert [add.run(user=owner.pk, most=most, change=7) for most in (4, 5, 5, 2**63 - 1)] == [0, 1, 0, 1]
    assert Account.objects.get(user=owner).used_bytes == 19


def test_statement_is_written_once(owner: User, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    written = SQLCompiler.as_sql

    def counted(self: SQLCompiler, *args: Any, **kwargs: Any) -> Any:
        made.append(self)
        return written(self, *args, **kwargs)

    monkeypatch.setattr(SQLCompiler, "as_sql", counted)
    find = Selection(lambda: User.objects.filter(username=Given(User, "username")))
    assert [find.first(username=name) for name in (owner.username, "nobody", owner.username)] == [owner, None, owner]
    assert len(made) == 1


def test_what_is_joined_comes_with_its_row(owner: User) -> None:
    asset = new_asset(owner, parent=None)
    asset.save()
    joined = ("object", "owner", "parent")
    find = Selection(lambda: Asset.objects.select_related(*joined).filter(id=Given(Asset, "id")))
    with statements() as seen:
        found = find.first(id=asset.pk)
        assert found is not None
        assert values(found) == values(asset)
        assert found.object is not None
        assert values(found.object) == values(StoredObject.objects.get(pk=asset.object_id))
        assert (found.owner, found.parent) == (owner, None)
        assert found.owner.username == owner.username
    assert len(seen) == 2  # one of them the test's own


def test_name_that_is_missing_is_an_error(owner: User) -> None:
    with pytest.raises(KeyError, match="key"):
        AT.first(bucket="assets")


@pytest.mark.django_db
def test_row_is_locked_where_the_engine_locks_rows() -> None:
    locked = Selection(lambda: StoredObject.objects.filter(id=Given(StoredObject, "id")).select_for_update())
    stored = new_object()
    stored.save()
    with transaction.atomic(), statements() as seen:
        assert locked.first(id=stored.pk) == stored
    assert ("FOR UPDATE" in seen[0]) == connection.features.has_select_for_update
