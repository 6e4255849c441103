"""GET /api/usage over HTTP."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from assets.services.usage_upkeep import fold
from tests.api.conftest import make_file, make_folder


def test_usage_of_nothing_has_its_whole_shape(client: Client) -> None:
    nothing = {"bytes": 0, "count": 0}
    assert client.get("/api/usage").json() == {
        "user_id": "1", **nothing, "temp": nothing, "trash": nothing, "by_type": [], "by_folder": [], "by_day": [],
    }  # fmt: skip


def test_usage_tells_types_folders_and_days(client: Client, owner: User, other: User) -> None:
    inside = make_folder(owner, "Bilder")
    make_file(owner, "a", b"12345", parent=inside)
    make_file(owner, "b", b"1", content_type="application/json")
    fold()
    make_file(owner, "c", b"123", bucket="temp", content_type="application/json")
    make_file(other, "d", b"1234")
    today = timezone.now().date().isoformat()
    answer = client.get("/api/usage")
    assert answer["Cache-Control"] == "private, no-store"
    assert answer.json() == {
        "user_id": "1",
        "bytes": 9,
        "count": 3,
        "temp": {"bytes": 3, "count": 1},
        "trash": {"bytes": 0, "count": 0},
        "by_type": [{"type": "text", "bytes": 5, "count": 1}, {"type": "application", "bytes": 4, "count": 2}],
        "by_folder": [
            {"folder_id": inside.pk.hex, "name": "Bilder", "bytes": 5, "count": 1},
            {"folder_id": "1", "name": "Home", "bytes": 4, "count": 2},
        ],
        "by_day": [{"day": today, "bytes": 9, "count": 3}],
    }


def test_usage_takes_no_parameter(client: Client) -> None:
    assert client.get("/api/usage?user=2").status_code == 422


def test_usage_costs_the_same_statements_for_many(client: Client, owner: User, django_assert_num_queries: Any) -> None:
    for count in (1, 20):
        for number in range(count):
            make_file(owner, f"{count}-{number}", parent=make_folder(owner, f"{count}-{number}"))
        with django_assert_num_queries(2):  # the figures, the names of folders
            assert client.get("/api/usage").status_code == 200
