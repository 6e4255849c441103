"""Create assets and replace their bytes: staged bytes become an object, then one section switches the pointer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.contrib.auth.models import AbstractBaseUser
from django.core.files.storage import storages
from django.db import IntegrityError
from django.utils import timezone

from assets.content_types import object_extension
from assets.ids import new_id
from assets.models import Asset, Derivation, fold_name
from assets.services.objects import (
    ObjectCollectedError,
    drop_references,
    find_twin,
    lock_objects,
    make_ready,
    store_object,
    take_reference,
)
from assets.services.sections import release_connection, write_section
from assets.staging import Expected, Source, StagedFile, stage_stream
from storagecache.environment import Environment
from storagecache.errors import ObjectExistsError, ObjectNotFoundError
from storagecache.keys import validate_key

logger = logging.getLogger(__name__)

Precondition = Callable[[Asset | None], None]  # given the live asset, if any; raises PreconditionFailedError


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetDetails:
    """What a caller may say of an asset beside its bytes."""

    name: str = ""
    parent: Asset | None = None
    workflow_id: str = ""
    job_id: str = ""
    node_id: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    is_public: bool = False
    duration: float | None = None  # seconds
    width: int | None = None  # pixels
    height: int | None = None  # pixels
    expires_at: datetime | None = None
    sources: tuple[UUID, ...] = ()  # ids of the assets it was made from


@dataclass(frozen=True, slots=True)
class Stored:
    """The asset as it is after an upload, and whether it is new."""

    asset: Asset
    created: bool


def create_asset(
    *,
    owner: AbstractBaseUser,
    name: str,
    content: Source,
    content_type: str = "",
    bucket: str = "assets",
    key: str | None = None,
    details: AssetDetails = AssetDetails(),  # frozen
) -> Asset:
    """Store a stream as a new asset; its key is `<asset id>.<extension>` unless one is given.

    Raises:
        ObjectExistsError: the key is taken.
        InvalidKeyError, ObjectTooLargeError, StorageFullError, BackendUnavailableError
    """
    if key is not None:
        validate_key(key)
    named = replace(details, name=name, expires_at=details.expires_at or _expiry(bucket, None))
    with stage_stream(content, storages[bucket], name=name, content_type=content_type) as staged:
        return put_staged(staged, owner=owner, bucket=bucket, key=key, details=named, check=_must_be_new).asset


def replace_content(
    asset: Asset, content: Source, *, content_type: str = "", check: Precondition = lambda current: None
) -> Asset:
    """Replace the bytes of an asset: readers see the old or the new ones, never a mix.

    Raises:
        ObjectNotFoundError: the asset went away meanwhile.
        PreconditionFailedError: from `check`.
    """
    if asset.key is None:
        raise ObjectNotFoundError("A folder has no bytes.")
    claimed = content_type or asset.content_type
    target = _Target(owner_id=asset.owner_id, bucket=asset.bucket, key=asset.key, check=check, asset_id=asset.pk)
    with stage_stream(content, storages[asset.bucket], name=asset.name, content_type=claimed) as staged:
        return _store(staged, target).asset


def put_content(
    *,
    owner: AbstractBaseUser,
    bucket: str,
    key: str,
    content: Source,
    content_type: str = "",
    expected: Expected = Expected(),  # noqa: B008  # frozen
    expires_in: int | None = None,
    check: Precondition = lambda current: None,
) -> Stored:
    """Create the asset at an address, or replace its bytes. `expires_in` is in seconds.

    Raises:
        ObjectExistsError: the key belongs to another owner.
        PreconditionFailedError: from `check`, judged before the body is read and again when the pointer switches.
        DigestMismatchError, InvalidKeyError, ObjectTooLargeError, StorageFullError, BackendUnavailableError
    """
    validate_key(key)
    _check_early(bucket, key, owner.pk, check)
    name = key.rpartition("/")[2]
    with stage_stream(content, storages[bucket], name=name, content_type=content_type, expected=expected) as staged:
        details = AssetDetails(name=name, expires_at=_expiry(bucket, expires_in))
        return put_staged(staged, owner=owner, bucket=bucket, key=key, details=details, check=check)


def put_staged(
    staged: StagedFile,
    *,
    owner: AbstractBaseUser,
    bucket: str,
    key: str | None,
    details: AssetDetails,
    check: Precondition = lambda current: None,
) -> Stored:
    """Store staged bytes at an address; without a key, at one made from the new asset's id."""
    if key is not None:
        validate_key(key)
    target = _Target(owner_id=owner.pk, bucket=bucket, key=key, check=check, details=details)
    return _store(staged, target)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """Where staged bytes go: an address, or an asset that must be there."""

    owner_id: int
    bucket: str
    key: str | None
    check: Precondition
    details: AssetDetails = AssetDetails()  # frozen
    asset_id: UUID | None = None

    def locate(self) -> Asset | None:
        """Find and lock the asset that is there now, expired or not."""
        if self.key is None:
            return None
        found = Asset.objects.at(self.bucket, self.key)
        if self.asset_id is not None:
            found = found.filter(pk=self.asset_id)
        return found.select_related("object").select_for_update(of=("self",)).first()


def _check_early(bucket: str, key: str, owner_id: int, check: Precondition) -> None:
    """Refuse cheaply what would be refused after the upload."""
    current = Asset.objects.at(bucket, key).alive(timezone.now()).select_related("object").first()
    release_connection()
    _refuse_foreign(current, owner_id)
    check(current)


def _store(staged: StagedFile, target: _Target) -> Stored:
    """Bring the bytes into the bucket, or find them there; then switch the pointer."""
    twin = find_twin(staged, target.bucket, target.owner_id)
    if twin is not None:
        try:
            return _commit(staged, target, twin, take_reference)
        except ObjectCollectedError:
            logger.info("twin went away object=%s", twin)
    return _commit(staged, target, store_object(staged, target.bucket), make_ready)


def _commit(staged: StagedFile, target: _Target, object_id: UUID, take: Callable[[UUID], None]) -> Stored:
    """Make or switch the asset in one section; two that create one key at once become a create and a replace."""
    try:
        with write_section():
            return _switch(staged, target, object_id, take)
    except IntegrityError:
        with write_section():
            return _switch(staged, target, object_id, take)


def _switch(staged: StagedFile, target: _Target, object_id: UUID, take: Callable[[UUID], None]) -> Stored:
    now = timezone.now()
    found = target.locate()
    current = found if found is not None and _is_alive(found, now) else None
    _refuse_foreign(current, target.owner_id)
    target.check(current)
    if current is None and target.asset_id is not None:
        raise ObjectNotFoundError("The asset was deleted while its new bytes arrived.")
    lock_objects(object_id, found.object_id if found else None)
    take(object_id)
    if found is not None and found.object_id != object_id:
        drop_references(found.object_id)
    if current is not None:
        return Stored(_replace(current, staged, object_id, target.details.expires_at, now), created=False)
    if found is not None:
        found.delete()
    return Stored(_insert(staged, target, object_id, now), created=True)


def _replace(asset: Asset, staged: StagedFile, object_id: UUID, expires_at: datetime | None, now: datetime) -> Asset:
    """Switch the pointer; Last-Modified moves by a second at least, so that it tells two contents apart."""
    previous = asset.content_changed_at or now
    changes: dict[str, Any] = {
        "object_id": object_id,
        "size": staged.size,
        "content_type": staged.content_type,
        "content_changed_at": max(now, previous + timedelta(seconds=1)),
        "updated_at": now,
        "expires_at": expires_at or asset.expires_at,
        "revision": asset.revision + 1,
        "duration": None,
        "width": None,
        "height": None,
    }
    Asset.objects.filter(pk=asset.pk).update(**changes)
    for name, value in changes.items():
        setattr(asset, name, value)
    return asset


def _insert(staged: StagedFile, target: _Target, object_id: UUID, now: datetime) -> Asset:
    asset_id = new_id()  # made under the lock: no asset appears behind an open cursor
    details = target.details
    asset = Asset(
        id=asset_id, owner_id=target.owner_id, bucket=target.bucket, key=target.key or _default_key(asset_id, staged),
        object_id=object_id, name_folded=fold_name(details.name), content_type=staged.content_type, size=staged.size,
        tags=list(details.tags), created_at=now, updated_at=now, content_changed_at=now,
        **{name: getattr(details, name) for name in _COPIED},
    )  # fmt: skip
    asset.save(force_insert=True)
    sources = set(details.sources)
    if sources:
        links = [Derivation(asset=asset, source_id=i, job_id=asset.job_id, node_id=asset.node_id) for i in sources]
        Derivation.objects.bulk_create(links)
    return asset


_COPIED: Final = (
    "name", "parent", "workflow_id", "job_id", "node_id", "metadata", "is_public", "duration", "width", "height",
    "expires_at",
)  # fmt: skip


def _default_key(asset_id: UUID, staged: StagedFile) -> str:
    extension = object_extension(staged.content_type)
    return f"{asset_id.hex}.{extension}" if extension else asset_id.hex


def _is_alive(asset: Asset, now: datetime) -> bool:
    return asset.expires_at is None or asset.expires_at > now


def _refuse_foreign(asset: Asset | None, owner_id: int) -> None:
    if asset is not None and asset.owner_id != owner_id:
        raise ObjectExistsError("This key is taken.")  # the same text for every owner


def _must_be_new(current: Asset | None) -> None:
    if current is not None:
        raise ObjectExistsError("This key is taken.")


def _expiry(bucket: str, expires_in: int | None) -> datetime | None:
    """Give when a temp object ends: at most TEMP_TTL from now; assets do not end."""
    if bucket != Asset.Bucket.TEMP:
        return None
    longest = Environment.current().temp_ttl
    return timezone.now() + timedelta(seconds=min(expires_in or longest, longest))
