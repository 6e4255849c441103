"""Reading: what an address serves now."""

from __future__ import annotations

import io
from datetime import UTC, timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from assets.models import Asset
from assets.services import locate, put_content
from storagecache.errors import ObjectNotFoundError
from tests.assets.conftest import Buckets

pytestmark = pytest.mark.django_db(transaction=True)


def test_locate_gives_times_in_utc(memory: Buckets, owner: User) -> None:
    put_content(owner=owner, bucket="temp", key="k", content=io.BytesIO(b"x"))
    located = locate("temp", "k")
    asset = Asset.objects.get(key="k")
    assert located.changed_at == asset.content_changed_at
    assert located.expires_at == asset.expires_at
    assert located.changed_at.utcoffset() == timedelta(0)
    assert located.changed_at.astimezone(UTC) == located.changed_at


def test_locate_of_expired_temp_finds_nothing(memory: Buckets, owner: User) -> None:
    put_content(owner=owner, bucket="temp", key="k", content=io.BytesIO(b"x"))
    Asset.objects.filter(key="k").update(expires_at=timezone.now() - timedelta(microseconds=1))
    with pytest.raises(ObjectNotFoundError):
        locate("temp", "k")
