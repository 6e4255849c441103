"""The column `folder`: where an asset lies, kept by the database on each engine."""

from __future__ import annotations

import io
from uuid import UUID

import pytest
from django.contrib.auth.models import User

from assets.ids import home_folder, new_id
from assets.models import NAME_KEY, Asset, fold_name
from assets.services import AssetDetails, create_asset
from tests.assets.conftest import Buckets, make_folder, put


@pytest.mark.parametrize("user_id", [1, 15, 16, 2**31 - 1, 2**53, 2**60 - 1])
def test_home_folder_is_a_custom_uuid_that_no_row_has(user_id: int) -> None:
    home = home_folder(user_id)
    assert home.version == 8
    assert home != new_id()
    assert home.int & (1 << 60) - 1 == user_id


@pytest.mark.parametrize("owner_id", [1, 31, 2**31 - 1])
def test_folder_of_what_lies_in_home_is_the_home_folder(db: None, owner_id: int) -> None:
    folder = make_folder(User.objects.create_user("u", pk=owner_id))
    assert folder.folder == home_folder(owner_id)
    assert Asset.objects.get(folder=home_folder(owner_id)) == folder


def test_folder_follows_the_parent(memory: Buckets, owner: User) -> None:
    parent = make_folder(owner)
    inside = create_asset(owner=owner, name="in", content=io.BytesIO(b"1"), details=AssetDetails(parent=parent))
    outside = put(owner, "out", b"2")
    assert (inside.folder, outside.folder) == (parent.pk, home_folder(owner.pk))
    Asset.objects.filter(pk=outside.pk).update(parent=parent)
    Asset.objects.filter(pk=inside.pk).update(parent=None)
    found: dict[UUID, UUID] = dict(Asset.objects.values_list("pk", "folder"))
    assert found[outside.pk] == parent.pk
    assert found[inside.pk] == home_folder(owner.pk)


def test_asset_with_the_longest_name_is_sorted_by_its_first_characters(transactional_db: None, owner: User) -> None:
    """No index of PostgreSQL takes 12 KB."""
    name = "".join(chr(0x1F300 + i % 700) for i in range(1024))
    assert make_folder(owner, name).name_key == fold_name(name)[:NAME_KEY]
