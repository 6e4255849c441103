"""Accounts in the admin: quotas set through the service, and lists that do not grow."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from assets.admin.windows import CatalogAdmin
from assets.models import Account
from assets.services.quota import set_quota
from tests.admin.conftest import MakeAsset, MakeUser
from tests.roles import ChangeEnvironment

ClientOf = Callable[[User], Client]
LIST = "/admin/assets/account/"


def page(user: User) -> str:
    return f"{LIST}{user.pk}/change/"


def text(answer: object) -> str:
    return " ".join(b"".join(answer).decode().split())  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("written", "quota"), [("20G", 20 << 30), ("500MiB", 500 << 20), ("0", 0), ("", None), ("12", 12)]
)
def test_quota_set_by_a_superuser_is_in_force_and_logged(
    client_of: ClientOf, admin_user: User, make_asset: MakeAsset, written: str, quota: int | None
) -> None:
    make_asset(admin_user, content=b"12345")
    set_quota(admin_user.pk, 7)
    answer = client_of(admin_user).post(page(admin_user), {"quota_bytes": written, "used_bytes": "1", "user": "99"})
    assert (answer.status_code, answer["Location"]) == (302, LIST)
    account = Account.objects.get()
    assert (account.quota_bytes, account.used_bytes, account.pk) == (quota, 5, admin_user.pk)
    assert LogEntry.objects.get().object_id == str(admin_user.pk)


@pytest.mark.parametrize("written", ["-1", "much", "1e9", "9" * 30, "99999999999T", "<script>", "1\x00", "٣"])
def test_quota_that_is_no_size_is_refused_with_a_text(client_of: ClientOf, admin_user: User, written: str) -> None:
    set_quota(admin_user.pk, 7)
    answer = client_of(admin_user).post(page(admin_user), {"quota_bytes": written})
    assert answer.status_code == 200
    assert answer.context["adminform"].form.errors["quota_bytes"]
    assert b'value="<script>' not in answer.content
    assert Account.objects.get().quota_bytes == 7


def test_account_added_for_a_user_counts_what_is_there(
    client_of: ClientOf, admin_user: User, make_user: MakeUser, make_asset: MakeAsset
) -> None:
    client, user = client_of(admin_user), make_user("new")
    make_asset(user, content=b"123")
    Account.objects.all().delete()
    assert client.post(f"{LIST}add/", {"user": user.pk, "quota_bytes": "1K"}).status_code == 302
    assert Account.objects.values_list("user__username", "quota_bytes", "used_bytes").get() == ("new", 1024, 3)
    for taken in (str(user.pk), "0", "999999", "99999999999999999999", "x", ""):
        assert client.post(f"{LIST}add/", {"user": taken, "quota_bytes": "1"}).status_code == 200, taken
    assert Account.objects.get().quota_bytes == 1024


@pytest.mark.parametrize("who", ["other_account", "every_permission"])
def test_account_is_not_for_staff(client_of: ClientOf, admin_user: User, make_user: MakeUser, who: str) -> None:
    user = make_user(who, *(f"{verb}_account" for verb in ("view", "add", "change", "delete")))
    set_quota(user.pk, 1)
    client = client_of(user)
    for address in (LIST, page(user), f"{LIST}add/", f"{LIST}{user.pk}/delete/", f"{LIST}{user.pk}/history/"):
        assert client.get(address).status_code == 403
        assert client.post(address, {"quota_bytes": "1G", "user": user.pk, "post": "yes"}).status_code in {403, 405}
    assert Account.objects.get().quota_bytes == 1


def test_account_cannot_be_deleted_but_goes_with_its_user(
    client_of: ClientOf, admin_user: User, make_user: MakeUser
) -> None:
    client, user = client_of(admin_user), make_user("leaving")
    set_quota(user.pk, 1)
    assert client.post(f"{LIST}{user.pk}/delete/", {"post": "yes"}).status_code == 403
    assert f"{LIST}{user.pk}/delete/" not in text(client.get(page(user)))
    assert client.post(f"/admin/auth/user/{user.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not Account.objects.exists()


@pytest.mark.parametrize("account_id", ["x", "-1", "0", "9" * 9, "9" * 25, "1_00", "٣", "1%00"])
def test_page_of_no_account_is_sent_back(client_of: ClientOf, admin_user: User, account_id: str) -> None:
    set_quota(admin_user.pk, 1)
    client = client_of(admin_user)
    for address in ("change", "history"):
        assert client.get(f"{LIST}{account_id}/{address}/").status_code == 302
    assert client.post(f"{LIST}{account_id}/change/", {"quota_bytes": "2"}).status_code == 302
    assert Account.objects.get().quota_bytes == 1


def test_list_of_accounts_shows_used_and_quota(
    client_of: ClientOf, admin_user: User, make_asset: MakeAsset, change_environment: ChangeEnvironment
) -> None:
    make_asset(admin_user, content=b"12345")
    client = client_of(admin_user)
    assert "no limit (default)" in text(client.get(LIST))
    change_environment(user_quota_bytes=3 << 20)
    assert "3.0 MB (default)" in text(client.get(LIST))
    set_quota(admin_user.pk, 2 << 10)
    shown = text(client.get(LIST))
    assert "2.0 KB<" in shown
    assert "5 bytes (5)" in shown
    assert f"?owner={admin_user.pk}" in shown


@pytest.mark.parametrize("query", [{}, {"q": "user3"}, {"q": "nobody"}, {"q": "7"}], ids=str)
def test_queries_of_the_list_of_accounts_are_constant_and_bounded(
    client_of: ClientOf,
    admin_user: User,
    make_user: MakeUser,
    monkeypatch: pytest.MonkeyPatch,
    query: dict[str, str],
) -> None:
    monkeypatch.setattr(CatalogAdmin, "window_rows", 20)
    client = client_of(admin_user)
    add_accounts(make_user, 4)
    client.get(LIST, query)
    with CaptureQueriesContext(connection) as few:
        client.get(LIST, query)
    add_accounts(make_user, 50, start=4)
    with CaptureQueriesContext(connection) as many:
        client.get(LIST, query)
    assert abs(len(many) - len(few)) <= 1
    counts = [each["sql"] for each in many if "COUNT(" in each["sql"] and "assets_account" in each["sql"]]
    assert all("WHERE" in sql for sql in counts)


def add_accounts(make_user: MakeUser, count: int, *, start: int = 0) -> None:
    users = [make_user(f"user{number}") for number in range(start, start + count)]
    Account.objects.bulk_create(Account(user=user) for user in users)


def test_windows_of_accounts_show_each_once_newest_first(
    client_of: ClientOf, admin_user: User, make_user: MakeUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CatalogAdmin, "window_rows", 3)
    add_accounts(make_user, 8)
    client, seen, query = client_of(admin_user), [], "?"
    while query:
        shown = client.get(LIST + query).context["cl"]
        seen += [account.pk for account in shown.result_list]
        query = shown.older_query
    assert seen == list(Account.objects.order_by("-pk").values_list("pk", flat=True))
    assert len(seen) == 8


@pytest.mark.parametrize("before", ["x", "-1", "9" * 30, "1 OR 1=1", "٣"])
def test_list_of_accounts_before_no_id_is_sent_back(client_of: ClientOf, admin_user: User, before: str) -> None:
    assert client_of(admin_user).get(LIST, {"before": before}).status_code in {302, 404}


def test_search_finds_an_account_by_name_or_id(client_of: ClientOf, admin_user: User, make_user: MakeUser) -> None:
    add_accounts(make_user, 3)
    client, wanted = client_of(admin_user), User.objects.get(username="user1")
    for term in ("user1", str(wanted.pk)):
        found = client.get(LIST, {"q": term}).context["cl"].result_list
        assert [account.user for account in found] == [wanted]
    assert not client.get(LIST, {"q": "user"}).context["cl"].result_list
