"""The library's page and the JSON that fills it: who sees what, narrowed how, at which cost."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from assets.admin.library import PAGE
from assets.services import AssetDetails
from assets.services.cursors import CursorError
from assets.services.folders import create_folder
from assets.services.trash import trash_tree
from assets.services.trash_listing import list_trash
from tests.admin.conftest import HOSTILE, MakeAsset, MakeUser, add_rows

ClientOf = Callable[[User], Client]
LIBRARY = "/admin/assets/asset/library/"
BROWSE = f"{LIBRARY}assets/"


def browse(client: Client, **asked: str) -> Any:
    answer = client.get(BROWSE, asked)
    assert answer.status_code == 200, answer.content
    return answer.json()


def names(client: Client, **asked: str) -> list[str]:
    return [asset["name"] for asset in browse(client, **asked)["assets"]]


def test_library_page_loads_nothing_from_elsewhere_and_runs_nothing_inline(
    client_of: ClientOf, admin_user: User
) -> None:
    answer = client_of(admin_user).get(LIBRARY)
    shown = answer.content.decode()
    assert answer["Content-Security-Policy"].startswith("default-src 'self';")
    assert all("src=" in tag.partition(">")[0] for tag in shown.split("<script")[1:])
    assert " style=" not in shown
    assert "://" not in shown.replace("http://www.w3.org/2000/svg", "")


def test_library_by_who_asks_holds_only_what_is_theirs(
    make_user: MakeUser, make_asset: MakeAsset, client_of: ClientOf, staff: User, admin_user: User
) -> None:
    make_asset(staff, "mine.png")
    make_asset(admin_user, "root's.png")
    assert names(client_of(staff)) == ["mine.png"]
    assert names(client_of(staff), owner="root") == ["mine.png"]
    assert names(client_of(admin_user)) == ["root's.png"]
    assert names(client_of(admin_user), owner="staff") == ["mine.png"]
    assert client_of(make_user("powerless")).get(BROWSE).status_code == 403


def test_folder_shows_its_content_and_the_way_to_it(
    make_asset: MakeAsset, client_of: ClientOf, admin_user: User
) -> None:
    outer = create_folder(owner_id=admin_user.pk, name="outer", parent=None)
    inner = create_folder(owner_id=admin_user.pk, name=HOSTILE, parent=outer)
    client = client_of(admin_user)
    assert names(client) == ["outer"]
    assert names(client, folder=outer.pk.hex) == [HOSTILE]
    path = browse(client, folder=inner.pk.hex)["path"]
    assert [step["name"] for step in path] == ["Home", "outer", HOSTILE]
    assert names(client, folder=outer.pk.hex, type="folder", order="name") == [HOSTILE]
    assert client.get(BROWSE, {"folder": "0" * 32}).status_code == 404


def test_filters_narrow_by_type_day_and_size(make_asset: MakeAsset, client_of: ClientOf, admin_user: User) -> None:
    picture = make_asset(admin_user, "a.png")
    make_asset(admin_user, "b.txt", b"x" * 5000, content_type="text/plain")
    client, day = client_of(admin_user), picture.created_at.date().isoformat()
    assert names(client, type="image/") == ["a.png"]
    assert names(client, min="1000") == ["b.txt"]
    assert names(client, max="1000") == ["a.png"]
    assert names(client, **{"from": day, "to": day, "order": "created"}) == ["a.png", "b.txt"]
    assert names(client, to="2001-01-01") == []
    assert names(client, q="B.T") == ["b.txt"]
    assert browse(client, min="1000", order="name")["order"] == "-size"


def test_search_and_trash_are_narrowed_by_the_filters_too(
    make_asset: MakeAsset, client_of: ClientOf, admin_user: User
) -> None:
    picture = make_asset(admin_user, "same name.png", details=AssetDetails(tags=("red",), workflow_id="w"))
    text = make_asset(admin_user, "same name.txt", b"x" * 5000, content_type="text/plain")
    client, day = client_of(admin_user), picture.created_at.date().isoformat()
    for asked in ({"type": "image/"}, {"tag": "red"}, {"workflow": "w"}, {"max": "4000"}):
        assert names(client, q="same", **asked) == ["same name.png"], asked
    assert names(client, q="same", **{"from": day, "to": day, "min": "4000"}) == ["same name.txt"]
    assert names(client, q="same", to="2001-01-01") == []
    assert browse(client, q="same", order="name")["order"] == "created"
    for asset in (picture, text):
        list(trash_tree(admin_user.pk, asset.pk))
    assert names(client, state="trash", type="text/") == ["same name.txt"]
    assert names(client, state="trash", workflow="w") == ["same name.png"]
    assert names(client, state="trash", q="NAME.P", max="4000") == ["same name.png"]


def test_storage_filter_finds_what_is_temp(make_asset: MakeAsset, client_of: ClientOf, admin_user: User) -> None:
    make_asset(admin_user, "kept.png")
    make_asset(admin_user, "temp.png", bucket="temp")
    client = client_of(admin_user)
    assert names(client, storage="temp") == ["temp.png"]
    assert names(client, storage="assets") == ["kept.png"]
    assert names(client, storage="temp", q="kept") == []
    assert names(client, storage="temp", type="image/", order="name") == ["temp.png"]


def test_sizes_and_the_largest_are_looked_for_everywhere(
    make_asset: MakeAsset, client_of: ClientOf, admin_user: User
) -> None:
    folder = create_folder(owner_id=admin_user.pk, name="folder", parent=None)
    deep = make_asset(admin_user, "deep.bin", b"x" * 9000, content_type="text/plain")
    type(deep).objects.filter(pk=deep.pk).update(parent=folder)
    make_asset(admin_user, "home.bin", b"y" * 7000, content_type="text/plain")
    client = client_of(admin_user)
    assert names(client, min="5000") == ["deep.bin", "home.bin"]
    assert names(client, type="text/", order="-size") == ["deep.bin", "home.bin"]


@pytest.mark.parametrize(
    "asked",
    [
        {"from": "yesterday"},
        {"min": "-1"},
        {"cursor": "nonsense"},
        {"q": "a\0b"},
        {"owner": "nobody"},
        {"storage": "cache"},
    ],
    ids=str,
)
def test_question_that_cannot_be_read_is_refused(asked: dict[str, str], client_of: ClientOf, admin_user: User) -> None:
    answer = client_of(admin_user).get(BROWSE, asked)
    assert answer.status_code == 400
    assert "detail" in answer.json()


def test_pages_follow_each_other_without_gaps_at_a_constant_cost(client_of: ClientOf, admin_user: User) -> None:
    add_rows(admin_user, 2 * PAGE + 5, content_type="application/x-thing")
    client, cursor, seen, costs = client_of(admin_user), "", [], []
    while True:
        with CaptureQueriesContext(
            connection,
        ) as queries:
            page = browse(client, cursor=cursor)
        costs.append(len(queries))
        seen += [asset["id"] for asset in page["assets"]]
        cursor = page["next"]
        if not cursor:
            break
    assert len(seen) == len(set(seen)) == 2 * PAGE + 5
    assert seen == sorted(seen, reverse=True)
    assert len(set(costs)) == 1
    assert costs[0] <= 5


def test_library_page_costs_the_same_with_many_assets(client_of: ClientOf, admin_user: User) -> None:
    client = client_of(admin_user)
    with CaptureQueriesContext(connection) as before:
        client.get(LIBRARY)
    add_rows(admin_user, 300)
    with CaptureQueriesContext(connection) as after:
        client.get(LIBRARY)
    assert len(before) == len(after) <= 4


def test_trash_lists_what_was_deleted_and_not_what_it_took_along(
    make_asset: MakeAsset, client_of: ClientOf, admin_user: User, staff: User
) -> None:
    folder = create_folder(owner_id=admin_user.pk, name="folder", parent=None)
    lone = make_asset(admin_user, "lone.png")
    inside = make_asset(admin_user, "inside.png")
    type(inside).objects.filter(pk=inside.pk).update(parent=folder)
    for asset in (lone, folder):
        list(trash_tree(admin_user.pk, asset.pk))
    assert names(client_of(admin_user), state="trash") == ["folder", "lone.png"]
    assert names(client_of(admin_user)) == []
    assert names(client_of(staff), state="trash") == []
    first = list_trash(admin_user.pk, cursor="", size=1)
    second = list_trash(admin_user.pk, cursor=first.next, size=1)
    assert [a.name for a in (*first.assets, *second.assets)] == ["folder", "lone.png"]
    assert second.next == ""


def test_trash_is_given_by_deletion_from_either_end(
    make_asset: MakeAsset, client_of: ClientOf, admin_user: User
) -> None:
    for number in (2, 0, 1):
        list(trash_tree(admin_user.pk, make_asset(admin_user, f"{number}.png").pk))
    client = client_of(admin_user)
    assert names(client, state="trash", order="created") == ["2.png", "0.png", "1.png"]
    assert names(client, state="trash", order="name") == names(client, state="trash") == ["1.png", "0.png", "2.png"]
    found, cursor = [], ""
    for _ in range(3):
        page = list_trash(admin_user.pk, cursor=cursor, size=1, order="created")
        found += [asset.name for asset in page.assets]
        cursor = page.next
    assert (found, cursor) == (["2.png", "0.png", "1.png"], "")
    after = list_trash(admin_user.pk, cursor="", size=1, order="created").next
    with pytest.raises(CursorError):
        list_trash(admin_user.pk, cursor=after, size=1)


def test_zip_holds_the_chosen_assets_of_the_user(
    make_asset: MakeAsset, client_of: ClientOf, admin_user: User, staff: User
) -> None:
    mine, theirs = make_asset(staff, "mine.png"), make_asset(admin_user, "theirs.png")
    client = client_of(staff)
    answer = client.post(f"{LIBRARY}zip/", {"ids": mine.pk.hex})
    with zipfile.ZipFile(io.BytesIO(b"".join(answer.streaming_content))) as archive:
        assert archive.namelist() == ["mine.png"]
    assert client.post(f"{LIBRARY}zip/", {"ids": theirs.pk.hex}).status_code == 404
    assert client.post(f"{LIBRARY}zip/", {"ids": "x"}).status_code == 400


def test_picture_of_a_cell_stays_on_the_site(make_asset: MakeAsset, client_of: ClientOf, admin_user: User) -> None:
    make_asset(admin_user)
    client = client_of(admin_user)
    cell = browse(client)["assets"][0]
    assert cell["thumb"].startswith("/api/assets/")
    picture = client.get(cell["thumb"])
    assert b"".join(picture)[8:12] == b"WEBP"
    picture.close()
    assert browse(client, ids=cell["id"])["assets"] == [cell]
