"""Assets as plain values: they say what the models say, to the byte of every answer."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import User

from assets.api.schemas import asset_out
from assets.links import current_links
from assets.models import Asset, StoredObject
from assets.services.folders import create_folder
from assets.services.listing import Filters, Order, list_assets, list_shown
from assets.services.shown import COLUMNS, Shown, ShownObject, shown
from tests.assets.conftest import Buckets, put

LATER = datetime(2999, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "folder": {"is_folder": True, "key": None, "object": None, "size": None, "content_type": "folder"},
    "public": {"is_public": True},
    "temp": {"bucket": "temp", "expires_at": LATER},
    "media": {"duration": 1.5, "width": 3, "height": 4, "content_type": "video/mp4"},
    "named": {"name": "ÄÖ \u2028 </script>", "job_id": "j", "node_id": "n", "workflow_id": "w", "key": "a b/ü%.png"},
    "described": {
        "metadata": {"ü": [1, 2.5, None, {"x": "\n"}], "big": 1 << 80},
        "tags": ["x", "ß"],
        "revision": 1 << 40,
    },
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_shown_asset_is_answered_as_its_model_is(memory: Buckets, owner: User, variant: str) -> None:
    asset = put(owner, "model", b"x")
    folder = create_folder(owner_id=owner.pk, name="above", parent=None)
    StoredObject.objects.filter(pk=asset.object_id).update(content_type="image/png")
    Asset.objects.filter(pk=asset.pk).update(**({"parent": folder} | VARIANTS[variant]))
    row = Asset.objects.filter(pk=asset.pk).values_list(*COLUMNS).get()
    links, model = current_links(), Asset.objects.select_related("object").get(pk=asset.pk)
    assert asset_out(shown(row), links).model_dump_json() == asset_out(model, links).model_dump_json()


def test_shown_fields_are_those_of_the_models() -> None:
    for value, model in ((Shown, Asset), (ShownObject, StoredObject)):
        assert set(value._fields) <= {"pk", *(field.attname for field in model._meta.fields), "object"}


@pytest.mark.parametrize("order", ["created", "-created", "name", "-size"])
def test_list_shown_pages_as_list_assets_does(memory: Buckets, owner: User, order: Order) -> None:
    for name in "cab":
        put(owner, name, name.encode() * ord(name))
    create_folder(owner_id=owner.pk, name="f", parent=None)
    cursor, seen = "", list[UUID]()
    while True:
        models = list_assets(owner.pk, Filters(), order=order, cursor=cursor, size=1)
        values = list_shown(owner.pk, Filters(), order=order, cursor=cursor, size=1)
        assert ([a.pk for a in models.assets], models.next) == ([a.pk for a in values.assets], values.next)
        seen += [asset.pk for asset in values.assets]
        if not (cursor := values.next):
            break
    assert len(set(seen)) == len(seen) == 4
