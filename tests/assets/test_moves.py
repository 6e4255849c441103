"""Two that change folders at once: one is stopped before each of its statements, the other runs there or waits."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import User

from assets.models import Account, Asset
from assets.services import AssetDetails, create_asset, delete_assets, replace_content
from assets.services.folders import NoFolderError, breadcrumbs, create_folder
from assets.services.records import RecordChange, change_record
from assets.services.trash import delete_tree, restore, trash_tree
from storagecache.errors import BackendUnavailableError, ObjectExistsError, ObjectNotFoundError
from tests.assets.conftest import Buckets, interleaved, statements

ALLOWED = (ObjectExistsError, ObjectNotFoundError, BackendUnavailableError, NoFolderError)


@dataclass(frozen=True, slots=True)
class Scene:
    """Home / a / b, home / c / d, and a file in b."""

    owner: User
    a: Asset
    b: Asset
    c: Asset
    d: Asset
    file: Asset

    def _move(self, asset: Asset, folder: Asset) -> Any:
        return change_record(self.owner.pk, asset.pk.hex, RecordChange(parent_id=folder.pk.hex))

    def a_into_d(self) -> Any:
        return self._move(self.a, self.d)

    def c_into_b(self) -> Any:
        return self._move(self.c, self.b)

    def d_into_b(self) -> Any:
        return self._move(self.d, self.b)

    def file_into_c(self) -> Any:
        return self._move(self.file, self.c)

    def write_and_move(self) -> Any:
        return change_record(self.owner.pk, self.file.pk.hex, RecordChange(parent_id=self.d.pk.hex, data="text"))

    def replace(self) -> Any:
        return replace_content(self.file, io.BytesIO(b"replaced"))

    def rename(self) -> Any:
        return change_record(self.owner.pk, self.file.pk.hex, RecordChange(name="renamed"))

    def trash_a(self) -> Any:
        return list(trash_tree(self.owner.pk, self.a.pk))

    def trash_b(self) -> Any:
        return list(trash_tree(self.owner.pk, self.b.pk))

    def delete_a(self) -> Any:
        return list(delete_tree(self.owner.pk, self.a.pk))

    def delete_file(self) -> Any:
        return delete_assets([self.file.pk])

    def restore_b(self) -> Any:
        return restore(self.owner.pk, self.b.pk)

    def make_in_b(self) -> Any:
        return create_folder(owner_id=self.owner.pk, name="new", parent=self.b)

    def upload_into_b(self) -> Any:
        details = AssetDetails(parent=self.b)
        return create_asset(owner=self.owner, name="new", content=io.BytesIO(b"new"), details=details)


PAIRS = [
    (Scene.a_into_d, Scene.c_into_b), (Scene.c_into_b, Scene.a_into_d), (Scene.d_into_b, Scene.a_into_d),
    (Scene.file_into_c, Scene.trash_a), (Scene.trash_a, Scene.file_into_c), (Scene.d_into_b, Scene.trash_a),
    (Scene.trash_a, Scene.d_into_b), (Scene.make_in_b, Scene.trash_a), (Scene.trash_a, Scene.make_in_b),
    (Scene.upload_into_b, Scene.trash_b), (Scene.trash_b, Scene.upload_into_b), (Scene.delete_a, Scene.upload_into_b),
    (Scene.upload_into_b, Scene.delete_a), (Scene.delete_a, Scene.trash_b), (Scene.trash_b, Scene.delete_a),
    (Scene.trash_a, Scene.trash_b), (Scene.trash_a, Scene.trash_a), (Scene.delete_a, Scene.delete_a),
    (Scene.write_and_move, Scene.trash_b), (Scene.trash_b, Scene.write_and_move), (Scene.rename, Scene.replace),
    (Scene.replace, Scene.rename), (Scene.delete_a, Scene.replace), (Scene.replace, Scene.delete_a),
    (Scene.delete_a, Scene.delete_file), (Scene.trash_a, Scene.restore_b), (Scene.restore_b, Scene.trash_a),
]  # fmt: skip


def _set(owner: User) -> Scene:
    def folder(name: str, parent: Asset | None = None) -> Asset:
        return create_folder(owner_id=owner.pk, name=name, parent=parent)

    a, c = folder("a"), folder("c")
    b, d = folder("b", a), folder("d", c)
    file = create_asset(owner=owner, name="file", content=io.BytesIO(b"bytes"), details=AssetDetails(parent=b))
    return Scene(owner, a, b, c, d, file)


def _clear() -> None:
    Asset.objects.update(parent=None)
    Asset.objects.all().delete()
    Account.objects.all().delete()


def _assert_sound(owner: User) -> None:
    assert not Asset.objects.filter(trashed_at=None, parent__trashed_at__isnull=False).exists()
    assert not Asset.objects.filter(parent__is_folder=False).exists()
    for asset in Asset.objects.all():
        steps = [step.pk for step in breadcrumbs(asset)]
        assert asset.pk not in steps
        assert len(steps) == len(set(steps)) < 5
    used = sum(asset.size or 0 for asset in Asset.objects.all())
    assert Account.objects.get(pk=owner.pk).used_bytes == used


@pytest.mark.parametrize(
    ("first", "second"), PAIRS, ids=[f"{first.__name__}-{second.__name__}" for first, second in PAIRS]
)
def test_two_at_once_in_any_order_leave_folders_sound(
    memory: Buckets, owner: User, first: Callable[[Scene], Any], second: Callable[[Scene], Any]
) -> None:
    with statements() as seen:
        first(_set(owner))
    total = len(seen)
    _clear()
    for number in range(total + 1):
        scene = _set(owner)
        results = interleaved(number, partial(first, scene), partial(second, scene), ALLOWED)
        _assert_sound(owner)
        if {first, second} == {Scene.a_into_d, Scene.c_into_b}:
            assert [type(error) for error in results if isinstance(error, Exception)] == [ObjectExistsError]
        if {first, second} == {Scene.rename, Scene.replace}:
            assert Asset.objects.filter(name="renamed", size=8, revision=3).exists()
        _clear()
