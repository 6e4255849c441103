"""Trees that go and come back: batches, kills in the middle, others at work in them, and the trash that empties."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone

from assets.ids import new_id
from assets.models import Account, Asset, StoredObject, fold_name
from assets.services import purge
from assets.services.folders import breadcrumbs, create_folder
from assets.services.records import RecordChange, change_record
from assets.services.trash import BATCH, delete_tree, empty_trash, restore, resume_deletions, trash_tree
from storagecache.environment import Environment
from storagecache.errors import BackendUnavailableError, ObjectExistsError, ObjectNotFoundError
from tests.assets.conftest import Background, Buckets, put, statements

Ways = [pytest.param(trash_tree, id="trash"), pytest.param(delete_tree, id="for good")]
Way = Callable[[int, UUID], Iterator[list[UUID]]]


def folder(owner: User, name: str, parent: Asset | None = None) -> Asset:
    return create_folder(owner_id=owner.pk, name=name, parent=parent)


def rows(owner: User, count: int, parent_of: Callable[[int], UUID | None]) -> list[UUID]:
    """Make many folders at once; `parent_of` gets each one's number and may look at the ids made before."""
    now = timezone.now()
    made = [new_id() for _ in range(count)]
    found = [
        Asset(
            id=made[number], owner=owner, name=str(number), name_folded=fold_name(str(number)), is_folder=True,
            parent_id=parent_of(number), content_type="folder", created_at=now, updated_at=now,
        )
        for number in range(count)
    ]  # fmt: skip
    Asset.objects.bulk_create(found, batch_size=2000)
    return made


def wide(owner: User, count: int) -> tuple[Asset, list[UUID]]:
    """Make a folder with `count` folders in it."""
    top = folder(owner, "top")
    return top, rows(owner, count, lambda number: top.pk)


def chain(owner: User, count: int) -> tuple[Asset, list[UUID]]:
    """Make folders each in the one before."""
    top = folder(owner, "top")
    made: list[UUID] = []
    now = timezone.now()
    last = top.pk
    for number in range(count):
        asset_id = new_id()
        made.append(asset_id)
        last, parent = asset_id, last
        Asset.objects.create(
            id=asset_id, owner=owner, name=str(number), name_folded=str(number), is_folder=True, parent_id=parent,
            content_type="folder", created_at=now, updated_at=now,
        )  # fmt: skip
    return top, made


def live() -> set[UUID]:
    return set(Asset.objects.filter(trashed_at=None).values_list("pk", flat=True))


def take(batches: Iterator[list[UUID]]) -> list[UUID]:
    return [found for batch in batches for found in batch]


def assert_no_live_in_trashed() -> None:
    assert not Asset.objects.filter(trashed_at=None, parent__trashed_at__isnull=False).exists()


@pytest.mark.parametrize("delete", Ways)
@pytest.mark.parametrize("shape", [wide, chain])
def test_tree_of_several_batches_goes_children_first(owner: User, delete: Way, shape: Any) -> None:
    top, made = shape(owner, BATCH + 50)
    beside = folder(owner, "beside")
    ids = take(delete(owner.pk, top.pk))
    assert len(ids) == len(set(ids)) == BATCH + 51
    assert ids[-1] == top.pk
    assert live() == {beside.pk}
    if shape is chain:
        assert ids == [*reversed(made), top.pk]


def test_restore_brings_several_batches_back_folders_first(owner: User) -> None:
    top, made = chain(owner, BATCH + 50)
    alone = folder(owner, "alone", top)
    take(trash_tree(owner.pk, alone.pk))
    take(trash_tree(owner.pk, top.pk))
    restore(owner.pk, top.pk)
    assert live() == {top.pk, *made}
    assert not Asset.objects.exclude(pk=alone.pk).filter(trashed_root__isnull=False).exists()
    assert len(breadcrumbs(Asset.objects.get(pk=made[-1]))) == BATCH + 50


@pytest.mark.parametrize("delete", Ways)
def test_deletion_cut_off_leaves_no_live_asset_in_a_trashed_folder(owner: User, delete: Way) -> None:
    top, _ = wide(owner, BATCH + 50)
    with closing(cast("Any", delete(owner.pk, top.pk))) as batches:
        assert len(next(batches)) == BATCH
    assert top.pk in live()
    assert_no_live_in_trashed()
    assert take(delete(owner.pk, top.pk))[-1] == top.pk
    assert live() == set()


def test_deletion_cut_off_is_carried_on_by_purge(owner: User, disk: Buckets) -> None:
    top, made = wide(owner, BATCH + 50)
    next(trash_tree(owner.pk, top.pk))
    assert resume_deletions(timezone.now() - timedelta(hours=1)) == 0  # it may be at work
    purge(grace=timedelta(0))
    assert live() == set()
    restore(owner.pk, top.pk)
    assert live() == {top.pk, *made}


def test_deletion_cut_off_is_undone_by_restore(owner: User) -> None:
    top, made = wide(owner, BATCH + 50)
    batches = trash_tree(owner.pk, top.pk)
    next(batches)
    restore(owner.pk, top.pk)
    assert take(batches) == []  # called off
    assert live() == {top.pk, *made}
    assert purge(grace=timedelta(0)).expired == 0
    assert live() == {top.pk, *made}


def test_restore_cut_off_goes_on_at_the_next_one(owner: User) -> None:
    top, made = wide(owner, BATCH + 50)
    take(trash_tree(owner.pk, top.pk))
    now = timezone.now()
    Asset.objects.filter(pk__in=[top.pk, *made[:7]]).update(trashed_at=None, trashed_root=None, updated_at=now)
    restore(owner.pk, top.pk)
    assert live() == {top.pk, *made}


def test_what_is_put_into_a_tree_that_goes_goes_too(owner: User, disk: Buckets) -> None:
    top = folder(owner, "top")
    sub = folder(owner, "sub", top)
    rows(owner, BATCH, lambda number: top.pk)
    batches = trash_tree(owner.pk, top.pk)
    next(batches)
    added = folder(owner, "added", sub)
    ids = take(batches)
    assert added.pk in ids
    assert ids[-1] == top.pk
    assert live() == set()


def test_tree_that_goes_takes_nothing_new_at_its_root(owner: User, disk: Buckets) -> None:
    top = folder(owner, "top")
    rows(owner, BATCH, lambda number: top.pk)
    next(trash_tree(owner.pk, top.pk))
    with pytest.raises(ObjectNotFoundError, match="being deleted"):
        folder(owner, "new", top)


def test_nothing_moves_out_of_or_into_a_tree_that_goes(owner: User, disk: Buckets) -> None:
    top, beside = folder(owner, "top"), folder(owner, "beside")
    sub = folder(owner, "sub", top)
    deep = folder(owner, "deep", sub)
    trash_tree(owner.pk, top.pk)
    for moved, target in ((deep, str(owner.pk)), (sub, beside.pk.hex), (beside, sub.pk.hex)):
        with pytest.raises(ObjectExistsError, match="being deleted"):
            change_record(owner.pk, moved.pk.hex, RecordChange(parent_id=target))
    restore(owner.pk, top.pk)
    assert change_record(owner.pk, deep.pk.hex, RecordChange(parent_id=str(owner.pk))).parent_id is None


def test_tree_that_others_keep_filling_is_told_so(owner: User, disk: Buckets) -> None:
    top = folder(owner, "top")
    sub = folder(owner, "sub", top)

    def fill(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        result = execute(sql, params, many, context)
        if "WITH RECURSIVE tree" in sql:
            Background(lambda: folder(owner, "more", sub)).start().outcome()
        return result

    batches = trash_tree(owner.pk, top.pk)
    with connection.execute_wrapper(fill), pytest.raises(BackendUnavailableError, match="keep filling"):
        take(batches)
    assert {top.pk, sub.pk} < live()
    assert_no_live_in_trashed()
    assert take(trash_tree(owner.pk, top.pk))[-1] == top.pk


@pytest.mark.parametrize("delete", Ways)
def test_batch_costs_few_statements_whatever_its_size(owner: User, delete: Way) -> None:
    costs = []
    for count in (2, BATCH - 1):
        top, _ = wide(owner, count)
        batches = delete(owner.pk, top.pk)
        with statements() as seen:
            assert len(next(batches)) == count + 1
        costs.append(len(seen))
    assert costs[0] <= 16
    assert costs[1] <= costs[0] + 2 * BATCH // 100  # Django deletes a hundred rows a statement


def test_deletion_for_good_drops_references_and_refunds(owner: User, disk: Buckets) -> None:
    top = folder(owner, "top")
    asset = put(owner, "k", b"12345")
    Asset.objects.filter(pk=asset.pk).update(parent=top)
    yesterday = timezone.now() - timedelta(days=1)
    StoredObject.objects.update(referenced_at=yesterday)
    take(trash_tree(owner.pk, top.pk))
    assert Account.objects.get().used_bytes == 5
    assert StoredObject.objects.get().referenced_at == yesterday
    take(delete_tree(owner.pk, top.pk))
    assert Account.objects.get().used_bytes == 0
    assert StoredObject.objects.get().referenced_at > yesterday
    purge(grace=timedelta(0))
    assert disk.keys() == set()


def test_key_of_a_trashed_asset_is_free_for_another(owner: User, disk: Buckets) -> None:
    first = put(owner, "k", b"first")
    take(trash_tree(owner.pk, first.pk))
    second = put(owner, "k", b"second")
    assert second.pk != first.pk
    with pytest.raises(ObjectExistsError, match="assets/k"):
        restore(owner.pk, first.pk)
    take(trash_tree(owner.pk, second.pk))
    restore(owner.pk, first.pk)
    assert live() == {first.pk}


def test_purge_empties_the_trash_when_its_time_is_over(owner: User, disk: Buckets) -> None:
    top = folder(owner, "top")
    asset = put(owner, "k", b"12345")
    Asset.objects.filter(pk=asset.pk).update(parent=top)
    take(trash_tree(owner.pk, top.pk))
    old = timezone.now() - timedelta(seconds=Environment.current().trash_ttl)
    assert purge().expired == 0
    Asset.objects.update(trashed_at=old)
    assert purge(dry_run=True).expired == 2
    assert purge().expired == 2
    assert not Asset.objects.exists()
    assert Account.objects.get().used_bytes == 0


def test_emptying_the_trash_takes_several_batches(owner: User) -> None:
    top, _ = wide(owner, BATCH + 10)
    kept = folder(owner, "kept")
    take(trash_tree(owner.pk, top.pk))
    assert empty_trash(timezone.now()) == BATCH + 11
    assert live() == {kept.pk}


@pytest.mark.parametrize("kind", ["stranger", "trashed", "absent"])
def test_tree_that_is_not_there_is_not_found(owner: User, stranger: User, kind: str) -> None:
    top = folder(owner, "top")
    if kind == "trashed":
        take(trash_tree(owner.pk, top.pk))
    who = stranger if kind == "stranger" else owner
    with pytest.raises(ObjectNotFoundError):
        trash_tree(who.pk, new_id() if kind == "absent" else top.pk)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("delete", "count"),
    [pytest.param(trash_tree, 100_000, id="trash"), pytest.param(delete_tree, 20_000, id="for good")],
)
def test_tree_of_a_hundred_thousand_goes_in_constant_memory(owner: User, delete: Way, count: int) -> None:
    top = folder(owner, "top")
    made = rows(owner, 1000, lambda number: top.pk)
    rows(owner, count - 1000, lambda number: made[number % 1000])
    asked = 0

    def counted(execute: Any, *statement: Any) -> Any:
        nonlocal asked
        asked += 1
        return execute(*statement)

    tracemalloc.start()
    try:
        with connection.execute_wrapper(counted):
            gone = sum(len(batch) for batch in delete(owner.pk, top.pk))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert gone == count + 1
    assert peak < 16 << 20
    assert asked < 20 * (count // BATCH + 4)
    assert live() == set()
