"""What the node cache asks the catalog about the assets that its values mention."""

from __future__ import annotations

import io
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from assets.models import Asset
from assets.services import create_asset, delete_assets
from assets.services.reading import are_live, digest_of
from storagecache.environment import Environment
from storagecache.node_cache import MISS
from tests.assets.conftest import Buckets

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def asset(memory: Buckets, owner: User) -> Asset:
    return create_asset(owner=owner, name="a b.txt", content=io.BytesIO(b"bytes"), key="x/a b.txt")


def test_are_live_deleted_asset_is_not(asset: Asset) -> None:
    assert are_live([asset.pk.hex, str(asset.pk)])
    assert are_live([])
    assert not are_live([asset.pk.hex, uuid4().hex])
    assert not are_live(["no id"])
    delete_assets([asset.pk])
    assert not are_live([asset.pk.hex])


@pytest.mark.parametrize(
    "form", ["{id}", "/storage/assets/x/a%20b.txt", "http://127.0.0.1:7777/storage/assets/x/a%20b.txt?s=1"]
)
def test_digest_of_each_form_is_the_contents(asset: Asset, form: str) -> None:
    assert asset.object is not None
    assert digest_of(form.format(id=asset.pk.hex)) == asset.object.sha256


@pytest.mark.parametrize("reference", ["", "no id", "/storage/assets/absent", "http://[", "0" * 32])
def test_digest_of_what_is_not_there_is_none(asset: Asset, reference: str) -> None:
    assert digest_of(reference) is None


def test_hit_with_references_costs_one_select_and_without_none(asset: Asset) -> None:
    cache = Environment.get_node_cache()
    named, plain = f"named {uuid4()}", f"plain {uuid4()}"
    value = [{"asset_id": asset.pk.hex}, {"uri": f"asset://{asset.pk.hex}.txt"}]
    assert cache.set(named, value)
    assert cache.set(plain, [1])
    with CaptureQueriesContext(connection) as queries:
        assert cache.get(plain) == [1]
    assert len(queries) == 0
    with CaptureQueriesContext(connection) as queries:
        assert cache.get(named) == value
    assert [query["sql"].split()[0] for query in queries] == ["SELECT"]
    delete_assets([asset.pk])
    assert cache.get(named, MISS) is MISS
