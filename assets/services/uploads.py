"""Create assets and replace their bytes: staged bytes become an object, then one section switches the pointer."""

from __future__ import annotations

import copy
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
from assets.models import Asset, StoredObject, fold_name
from assets.prepared import Insertion
from assets.services import changes
from assets.services.folders import lock_with_folder
from assets.services.metadata import check_metadata
from assets.services.objects import (
    ObjectCollectedError,
    UploadGivenUpError,
    discard_object,
    drop_references,
    find_twin,
    lock_objects,
    make_ready,
    store_object,
    take_reference,
)
from assets.services.previews import announce, measured, preview_for
from assets.services.quota import refuse_if_full
from assets.services.reading import asset_at
from assets.services.sections import release_connection, write_section
from assets.staging import Expected, Source, StagedFile, stage_stream
from storagecache.environment import Environment
from storagecache.errors import BackendUnavailableError, ObjectExistsError, ObjectNotFoundError
from storagecache.keys import validate_key

logger = logging.getLogger(__name__)

_ATTEMPTS: Final = 5  # at a key that others create and delete at the same moment

Precondition = Callable[[Asset | None], None]  # given the live asset, if any; raises PreconditionFailedError
Fields = dict[str, Any]  # of an asset's row, by name
# Called at the beginning of the section, to take locks; what it returns is given the locked asset, and gives the fields
# to write together with its new bytes.
Amend = Callable[[], Callable[[Asset], Fields]]


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

    def __post_init__(self) -> None:
        """Raise InvalidMetadataError for metadata that the catalog does not take."""
        check_metadata(self.metadata)


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
        _check_early(bucket, key, owner.pk, _must_be_new)
    release_connection()
    named = replace(details, name=name)
    with stage_stream(content, storages[bucket], name=name, content_type=content_type) as staged:
        return put_staged(staged, owner=owner, bucket=bucket, key=key, details=named, check=_must_be_new).asset


def replace_content(
    asset: Asset,
    content: Source,
    *,
    content_type: str = "",
    expected: Expected = Expected(),  # noqa: B008  # frozen
    check: Precondition = lambda current: None,
    amend: Amend | None = None,
) -> Asset:
    """Replace the bytes of an asset: readers see the old or the new ones, never a mix.

    Raises:
        ObjectNotFoundError: the asset went away meanwhile.
        PreconditionFailedError: from `check`, judged before the stream is read and again when the pointer switches.
        DigestMismatchError, ObjectTooLargeError, StorageFullError, BackendUnavailableError
    """
    if asset.key is None:
        raise ObjectNotFoundError("A folder has no bytes.")
    _judge(_live_at(asset.bucket, asset.key), asset.owner_id, check)
    refuse_if_full(asset.owner_id, asset.bucket, asset.key, expected.length or 0)
    claimed = content_type or asset.content_type
    target = _Target(
        owner_id=asset.owner_id, bucket=asset.bucket, key=asset.key, check=check, asset_id=asset.pk, amend=amend
    )
    with stage_stream(
        content, storages[asset.bucket], name=asset.name, content_type=claimed, expected=expected
    ) as staged:
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
    refuse_if_full(owner.pk, bucket, key, expected.length or 0)
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
    """Store staged bytes at an address; without a key, at one made from the new asset's id.

    Temp assets end at `details.expires_at`, and after TEMP_TTL at the latest.

    Raises:
        ObjectNotFoundError: the folder `details.parent` went away.
        ObjectExistsError: the key belongs to another owner.
        PreconditionFailedError: from `check`.
        InvalidKeyError, StorageFullError, BackendUnavailableError
    """
    if key is not None:
        validate_key(key)
    bounded = replace(details, expires_at=_bounded(bucket, details.expires_at))
    return _store(staged, _Target(owner_id=owner.pk, bucket=bucket, key=key, check=check, details=bounded))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """Where staged bytes go: an address, or an asset that must be there."""

    owner_id: int
    bucket: str
    key: str | None
    check: Precondition
    details: AssetDetails = AssetDetails()  # frozen
    asset_id: UUID | None = None
    amend: Amend | None = None

    def locate(self) -> Asset | None:
        """Find and lock the asset that is there now, expired or not; its object is not joined (see lock_objects)."""
        if self.key is None:
            return None
        found = asset_at(self.bucket, self.key, lock=True)
        return found if found is None or self.asset_id in (None, found.pk) else None

    def lock_related(self) -> set[UUID]:
        """Lock the folder and the sources of a new asset; returns the sources that are still there.

        Raises:
            ObjectNotFoundError: the folder went away.
        """
        parent_id = self.details.parent.pk if self.details.parent else None
        if not (parent_id or self.details.sources):
            return set()
        there = lock_with_folder(self.owner_id, self.details.sources, parent_id)
        return there.keys() & set(self.details.sources)


def _check_early(bucket: str, key: str, owner_id: int, check: Precondition) -> None:
    """Refuse cheaply what would be refused after the upload; most addresses are free, and a short question tells so."""
    _judge(_live_at(bucket, key) if asset_at(bucket, key) else None, owner_id, check)


def _live_at(bucket: str, key: str) -> Asset | None:
    live = Asset.objects.at(bucket, key).alive(timezone.now()).select_related("object")
    return next(iter(live[:1]), None)


def _judge(current: Asset | None, owner_id: int, check: Precondition) -> None:
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
    refuse_if_full(target.owner_id, target.bucket, target.key, staged.size)
    stored = store_object(staged, target.bucket, preview=preview_for(staged.content_type))
    try:
        return _commit(staged, target, stored, make_ready)
    except UploadGivenUpError:
        discard_object(stored)
        raise


def _commit(staged: StagedFile, target: _Target, stored: StoredObject, take: Callable[[StoredObject], None]) -> Stored:
    """Make or switch the asset in one section; two that create one key at once become a create and a replace."""
    for _ in range(_ATTEMPTS):
        try:
            with write_section():
                result = _switch(staged, target, stored, take)
        except IntegrityError:
            continue  # another writer was faster: look again at what is there now
        release_connection()
        for name, value in announce(stored).items():
            setattr(result.asset, name, value)
        return result
    raise BackendUnavailableError("Others keep writing at this address. Try again.")


def _switch(staged: StagedFile, target: _Target, stored: StoredObject, take: Callable[[StoredObject], None]) -> Stored:
    amendment = target.amend() if target.amend else None
    found = target.locate()
    if found is None:
        return _create(staged, target, stored, take)
    assert found.object_id is not None  # what has a key has an object
    found.object = lock_objects(stored.id, found.object_id)[found.object_id]
    now = timezone.now()
    if not _is_alive(found, now):
        gone = copy.copy(found)
        found.delete()
        changes.removed([gone])
        return _create(staged, target, stored, take)
    _refuse_foreign(found, target.owner_id)
    target.check(found)
    take(stored)
    if found.object_id != stored.id:
        drop_references(found.object_id)
    before = copy.copy(found)
    fields = amendment(found) if amendment else {}
    replaced = _replace(found, staged, stored, target.details.expires_at, now, fields)
    changes.changed(before, replaced)
    return Stored(replaced, created=False)


def _create(staged: StagedFile, target: _Target, stored: StoredObject, take: Callable[[StoredObject], None]) -> Stored:
    target.check(None)
    if target.asset_id is not None:
        raise ObjectNotFoundError("The asset was deleted while its new bytes arrived.")
    sources = target.lock_related()
    take(stored)
    asset = _insert(staged, target, stored)
    changes.created(asset, sources)
    return Stored(asset, created=True)


def _replace(
    asset: Asset, staged: StagedFile, stored: StoredObject, expires_at: datetime | None, now: datetime, more: Fields
) -> Asset:
    """Switch the pointer; Last-Modified moves by a second at least, so that it tells two contents apart."""
    previous = asset.content_changed_at or now
    fields: Fields = {
        "object": stored,
        "size": staged.size,
        "content_type": staged.content_type,
        "content_changed_at": max(now, previous + timedelta(seconds=1)),
        "updated_at": now,
        "expires_at": expires_at or asset.expires_at,
        "revision": asset.revision + 1,
        **(dict.fromkeys(("duration", "width", "height")) | measured(stored)),
        **more,
    }
    Asset.objects.filter(pk=asset.pk).update(**fields)
    for name, value in fields.items():
        setattr(asset, name, value)
    return asset


def _insert(staged: StagedFile, target: _Target, stored: StoredObject) -> Asset:
    asset_id, now = new_id(), timezone.now()  # made under the lock: no asset appears behind an open cursor
    details = target.details
    copied = {name: getattr(details, name) for name in _COPIED} | measured(stored)  # what was measured wins
    asset = Asset(
        id=asset_id, owner_id=target.owner_id, bucket=target.bucket, key=target.key or _default_key(asset_id, staged),
        object=stored, name_folded=fold_name(details.name), content_type=staged.content_type, size=staged.size,
        tags=list(details.tags), created_at=now, updated_at=now, content_changed_at=now,
        **copied,
    )  # fmt: skip
    _INSERT.run(asset)
    return asset


_INSERT: Final = Insertion(Asset)
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
    """Give when a temp asset ends that is to live `expires_in` seconds (None: TEMP_TTL); others do not end."""
    if bucket != Asset.Bucket.TEMP:
        return None
    return _bounded(bucket, None if expires_in is None else timezone.now() + timedelta(seconds=expires_in))


def _bounded(bucket: str, expires_at: datetime | None) -> datetime | None:
    """Bound the end of a temp asset by TEMP_TTL from now; assets need not end."""
    if bucket != Asset.Bucket.TEMP:
        return expires_at
    longest = timezone.now() + timedelta(seconds=Environment.current().temp_ttl)
    return longest if expires_at is None else min(expires_at, longest)
