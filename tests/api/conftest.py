"""Two users, clients that are somebody or nobody, and what makes assets quickly."""

from __future__ import annotations

import io
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from assets.ids import new_id
from assets.models import Asset, fold_name
from assets.services import AssetDetails, create_asset
from tests.assets.conftest import make_folder  # noqa: F401  # for the tests here
from tests.roles import ChangeEnvironment

STRANGER = "203.0.113.9"  # not this machine, so not the local user
Configure = ChangeEnvironment


@pytest.fixture
def configure(change_environment: ChangeEnvironment) -> Configure:
    """Give a function that changes fields of the environment for this test."""
    return change_environment


@pytest.fixture
def owner(db: None) -> User:
    """Make the local user."""
    return User.objects.create_user(pk=1, username="owner")


@pytest.fixture
def other(db: None) -> User:
    """Make somebody else."""
    return User.objects.create_user(pk=2, username="other")


@pytest.fixture
def client(owner: User) -> Client:
    """Give a client on this machine, which is the local user."""
    return Client(enforce_csrf_checks=True)


@pytest.fixture
def nobody(owner: User) -> Client:
    """Give a client that nobody knows, and whom only a signed or public URL helps."""
    return Client(REMOTE_ADDR=STRANGER)


@pytest.fixture
def fetch() -> Callable[[str], tuple[int, bytes, Any]]:
    """Give a function that fetches a URL as anybody would: status, body, headers."""

    def ask(url: str) -> tuple[int, bytes, Any]:
        try:
            with urllib.request.urlopen(url) as answer:
                return answer.status, answer.read(), answer.headers
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read(), error.headers

    return ask


def make_file(owner: User, name: str = "a.png", content: bytes = b"0123456789", **details: Any) -> Asset:
    """Store a file as the service does."""
    bucket, key = details.pop("bucket", "assets"), details.pop("key", None)
    content_type = details.pop("content_type", "text/plain")
    asset = create_asset(
        owner=owner,
        name=name,
        content=io.BytesIO(content),
        content_type=content_type,
        bucket=bucket,
        key=key,
        details=AssetDetails(**details),
    )
    return Asset.objects.select_related("object").get(pk=asset.pk)


def copies(asset: Asset, count: int) -> list[Asset]:
    """Make many rows that share an asset's object: what a library looks like, without its bytes."""
    assert asset.object is not None
    rows = []
    for number in range(count):
        row = Asset.objects.get(pk=asset.pk)
        row.pk = new_id()
        row.key = f"copies/{row.pk.hex}"
        row.name = f"copy {number:05d}"
        row.name_folded = fold_name(row.name)
        rows.append(row)
    return Asset.objects.bulk_create(rows)


def ago(**parts: float) -> Any:
    """Give a time in the past."""
    return timezone.now() - timedelta(**parts)
