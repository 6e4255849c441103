"""Lists of the admin cost the same however many rows there are: constant queries, each bounded by an index."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from assets.admin.windows import CatalogAdmin
from assets.models import Asset
from tests.admin.conftest import MakeAsset, MakeUser, add_rows

ClientOf = Callable[[User], Client]
LIST = "/admin/assets/asset/"
OBJECTS = "/admin/assets/storedobject/"
QUERIES: tuple[dict[str, str], ...] = (
    {},
    {"bucket": "temp"},
    {"bucket": "assets", "state": "live"},
    {"state": "expired"},
    {"state": "trashed"},
    {"content": "image"},
    {"content": "other", "bucket": "temp"},
    {"q": "row 7"},
    {"q": "nothing is called so"},
    {"q": "owner:root row"},
    {"bucket": "temp", "q": "row", "p": "2"},
)


def names(answer: Any) -> list[str]:
    return [asset.name for asset in answer.context["cl"].result_list]


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of twenty rows."""
    monkeypatch.setattr(CatalogAdmin, "window_rows", 20)


@pytest.mark.parametrize("query", QUERIES, ids=str)
@pytest.mark.parametrize("who", ["root", "staff"])
def test_queries_of_the_list_do_not_grow_with_its_rows(
    query: dict[str, str], who: str, client_of: ClientOf, admin_user: User, staff: User, make_user: MakeUser
) -> None:
    user = {"root": admin_user, "staff": staff}[who]
    client = client_of(user)
    for each in (user, make_user("other")):
        add_rows(each, 2)
        add_rows(each, 2, bucket="temp")
    client.get(LIST, query)  # warms content types
    with CaptureQueriesContext(connection) as few:
        client.get(LIST, query)
    for number in range(6):
        add_rows(user, 10, bucket="temp" if number % 2 else "assets")
        add_rows(make_user(f"user{number}"), 5)
    with CaptureQueriesContext(connection) as many:
        client.get(LIST, query)
    assert abs(len(many) - len(few)) <= 1  # the owners are read in one query, and only when there are rows


def test_queries_of_the_list_of_objects_do_not_grow(client_of: ClientOf, admin_user: User) -> None:
    client = client_of(admin_user)
    add_rows(admin_user, 2)
    client.get(OBJECTS)
    with CaptureQueriesContext(connection) as few:
        client.get(OBJECTS)
    add_rows(admin_user, 60)
    with CaptureQueriesContext(connection) as many:
        client.get(OBJECTS)
    assert len(many) == len(few)


@pytest.mark.parametrize("query", [*QUERIES, {"q": "0" * 32}, {"q": "a/key.png"}, {"owner": "OWNER"}], ids=str)
@pytest.mark.parametrize("who", ["root", "staff"])
@pytest.mark.usefixtures("small_windows")
def test_plan_of_every_query_on_assets_is_a_search_by_id(
    query: dict[str, str], who: str, client_of: ClientOf, admin_user: User, staff: User
) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("reads SQLite's plans")
    user = {"root": admin_user, "staff": staff}[who]
    add_rows(user, 30)
    add_rows(user, 30, bucket="temp")
    query = {name: value.replace("OWNER", str(user.pk)) for name, value in query.items()}
    with CaptureQueriesContext(connection) as captured:
        client_of(user).get(LIST, query)
    plans = [plan for sql in _selects(captured, "assets_asset") for plan in _plan(sql)]
    assert plans
    for sql, step in plans:
        assert _is_bounded(sql, step), f"{step}: {sql}"


@pytest.mark.parametrize(
    "query",
    [{}, {"state": "pending"}, {"storage": "temp"}, {"content": "video"}, {"q": "0" * 32}, {"q": "f" * 64}],
    ids=str,
)
@pytest.mark.usefixtures("small_windows")
def test_plan_of_every_query_on_objects_is_a_search_by_id(
    query: dict[str, str], client_of: ClientOf, admin_user: User
) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("reads SQLite's plans")
    add_rows(admin_user, 60)
    with CaptureQueriesContext(connection) as captured:
        client_of(admin_user).get(OBJECTS, query)
    plans = [plan for sql in _selects(captured, "assets_storedobject") for plan in _plan(sql)]
    assert plans
    for sql, step in plans:
        assert _is_bounded(sql, step), f"{step}: {sql}"


def _selects(captured: CaptureQueriesContext, table: str) -> list[str]:
    return [q["sql"] for q in captured.captured_queries if q["sql"].startswith("SELECT") and f'"{table}"' in q["sql"]]


def _plan(sql: str) -> list[tuple[str, str]]:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
        return [(sql, row[3]) for row in cursor.fetchall()]


def _is_bounded(sql: str, step: str) -> bool:
    """Tell whether a step stops: at the window's bounds, at a whole id, key or digest, or at its LIMIT by the index."""
    if "TEMP B-TREE" in step:
        return False
    if any(
        part in step for part in ("(id>? AND id<?)", "(id>?)", "id>?", "(id=?)", "(bucket=? AND key=?)", "sha256=?")
    ):
        return True
    covers_only = (
        "SCAN" in step and "USING COVERING INDEX" in step and "LIMIT" in sql
    )  # the search for the window's end
    by_owner = "SEARCH" in step and "asset_owner (owner_id=?)" in step and "LIMIT" in sql
    return covers_only or by_owner


@pytest.mark.usefixtures("small_windows")
def test_windows_together_hold_every_asset_once(client_of: ClientOf, admin_user: User) -> None:
    rows = add_rows(admin_user, 47)
    client, query, seen, windows = client_of(admin_user), "", [], 0
    while windows < 10:
        shown = client.get(f"{LIST}{query}").context["cl"]
        seen += [asset.pk for asset in shown.result_list]
        windows += 1
        if not shown.older_query:
            break
        query = shown.older_query
    assert windows == 3
    assert seen == sorted((asset.pk for asset in rows), reverse=True)


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("count", [0, 1, 19, 20, 21, 40, 41])
def test_windows_at_their_edges_end_where_rows_do(count: int, client_of: ClientOf, admin_user: User) -> None:
    add_rows(admin_user, count)
    shown = client_of(admin_user).get(LIST).context["cl"]
    assert shown.result_count == min(count, 20)
    assert bool(shown.older_query) is (count > 20)
    assert not shown.newest_query


@pytest.mark.usefixtures("small_windows")
def test_search_finds_parts_of_names_in_the_window_and_keys_anywhere(
    client_of: ClientOf, admin_user: User, make_asset: MakeAsset
) -> None:
    old = make_asset(admin_user, "Old Straße.png", key="deep/old.png")
    add_rows(admin_user, 25)
    new = make_asset(admin_user, "New STRASSE 100%.png")
    client = client_of(admin_user)
    for text in ("straße", "STRASSE", "0%", f"owner:{admin_user.username} strasse"):
        assert names(client.get(LIST, {"q": text})) == [new.name], text
    for text in (old.pk.hex, str(old.pk), "deep/old.png", f" {old.pk.hex.upper()} "):
        assert names(client.get(LIST, {"q": text})) == [old.name], text
    for text in ("_", "owner:nobody", "x" * 2000, "0" * 32):
        assert names(client.get(LIST, {"q": text})) == [], text


def test_search_for_an_object_finds_it_by_id_key_and_digest(
    client_of: ClientOf, admin_user: User, make_asset: MakeAsset
) -> None:
    stored = make_asset(admin_user).object
    assert stored is not None
    add_rows(admin_user, 3)
    client = client_of(admin_user)
    for text in (stored.pk.hex, str(stored.pk), stored.key, str(stored), stored.sha256, stored.sha256.upper()):
        assert list(client.get(OBJECTS, {"q": text}).context["cl"].result_list) == [stored], text
    assert not client.get(OBJECTS, {"q": "a.png"}).context["cl"].result_list


def test_filters_keep_what_they_say(client_of: ClientOf, admin_user: User) -> None:
    assets = {
        "image": add_rows(admin_user, 1)[0],
        "temp": add_rows(admin_user, 1, bucket="temp", content_type="video/mp4")[0],
        "expired": add_rows(admin_user, 1, bucket="temp", content_type="application/json")[0],
        "trashed": add_rows(admin_user, 1, content_type="text/plain")[0],
    }
    past = assets["image"].created_at
    Asset.objects.filter(pk=assets["expired"].pk).update(expires_at=past)
    Asset.objects.filter(pk=assets["trashed"].pk).update(trashed_at=past)
    client = client_of(admin_user)
    for query, wanted in (
        ({}, {"image", "temp", "expired", "trashed"}),
        ({"bucket": "temp"}, {"temp", "expired"}),
        ({"state": "live"}, {"image", "temp"}),
        ({"state": "expired"}, {"expired"}),
        ({"state": "trashed"}, {"trashed"}),
        ({"content": "image"}, {"image"}),
        ({"content": "other"}, {"expired"}),
        ({"content": "text", "state": "trashed"}, {"trashed"}),
        ({"bucket": "nonsense"}, set()),
    ):
        found = {asset.pk for asset in client.get(LIST, query).context["cl"].result_list}
        assert found == {assets[name].pk for name in wanted}, query


@pytest.mark.parametrize("lookup", ["name__icontains", "owner__password__startswith", "metadata__x", "key", "id__in"])
def test_lookups_beside_the_filters_are_refused(lookup: str, client_of: ClientOf, admin_user: User) -> None:
    assert client_of(admin_user).get(LIST, {lookup: "a"}).status_code == 400


@pytest.mark.parametrize(
    "query", [{"before": "nonsense"}, {"owner": "x"}, {"owner": "9" * 30}, {"owner": "²"}, {"owner": "-1"}], ids=str
)
def test_parameters_that_are_no_ids_lead_back_to_the_list(
    query: dict[str, str], client_of: ClientOf, admin_user: User
) -> None:
    assert client_of(admin_user).get(LIST, query).status_code == 302


@pytest.mark.parametrize(
    "query", [{"p": "999999999999"}, {"p": "x"}, {"o": "-3.1"}, {"all": ""}, {"q": "\x00"}], ids=str
)
def test_odd_parameters_never_fail(query: dict[str, str], client_of: ClientOf, admin_user: User) -> None:
    add_rows(admin_user, 3)
    assert client_of(admin_user).get(LIST, query).status_code in {200, 302}
