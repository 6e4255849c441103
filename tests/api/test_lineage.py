"""GET /api/assets/{id}/lineage over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from assets.models import Derivation
from tests.api.conftest import copies, make_file


def test_lineage_gives_assets_and_edges(client: Client, owner: User) -> None:
    source, made, other = make_file(owner, "source"), make_file(owner, "made", b"2"), make_file(owner, "other", b"3")
    Derivation.objects.create(source=source, asset=made)
    Derivation.objects.create(source=made, asset=other)
    answer = client.get(f"/api/assets/{made.pk.hex}/lineage")
    found = answer.json()
    assert (answer.status_code, answer["Cache-Control"]) == (200, "private, no-store")
    assert [node["id"] for node in found["nodes"]] == [made.pk.hex, source.pk.hex, other.pk.hex]
    assert found["nodes"][1]["name"] == "source"
    assert found["nodes"][1]["get_url"]
    assert sorted(found["edges"], key=str) == sorted(
        [{"source": source.pk.hex, "target": made.pk.hex}, {"source": made.pk.hex, "target": other.pk.hex}], key=str
    )
    assert found["truncated"] is False
    assert len(client.get(f"/api/assets/{source.pk.hex}/lineage?depth=1").json()["nodes"]) == 2


@pytest.mark.parametrize(
    "query", ["depth=0", "depth=-1", "depth=101", "depth=x", "depth=1.5", "depth=1&depth=2", "x=1"]
)
def test_lineage_of_a_wrong_query_is_refused_by_name(client: Client, owner: User, query: str) -> None:
    answer = client.get(f"/api/assets/{make_file(owner).pk.hex}/lineage?{query}")
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(query.partition("=")[0])


def test_lineage_of_what_is_not_there_or_not_mine_is_404(client: Client, owner: User, other: User) -> None:
    for missing in (make_file(other).pk.hex, "0" * 32, "x", "1"):
        assert client.get(f"/api/assets/{missing}/lineage").status_code == 404


def test_lineage_costs_the_same_statements_for_many_nodes(
    client: Client, owner: User, django_assert_num_queries: Any
) -> None:
    start = make_file(owner)
    for count in (1, 50):
        outputs = copies(start, count)
        Derivation.objects.bulk_create(Derivation(source=start, asset=output) for output in outputs)
        # The asset; what lies each way, and its assets; what lies behind them; the edges.
        with django_assert_num_queries(6):
            assert client.get(f"/api/assets/{start.pk.hex}/lineage").status_code == 200
