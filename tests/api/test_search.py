"""GET /api/assets/search: substrings in every script, literal wildcards, where things lie, pages and bad input."""

from __future__ import annotations

import copy
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.utils import timezone

from assets.ids import new_id
from assets.models import Asset
from assets.services import search
from assets.services.search import MAX_PATH
from tests.api.conftest import make_file, make_folder

NAMES = (
    "Straße.png", "ÜBER uns.txt", "e\u0301t\u00e9", "100%_sure", "a\\b", 'say "hi"', "it's", "日本語の名前", "Привет",
    "emoji 🎨🎨🎨.png", "AND OR NOT NEAR", "name:col*", "x^2 (y)", "tab\u2009space", "İstanbul", "ﬁnal",
)  # fmt: skip


@pytest.fixture(params=["few", "many"])
def size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Search as an owner of few assets, and as one of many, for whom the index is asked."""
    if request.param == "many":
        monkeypatch.setattr(search, "FEW", 0)
    return str(request.param)


def searched(client: Client, query: str, **parameters: object) -> Any:
    rest = "".join(f"&{name}={value}" for name, value in parameters.items())
    response = client.get(f"/api/assets/search?query={quote(query)}{rest}")
    assert response.status_code == 200, response.content
    return response.json()


def names(client: Client, query: str, **parameters: object) -> list[str]:
    return [asset["name"] for asset in searched(client, query, **parameters)["assets"]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("strasse", "Straße.png"),
        ("STRASSE", "Straße.png"),
        ("aß", "Straße.png"),
        ("über", "ÜBER uns.txt"),
        ("BER U", "ÜBER uns.txt"),
        ("ÉTÉ", "e\u0301t\u00e9"),
        ("t\u0065\u0301", "e\u0301t\u00e9"),
        ("0%", "100%_sure"),
        ("%_s", "100%_sure"),
        ("0%_sure", "100%_sure"),
        ("a\\b", "a\\b"),
        ('"hi"', 'say "hi"'),
        ('""', None),
        ("t's", "it's"),
        ("日本", "日本語の名前"),
        ("本語の名", "日本語の名前"),
        ("ПРИВ", "Привет"),
        ("ив", "Привет"),
        ("🎨🎨", "emoji 🎨🎨🎨.png"),
        ("AND OR", "AND OR NOT NEAR"),
        ("name:", "name:col*"),
        ("col*", "name:col*"),
        ("na*", None),
        ("x^2", "x^2 (y)"),
        ("(y)", "x^2 (y)"),
        ("i\u0307st", "İstanbul"),
        ("final", "ﬁnal"),
        ("_b", None),
        ("__", None),
        ("%%", None),
        ("nothing here", None),
        ("zz", None),
    ],
)
def test_search_finds_substrings_as_they_are(
    client: Client, owner: User, size: str, query: str, expected: str | None
) -> None:
    for number, name in enumerate(NAMES):
        make_file(owner, name, bytes([number]))
    assert names(client, query) == ([expected] if expected else [])


def test_search_answers_as_the_contract_says(client: Client, owner: User, size: str) -> None:
    asset = make_file(owner, "needle.txt")
    alone = client.get(f"/api/assets/{asset.pk.hex}").json()
    place = {"folder_name": "Home", "folder_path": "Home", "folder_id": "1"}
    assert searched(client, "need") == {
        "assets": [alone | place],
        "next_cursor": "",
        "total_count": 1,
        "is_global_search": True,
    }


def test_search_tells_where_assets_lie(client: Client, owner: User, size: str) -> None:
    a = make_folder(owner, "A")
    b = make_folder(owner, "B / C", parent=a)
    make_file(owner, "in b", b"1", parent=b)
    make_file(owner, "in a", b"2", parent=a)
    found = searched(client, "in ")["assets"]
    assert [(one["folder_name"], one["folder_path"], one["folder_id"]) for one in found] == [
        ("B / C", "Home / A / B / C", b.pk.hex),
        ("A", "Home / A", a.pk.hex),
    ]


@pytest.mark.timeout(60)
def test_search_in_folders_thousands_deep_tells_the_nearest(client: Client, owner: User) -> None:
    folders = [make_folder(owner, "top")]
    ids = [new_id() for _ in range(3000)]
    parents = [folders[0].pk, *ids]
    rows = [copy.copy(folders[0]) for _ in ids]
    for number, (row, folder_id, parent_id) in enumerate(zip(rows, ids, parents, strict=False)):
        row.pk, row.parent_id, row.name = folder_id, parent_id, f"level {number}"
    Asset.objects.bulk_create(rows, batch_size=500)
    make_file(owner, "needle", parent=rows[-1])
    (found,) = client.get("/api/assets/search?query=needle").json()["assets"]
    assert found["folder_path"].startswith("Home / … / level ")
    assert found["folder_path"].endswith(" / level 2998 / level 2999")
    assert len(found["folder_path"]) < MAX_PATH + 100


@pytest.mark.parametrize("content_type", ["text", "text/plain"])
def test_search_is_narrowed_by_type(client: Client, owner: User, size: str, content_type: str) -> None:
    make_file(owner, "name one", b"1")
    make_file(owner, "name two", b"{}", content_type="application/json")
    assert names(client, "name", content_type=content_type) == ["name one"]
    assert names(client, "na", content_type=content_type) == ["name one"]


@pytest.mark.parametrize("query", ["nam", "na"])
def test_search_shows_live_assets_of_the_caller_alone(
    client: Client, owner: User, other: User, size: str, query: str
) -> None:
    for person, name in ((other, "name theirs"), (owner, "name mine"), (owner, "name gone"), (owner, "name over")):
        make_file(person, name, name.encode())
    Asset.objects.filter(name="name gone").update(trashed_at=timezone.now())
    Asset.objects.filter(name="name over").update(expires_at=timezone.now() - timedelta(seconds=1))
    assert names(client, query) == ["name mine"]


@pytest.mark.parametrize("query", ["nam", "na"])
@pytest.mark.parametrize("page_size", [1, 2, 3, 5, 10_000])
def test_search_pages_hold_every_asset_once_in_order_of_age(
    client: Client, owner: User, size: str, query: str, page_size: int
) -> None:
    made = [make_file(owner, f"name {number}", bytes([number])).name for number in range(5)]
    found, cursor = [], ""
    while True:
        page = searched(client, query, page_size=page_size, cursor=cursor)
        assert page["total_count"] == len(page["assets"])
        found += [asset["name"] for asset in page["assets"]]
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert found == made


def test_search_goes_on_by_the_other_way_when_an_owner_grows(
    client: Client, owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        make_file(owner, f"name {number}", bytes([number]))
    cursor = searched(client, "name", page_size=2)["next_cursor"]
    monkeypatch.setattr(search, "FEW", 1)
    assert names(client, "name", cursor=cursor) == ["name 2", "name 3"]


@pytest.mark.parametrize("query", ["nam", "na"])
@pytest.mark.parametrize("count", [1, 30])
def test_search_costs_a_constant_number_of_statements(
    client: Client, owner: User, size: str, query: str, count: int, django_assert_num_queries: Any
) -> None:
    """The page and its folders; on SQLite a probe, and two for the page where the index is asked."""
    folder = None
    for number in range(count):
        folder = make_folder(owner, f"deep {number}", parent=folder)
        make_file(owner, f"name {number}", bytes([number]), parent=folder)
    expected = 2 if connection.vendor == "postgresql" else 3 if size == "few" else 4
    with django_assert_num_queries(expected):
        assert len(searched(client, query)["assets"]) == count


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "query"),
        ("query=", "query"),
        ("query=a", "query"),
        ("query=%C3%9F", "query"),
        ("query=a%00b", "query"),
        ("query=" + "a" * 256, "query"),
        ("query=ab&query=cd", "query"),
        ("query=ab&page_size=0", "page_size"),
        ("query=ab&page_size=-1", "page_size"),
        ("query=ab&page_size=1000000000", "page_size"),
        ("query=ab&page_size=many", "page_size"),
        ("query=ab&order=name", "order"),
        ("query=ab&owner_id=2", "owner_id"),
        ("query=ab&name__contains=x", "name__contains"),
        ("query=ab&meta.seed=1", "meta.seed"),
        ("query=ab&content_type=%00", "content_type"),
    ],
)
def test_search_with_a_bad_parameter_is_refused_by_name(client: Client, query: str, field: str) -> None:
    response = client.get(f"/api/assets/search?{query}")
    assert response.status_code == 422, response.content
    assert response.json()["detail"].startswith(f"{field}: ")


@pytest.mark.parametrize("made_by", ["query=name&page_size=1", "query=name&page_size=1&content_type=text"])
@pytest.mark.parametrize("used_by", ["query=name", "query=nam", "query=name&content_type=text"])
def test_search_refuses_the_cursor_of_another_search(client: Client, owner: User, made_by: str, used_by: str) -> None:
    for number in range(2):
        make_file(owner, f"name {number}", bytes([number]))
    cursor = client.get(f"/api/assets/search?{made_by}").json()["next_cursor"]
    same = made_by.replace("&page_size=1", "") == used_by
    assert client.get(f"/api/assets/search?{used_by}&cursor={cursor}").status_code == (200 if same else 400)
