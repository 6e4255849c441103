"""Who sees what in the admin, and how hostile names and files look there."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from assets.models import Asset, Derivation, StoredObject
from tests.admin.conftest import HOSTILE, PNG, SVG, MakeAsset, MakeUser

ClientOf = Callable[[User], Client]
LIST = "/admin/assets/asset/"
OBJECTS = "/admin/assets/storedobject/"


def page(asset: Asset, what: str = "change") -> str:
    return reverse(f"admin:assets_asset_{what}", args=[asset.pk])


ADDRESSES = ("change", "delete", "history", "preview", "content")


@pytest.mark.parametrize("what", ADDRESSES)
def test_pages_of_an_asset_by_who_asks_answer_as_they_should(
    what: str, make_user: MakeUser, make_asset: MakeAsset, client_of: ClientOf, staff: User, admin_user: User
) -> None:
    asset = make_asset(staff)
    stranger = make_user("stranger", "view_asset", "delete_asset")
    plain = make_user("plain", staff=False)
    powerless = make_user("powerless")
    answers = {}
    for user in (staff, admin_user, stranger, plain, powerless):
        answer = client_of(user).get(page(asset, what))
        answers[user.username] = answer.status_code
        answer.close()
    assert answers == {"staff": 200, "root": 200, "stranger": 404, "plain": 302, "powerless": 403}
    assert Client().get(page(asset, what)).status_code == 302


@pytest.mark.parametrize(
    ("address", "staff_status"), [(LIST, 200), (f"{LIST}add/", 200), (OBJECTS, 403), ("/admin/", 200)]
)
def test_lists_by_who_asks_answer_as_they_should(
    address: str, staff_status: int, make_user: MakeUser, client_of: ClientOf, staff: User, admin_user: User
) -> None:
    assert client_of(staff).get(address).status_code == staff_status
    assert client_of(admin_user).get(address).status_code == 200
    assert client_of(make_user("plain", staff=False)).get(address).status_code == 302


def test_list_of_staff_holds_only_their_own_assets(
    make_user: MakeUser, make_asset: MakeAsset, client_of: ClientOf, staff: User, admin_user: User
) -> None:
    make_asset(staff, "mine.png")
    theirs = make_asset(make_user("other"), "theirs.png")
    shown = client_of(staff).get(LIST, {"owner": theirs.owner_id}).content.decode()
    assert "mine.png" in shown
    assert "theirs.png" not in shown
    assert "theirs.png" not in client_of(staff).get(LIST, {"q": theirs.pk.hex}).content.decode()
    shown = client_of(admin_user).get(LIST).content.decode()
    assert "mine.png" in shown
    assert "theirs.png" in shown


@pytest.mark.parametrize("what", ["change", "delete", "history"])
def test_hostile_names_on_every_page_are_escaped(
    what: str, make_asset: MakeAsset, client_of: ClientOf, admin_user: User
) -> None:
    asset = make_asset(admin_user, f"{HOSTILE}\r\n\x1b[2J\u202egnp.exe")
    client = client_of(admin_user)
    shown = client.get(page(asset, what)).content.decode() + client.get(LIST).content.decode()
    assert "<img src=x" not in shown
    assert "&lt;img src=x onerror=alert(1)&gt;" in shown
    listed = client.get(LIST).content.decode()
    assert "\x1b" not in listed
    assert "\u202e" not in listed


def test_hostile_keys_and_metadata_are_escaped(make_asset: MakeAsset, client_of: ClientOf, admin_user: User) -> None:
    asset = make_asset(admin_user, key=f"a/{HOSTILE}")
    Asset.objects.filter(pk=asset.pk).update(metadata={"a": HOSTILE}, tags=[HOSTILE], workflow_id=HOSTILE)
    shown = client_of(admin_user).get(page(asset)).content.decode()
    assert "<img src=x" not in shown


def test_preview_of_an_image_is_sandboxed_and_whole(
    make_asset: MakeAsset, client_of: ClientOf, admin_user: User
) -> None:
    asset = make_asset(admin_user)
    answer = client_of(admin_user).get(page(asset, "preview"))
    assert b"".join(answer.streaming_content) == PNG
    assert answer["Content-Type"] == "image/png"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Content-Security-Policy"].startswith("sandbox;")
    assert page(asset, "preview") in client_of(admin_user).get(page(asset)).content.decode()


@pytest.mark.parametrize(
    ("name", "content", "content_type"),
    [
        ("a.svg", SVG, "image/svg+xml"),
        ("a.html", b"<script>alert(1)</script>", "text/html"),
        ("a.txt", b"text", "text/plain"),
        ("a.png", b"<script>alert(1)</script>", "image/png"),
        ("a.tiff", b"II*\x00" + bytes(64), "image/tiff"),
    ],
)
def test_preview_of_anything_else_is_absent(
    name: str, content: bytes, content_type: str, make_asset: MakeAsset, client_of: ClientOf, admin_user: User
) -> None:
    asset = make_asset(admin_user, name, content, content_type=content_type)
    client = client_of(admin_user)
    assert client.get(page(asset, "preview")).status_code == 404
    assert "/preview/" not in client.get(page(asset)).content.decode()


def test_content_is_an_attachment_with_ranges(make_asset: MakeAsset, client_of: ClientOf, admin_user: User) -> None:
    asset = make_asset(admin_user, "a.html", b"0123456789")
    client = client_of(admin_user)
    answer = client.get(page(asset, "content"))
    assert b"".join(answer.streaming_content) == b"0123456789"
    assert answer["Content-Disposition"] == 'attachment; filename="a.html"'
    assert answer["Content-Length"] == "10"
    part = client.get(page(asset, "content"), headers={"Range": "bytes=-3"})
    assert (part.status_code, b"".join(part.streaming_content)) == (206, b"789")
    again = client.get(page(asset, "content"), headers={"If-None-Match": answer["ETag"]})
    assert again.status_code == 304


@pytest.mark.parametrize("method", ["post", "put", "delete"])
def test_bytes_by_other_methods_are_refused(
    method: str, make_asset: MakeAsset, client_of: ClientOf, admin_user: User
) -> None:
    asset = make_asset(admin_user)
    for what in ("preview", "content"):
        assert getattr(client_of(admin_user), method)(page(asset, what)).status_code == 405


def test_content_of_lost_bytes_is_not_found(make_asset: MakeAsset, client_of: ClientOf, admin_user: User) -> None:
    from django.core.files.storage import storages

    asset = make_asset(admin_user)
    assert asset.object is not None
    storages["assets"].delete(asset.object.key)
    assert client_of(admin_user).get(page(asset, "content")).status_code == 404


def test_folder_has_a_page_and_no_bytes(client_of: ClientOf, admin_user: User, make_asset: MakeAsset) -> None:
    child = make_asset(admin_user)
    folder = Asset.objects.create(
        owner=admin_user, name="F", name_folded="f", is_folder=True, content_type="folder",
        created_at=child.created_at, updated_at=child.created_at,
    )  # fmt: skip
    client = client_of(admin_user)
    assert client.get(page(folder)).status_code == 200
    assert client.get(page(folder, "content")).status_code == 404
    assert client.get(page(folder, "delete")).status_code == 403


def test_page_of_an_object_names_at_most_fifty_assets(
    client_of: ClientOf, admin_user: User, make_asset: MakeAsset
) -> None:
    stored = {make_asset(admin_user, f"{number}.png").object_id for number in range(52)}
    assert len(stored) == 1
    address = reverse("admin:assets_storedobject_change", args=stored)
    shown = client_of(admin_user).get(address).content.decode()
    assert len(re.findall(r"/admin/assets/asset/[0-9a-f-]{36}/change/", shown)) == 50
    assert "more than these 50" in shown


def test_lineage_is_shown_on_the_page_and_before_a_deletion(
    client_of: ClientOf, admin_user: User, make_asset: MakeAsset
) -> None:
    source, made = make_asset(admin_user, "source.png"), make_asset(admin_user, HOSTILE)
    for _ in range(21):
        made = make_asset(admin_user, HOSTILE)
        Derivation.objects.create(source=source, asset=made)
    client = client_of(admin_user)
    shown, asked = (client.get(page(source, what)).content.decode() for what in ("change", "delete"))
    for text, count in ((shown, 20), (asked, 21)):
        assert len(re.findall(r"/admin/assets/asset/[0-9a-f-]{36}/change/", text)) == count
        assert HOSTILE not in text
    assert "and more" in shown
    assert page(source) in client.get(page(made)).content.decode()
    assert "Made from them" not in client.get(page(made, "delete")).content.decode()


@pytest.mark.parametrize("what", ["change", "delete", "history"])
@pytest.mark.parametrize("text", ["nonsense", "0" * 32, "a/b", "%00"])
def test_page_of_no_asset_is_not_found(what: str, text: str, client_of: ClientOf, admin_user: User) -> None:
    assert client_of(admin_user).get(f"{LIST}{text}/{what}/").status_code == 404


def test_pages_cannot_be_changed(client_of: ClientOf, admin_user: User, make_asset: MakeAsset) -> None:
    asset = make_asset(admin_user)
    assert client_of(admin_user).post(page(asset), {"name": "other"}).status_code == 403
    stored = StoredObject.objects.get(assets=asset)
    address = reverse("admin:assets_storedobject_change", args=[stored.pk])
    client = client_of(admin_user)
    assert client.post(address, {"key": "other"}).status_code == 403
    assert client.get(f"{OBJECTS}add/").status_code == 403
    assert client.post(f"{OBJECTS}{stored.pk}/delete/", {"post": "yes"}).status_code == 403
    assert Asset.objects.get().name == "a.png"


def test_pages_hold_no_inline_script_of_ours(client_of: ClientOf, admin_user: User, make_asset: MakeAsset) -> None:
    asset = make_asset(admin_user)
    for address in (LIST, f"{LIST}add/", page(asset), page(asset, "delete")):
        shown = client_of(admin_user).get(address).content.decode()
        assert all("src=" in tag.partition(">")[0] for tag in shown.split("<script")[1:])
