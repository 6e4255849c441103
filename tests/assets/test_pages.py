"""Which index a page is read from on SQLite, whose planner has no statistics."""

from __future__ import annotations

import io

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from assets.attributes import Condition
from assets.models import Asset
from assets.services import AssetDetails, create_asset
from assets.services.listing import Filters, Order, list_shown
from assets.services.records import find_by_name
from tests.assets.conftest import Buckets, put

pytestmark = pytest.mark.skipif(
    connection.vendor != "sqlite", reason="the planner of PostgreSQL reads tables this small in order"
)
BOUND = Condition("meta.cfg", frozenset(), (("gte", 7.0),))


def plan_of(sql: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
        return "\n".join(row[3] for row in cursor.fetchall())


@pytest.mark.parametrize(
    ("filters", "order", "few", "many"),
    [
        (Filters(content_type="image"), "name", "asset_type", "asset_owner_name"),
        (Filters(content_type="image"), "-size", "asset_type", "asset_size"),
        (Filters(job_id="j"), "name", "asset_job", "asset_owner_name"),
        (Filters(job_id="j"), "-size", "asset_job", "asset_size"),
        (Filters(attributes=(BOUND,)), "name", "attribute_number", "asset_owner_name"),
        (Filters(attributes=(BOUND,)), "-size", "attribute_number", "asset_size"),
    ],
)
@pytest.mark.parametrize("is_few", [True, False])
def test_few_are_gathered_and_many_are_met_in_order(
    memory: Buckets,
    owner: User,
    monkeypatch: pytest.MonkeyPatch,
    filters: Filters,
    order: Order,
    few: str,
    many: str,
    is_few: bool,
) -> None:
    details = AssetDetails(job_id="j", metadata={"cfg": 9})
    asset = create_asset(owner=owner, name="a", content=io.BytesIO(b"x"), details=details)
    Asset.objects.filter(pk=asset.pk).update(content_type="image/png")
    monkeypatch.setattr("assets.services.pages.FEW", 1 if is_few else 0)
    with CaptureQueriesContext(connection) as seen:
        list_shown(owner.pk, filters, order=order, cursor="", size=10)
    plan = plan_of(next(query["sql"] for query in seen.captured_queries if "metadata" in query["sql"]))
    assert f"{few if is_few else many} (" in plan
    assert f"{many if is_few else few} (" not in plan
    # What was found is sorted once; what is gathered was sorted before, to cut the page.
    assert plan.count("USE TEMP B-TREE FOR ORDER BY") == (2 if is_few else 1)


def test_name_is_found_by_the_index_of_names(memory: Buckets, owner: User) -> None:
    put(owner, "k", b"x")
    with CaptureQueriesContext(connection) as seen:
        find_by_name(owner.pk, "k")
    assert "asset_owner_name (owner_id=? AND name_key=?)" in plan_of(seen.captured_queries[-1]["sql"])
