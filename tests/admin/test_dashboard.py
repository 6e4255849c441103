"""The dashboard: whose figures are shown, what it costs, and that a purge is asked for twice."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from assets.admin.plots import Bar, Rate, bars, columns, rates
from assets.models import Asset, StoredObject
from assets.services.trash import trash_tree
from assets.services.usage_upkeep import fold
from storagecache.environment import Environment
from storagecache.node_cache import NodeCacheKey
from tests.admin.conftest import HOSTILE, MakeAsset, MakeUser, add_rows

ClientOf = Callable[[User], Client]
BOARD = "/admin/assets/asset/dashboard/"
CACHE = "/admin/assets/asset/node-cache/"


def test_figures_are_those_of_who_asks(
    make_asset: MakeAsset, client_of: ClientOf, staff: User, admin_user: User
) -> None:
    make_asset(staff, "mine.png")
    make_asset(admin_user, HOSTILE)
    shown = client_of(staff).get(BOARD).content.decode()
    assert "mine.png" in shown
    assert "alert(1)" not in shown
    assert "Purge" not in shown
    answer = client_of(admin_user).get(BOARD)
    shown = answer.content.decode()
    assert "<img src=x" not in shown
    assert " style=" not in shown
    assert "Purge" in shown
    assert answer["Content-Security-Policy"].startswith("default-src 'self';")


def test_dashboard_costs_the_same_with_many_assets(client_of: ClientOf, admin_user: User) -> None:
    client, costs = client_of(admin_user), []
    for _ in range(2):
        with CaptureQueriesContext(connection) as queries:
            assert client.get(BOARD).status_code == 200
        costs.append(len(queries))
        add_rows(admin_user, 200)
    assert costs[0] == costs[1] <= 7


def test_staff_neither_purges_nor_clears(client_of: ClientOf, staff: User) -> None:
    client = client_of(staff)
    assert [client.post(f"{address}/").status_code for address in (f"{BOARD}purge", f"{CACHE}clear")] == [403, 403]
    assert client.get(CACHE).status_code == 403
    assert CACHE not in client.get(BOARD).content.decode()


def test_purge_shows_its_figures_before_it_takes_anything(
    make_asset: MakeAsset, client_of: ClientOf, admin_user: User
) -> None:
    asset = make_asset(admin_user, "old.png")
    long_ago = timezone.now() - timedelta(days=400)
    StoredObject.objects.filter(pk=asset.object_id).update(referenced_at=long_ago)
    Asset.objects.filter(pk=asset.pk).delete()
    client = client_of(admin_user)
    assert "It would take" not in client.get(BOARD).content.decode()
    assert "It would take" in client.get(f"{BOARD}?figures").content.decode()
    assert StoredObject.objects.filter(pk=asset.object_id).exists()
    client.post(f"{BOARD}purge/")
    assert not StoredObject.objects.filter(pk=asset.object_id, state="ready").exists()


def test_temp_and_trash_of_everybody_stand_beside_the_purge(
    make_asset: MakeAsset, client_of: ClientOf, staff: User, admin_user: User
) -> None:
    for owner, length in ((staff, 1000), (admin_user, 500)):
        make_asset(owner, "t.bin", b"x" * length, bucket="temp")
        list(trash_tree(owner.pk, make_asset(owner, "old.bin", b"x" * 10 * length).pk))
    passing = client_of(admin_user).get(f"{BOARD}?figures").context["passing"]
    assert [(name, shown.replace("\xa0", " "), count) for name, shown, count in passing] == [
        ("Temp", "1.5 KB", 2),
        ("Trash", "14.6 KB", 2),
    ]
    fold()
    assert passing == client_of(admin_user).get(BOARD).context["passing"]
    assert "passing" not in client_of(staff).get(BOARD).context


def test_cache_is_cleared_by_workflow_and_never_by_accident(client_of: ClientOf, admin_user: User) -> None:
    client = client_of(admin_user)
    assert "Name a workflow" in client.post(f"{CACHE}clear/", follow=True).content.decode()
    assert "is cleared: workflow w" in client.post(f"{CACHE}clear/", {"workflow": "w"}, follow=True).content.decode()


def test_page_of_the_cache_names_its_largest_values_until_they_are_cleared(
    client_of: ClientOf, admin_user: User
) -> None:
    cache, client = Environment.get_node_cache(), client_of(admin_user)
    cache.set(NodeCacheKey("1", HOSTILE, "test.Page", "f" * 64), b"x" * 3_000_000)
    answer = client.get(CACHE)
    shown = answer.content.decode()
    assert "test.Page" in shown
    assert "2.9\xa0MB" in shown
    assert "<img src=x" not in shown
    assert " style=" not in shown
    assert answer["Content-Security-Policy"].startswith("default-src 'self';")
    client.post(f"{CACHE}clear/", {"workflow": HOSTILE})
    assert "2.9\xa0MB" not in client.get(CACHE).content.decode()


def test_index_leads_to_the_library_for_those_who_may_look(
    make_user: MakeUser, client_of: ClientOf, staff: User
) -> None:
    assert "/assets/asset/library/" in client_of(staff).get("/admin/").content.decode()
    assert "/assets/asset/library/" not in client_of(make_user("powerless")).get("/admin/").content.decode()


def test_plots_escape_and_bear_nothing_and_negative_sums() -> None:
    drawn = bars("b", [Bar(HOSTILE, 5), Bar("x", -1)]) + columns("c", [Bar(HOSTILE, 0)]) + bars("none", [])
    drawn += columns("none", []) + rates("r", [Rate(HOSTILE, 1, 2), Rate("x", 0, 0)])
    assert "<img" not in drawn
    assert 'width="-' not in drawn
