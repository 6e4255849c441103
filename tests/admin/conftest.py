"""Users, clients and assets for the tests of the admin. Assets with bytes come from services; rows in bulk do not."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from assets.ids import new_id
from assets.models import Asset, StoredObject, fold_name
from assets.services import create_asset

PNG = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89"
    b"\x00\x00\x00\rIDATx\x9cc\xf8\xcf\xc0\xf0\x1f\x00\x05\x00\x01\xff\x89\x99=\x1d\x00\x00\x00\x00IEND\xaeB`\x82"
)
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
HOSTILE = '"><img src=x onerror=alert(1)>'

MakeUser = Callable[..., User]
MakeAsset = Callable[..., Asset]


@pytest.fixture(autouse=True)
def plain_static_files(settings: Any, tmp_path: Path) -> None:
    """Storages in folders of this test; static files without a manifest, and none collected."""
    (tmp_path / "static").mkdir()
    settings.STATIC_ROOT = tmp_path / "static"
    settings.STORAGES = {
        **django_settings.STORAGES,
        **{
            alias: {
                "BACKEND": "storagecache.storages.filesystem.FilesystemObjectStorage",
                "OPTIONS": {"location": str(tmp_path / alias), "bucket": alias},
            }
            for alias in ("assets", "temp")
        },
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }


@pytest.fixture
def make_user(transactional_db: None) -> MakeUser:
    """Make users: plain, staff with permissions on assets, or superusers."""

    def make(name: str, *permissions: str, staff: bool = True, superuser: bool = False) -> User:
        user = User.objects.create(username=name, is_staff=staff, is_superuser=superuser)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        return user

    return make


@pytest.fixture
def admin_user(make_user: MakeUser) -> User:
    """A superuser."""
    return make_user("root", superuser=True)


@pytest.fixture
def staff(make_user: MakeUser) -> User:
    """Staff who may view, add and delete assets."""
    return make_user("staff", "view_asset", "add_asset", "delete_asset")


@pytest.fixture
def client_of() -> Callable[[User], Client]:
    """Log users in."""

    def log_in(user: User) -> Client:
        client = Client()
        client.force_login(user)
        return client

    return log_in


@pytest.fixture
def make_asset(transactional_db: None) -> MakeAsset:
    """Store bytes as an asset."""

    def make(owner: User, name: str = "a.png", content: bytes = PNG, **more: Any) -> Asset:
        return create_asset(owner=owner, name=name, content=io.BytesIO(content), **more)

    return make


def add_rows(owner: User, count: int, *, bucket: str = "assets", content_type: str = "image/png") -> list[Asset]:
    """Write rows of assets and their objects, without bytes: for lists only."""
    now = timezone.now()
    objects, assets = [], []
    for number in range(count):
        object_id, asset_id = new_id(), new_id()
        objects.append(StoredObject(
            id=object_id, storage=bucket, bucket=bucket, key=f"{object_id.hex[-2:]}/{object_id.hex}", size=10,
            sha256=f"{number:064x}", content_type=content_type, state="ready", state_changed_at=now,
            referenced_at=now, created_at=now,
        ))  # fmt: skip
        assets.append(Asset(
            id=asset_id, owner=owner, bucket=bucket, key=f"{asset_id.hex}.png", object_id=object_id,
            name=f"Row {number}.png", name_folded=fold_name(f"Row {number}.png"), content_type=content_type, size=10,
            expires_at=now + timedelta(hours=1) if bucket == "temp" else None, created_at=now, updated_at=now,
            content_changed_at=now,
        ))  # fmt: skip
    StoredObject.objects.bulk_create(objects)
    Asset.objects.bulk_create(assets)
    return assets
