"""`generate_catalog`: what it makes is what the service would have made."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from assets.models import Asset, Derivation
from assets.services.usage import usage_of
from assets.services.usage_upkeep import compare

pytestmark = pytest.mark.django_db(transaction=True)


def test_generate_catalog_fills_what_lists_search_and_lineage_read() -> None:
    User.objects.create_user(pk=1, username="owner")
    call_command("generate_catalog", assets=300, owners=2, edges=900, folders=3, json=True)
    client, folder = Client(), Asset.objects.filter(is_folder=True).order_by("pk")[0]
    listed = client.get(f"/api/assets?parent_id={folder.pk.hex}&meta.cfg__gte=1").json()["assets"]
    assert listed
    assert [asset["name"] for asset in listed[:1]] == [
        asset["name"] for asset in client.get(f"/api/assets/search?query={listed[0]['name']}").json()["assets"]
    ]
    assert Derivation.objects.count() > 500
    assert Asset.objects.filter(owner_id=1, is_folder=False).count() == 200


def test_generate_catalog_leaves_every_counter_as_it_ought_to_be() -> None:
    User.objects.create_user(pk=1, username="owner")
    call_command("generate_catalog", assets=300, owners=2, folders=3)
    owners = User.objects.values_list("pk", flat=True)
    assert len(owners) == 2
    for owner in owners:
        assert usage_of(owner, now=timezone.now()).live.count == Asset.objects.filter(owner=owner, size__gt=-1).count()
        assert compare(owner) == []


def test_generate_catalog_leaves_a_library_alone() -> None:
    User.objects.create_user(pk=1, username="owner")
    call_command("generate_catalog", assets=1)
    with pytest.raises(CommandError, match="not empty"):
        call_command("generate_catalog", assets=1)
