"""Deletion in the admin: asked first, bounded, permanent, and only of what the user may delete."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin.models import DELETION, LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from assets.admin import deletion
from assets.models import Asset, StoredObject
from tests.admin.conftest import HOSTILE, MakeAsset, MakeUser, add_rows

ClientOf = Callable[[User], Client]
LIST = "/admin/assets/asset/"


def address(asset: Asset) -> str:
    return reverse("admin:assets_asset_delete", args=[asset.pk])


def choose(client: Client, assets: list[Any], **more: str) -> Any:
    return client.post(LIST, {"action": "delete_selected", "_selected_action": assets, **more}, follow=True)


def said(answer: Any) -> list[str]:
    return [str(message) for message in answer.context["messages"]]


def test_deletion_of_one_asks_first_and_keeps_the_object_for_purge(
    make_asset: MakeAsset, client_of: ClientOf, staff: User
) -> None:
    asset = make_asset(staff, HOSTILE)
    client = client_of(staff)
    asked = client.get(address(asset))
    assert "&lt;img src=x" in asked.content.decode()
    assert Asset.objects.count() == 1
    answer = client.post(address(asset), {"post": "yes"}, follow=True)
    assert said(answer) == [f"Deleted “{HOSTILE}”."]
    assert "<img src=x" not in answer.content.decode()
    assert not Asset.objects.exists()
    assert StoredObject.objects.get(pk=asset.object_id).state == "ready"
    assert LogEntry.objects.get().action_flag == DELETION
    assert client.post(address(asset), {"post": "yes"}).status_code == 404


def test_deletion_of_several_asks_first(client_of: ClientOf, staff: User) -> None:
    rows = add_rows(staff, 130)
    client = client_of(staff)
    chosen = [row.pk for row in rows[:120]]
    asked = choose(client, chosen).content.decode()
    assert "120 assets will be gone" in asked
    assert "and 70 more" in asked
    assert Asset.objects.count() == 130
    answer = choose(client, chosen, post="yes")
    assert said(answer) == ["Deleted 120 assets."]
    assert Asset.objects.count() == 10


@pytest.mark.parametrize("post", [{}, {"post": "yes"}])
def test_deletion_of_too_many_is_refused(
    post: dict[str, str], client_of: ClientOf, admin_user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletion, "MAX_DELETED", 4)
    add_rows(admin_user, 5)
    answer = choose(client_of(admin_user), [Asset.objects.first().pk], select_across="1", **post)  # type: ignore[union-attr]
    assert said(answer) == ["Choose at most 4 assets at once."]
    assert Asset.objects.count() == 5


def test_question_about_the_most_assets_can_be_answered(client_of: ClientOf, admin_user: User) -> None:
    rows = add_rows(admin_user, deletion.MAX_DELETED)
    answer = choose(client_of(admin_user), [row.pk for row in rows], post="yes")
    assert answer.status_code == 200
    assert not Asset.objects.exists()


def test_deletion_by_staff_spares_the_assets_of_others(
    make_user: MakeUser, client_of: ClientOf, staff: User, admin_user: User
) -> None:
    (theirs,), (mine,) = add_rows(make_user("other"), 1), add_rows(staff, 1)
    assert client_of(staff).post(address(theirs), {"post": "yes"}).status_code == 404
    choose(client_of(staff), [theirs.pk, mine.pk], post="yes")
    assert [asset.pk for asset in Asset.objects.all()] == [theirs.pk]
    choose(client_of(admin_user), [theirs.pk], post="yes")
    assert not Asset.objects.exists()


def test_deletion_without_the_permission_is_refused(make_user: MakeUser, client_of: ClientOf) -> None:
    viewer = make_user("viewer", "view_asset")
    (asset,) = add_rows(viewer, 1)
    client = client_of(viewer)
    assert client.post(address(asset), {"post": "yes"}).status_code == 403
    choose(client, [asset.pk], post="yes")
    assert Asset.objects.count() == 1


def test_deletion_without_a_token_is_refused(client_of: ClientOf, staff: User) -> None:
    (asset,) = add_rows(staff, 1)
    client = Client(enforce_csrf_checks=True)
    client.force_login(staff)
    assert client.post(address(asset), {"post": "yes"}).status_code == 403
    assert choose(client, [asset.pk], post="yes").status_code == 403
    assert Asset.objects.count() == 1


def test_deletion_of_nonsense_is_said_to_be_so(client_of: ClientOf, staff: User) -> None:
    add_rows(staff, 1)
    assert said(choose(client_of(staff), ["nonsense"], post="yes")) == ["What was selected is no asset."]


def test_deletion_of_folders_is_refused(client_of: ClientOf, staff: User) -> None:
    (child,) = add_rows(staff, 1)
    folder = Asset.objects.create(
        owner=staff, name="F", name_folded="f", is_folder=True, content_type="folder",
        created_at=child.created_at, updated_at=child.created_at,
    )  # fmt: skip
    assert said(choose(client_of(staff), [folder.pk], post="yes")) == ["Folders cannot be deleted here."]
    assert client_of(staff).post(address(folder), {"post": "yes"}).status_code == 403
    assert Asset.objects.count() == 2
