"""GET /api/assets/{id}/summary over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from assets.models import Derivation
from assets.services.usage_upkeep import fold
from tests.api.conftest import copies, make_file, make_folder


@pytest.mark.parametrize("folded", [False, True])
def test_summary_of_a_folder_tells_where_it_lies_and_what_it_holds(
    client: Client, owner: User, other: User, folded: bool
) -> None:
    top = make_folder(owner, "top")
    inner = make_folder(owner, "inner", top)
    make_file(owner, "a", b"1", parent=top)
    make_file(owner, "b", b"22", parent=inner)
    make_file(owner, "c", b"333")
    make_file(other, "theirs", b"4444")
    if folded:
        fold()
    assert client.get(f"/api/assets/{top.pk.hex}/summary").json() == {
        "breadcrumbs": [{"id": "1", "name": "Home"}],
        "content": {"bytes": 1, "count": 1},
        "total": {"bytes": 3, "count": 2},
        "used_by": [],
        "used_by_more": False,
    }
    found = client.get(f"/api/assets/{inner.pk.hex}/summary").json()
    assert found["breadcrumbs"] == [{"id": "1", "name": "Home"}, {"id": top.pk.hex, "name": "top"}]
    assert found["content"] == found["total"] == {"bytes": 2, "count": 1}
    home = client.get("/api/assets/1/summary").json()
    assert (home["breadcrumbs"], home["content"], home["total"]) == (
        [],
        {"bytes": 3, "count": 1},
        {"bytes": 6, "count": 3},
    )


def test_summary_of_a_file_names_what_was_made_of_it(client: Client, owner: User) -> None:
    source, made = make_file(owner, "source"), make_file(owner, "made", b"2")
    Derivation.objects.create(source=source, asset=made)
    assert client.get(f"/api/assets/{source.pk.hex}/summary").json() == {
        "breadcrumbs": [{"id": "1", "name": "Home"}],
        "content": None,
        "total": None,
        "used_by": [{"id": made.pk.hex, "name": "made"}],
        "used_by_more": False,
    }
    Derivation.objects.bulk_create(Derivation(source=source, asset=output) for output in copies(made, 100))
    found = client.get(f"/api/assets/{source.pk.hex}/summary").json()
    assert (len(found["used_by"]), found["used_by_more"]) == (100, True)


@pytest.mark.parametrize("depth", [1, 50])
def test_summary_costs_the_same_statements_for_any_depth_and_content(
    client: Client, owner: User, depth: int, django_assert_num_queries: Any
) -> None:
    top = folder = make_folder(owner)
    for _ in range(depth):
        folder = make_folder(owner, "inner", folder)
    copies(make_file(owner, parent=folder), depth)
    with django_assert_num_queries(4):  # the folder, its uses, its own figures, and those of the tree
        assert client.get(f"/api/assets/{top.pk.hex}/summary").status_code == 200
    with django_assert_num_queries(5):  # and the folders above
        assert client.get(f"/api/assets/{folder.pk.hex}/summary").status_code == 200
    with django_assert_num_queries(3):
        assert client.get("/api/assets/1/summary").status_code == 200
