"""Find assets and open their bytes. One SELECT tells everything; the bucket is touched for bytes only."""

from __future__ import annotations

import functools
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import BinaryIO, Final, cast
from urllib.parse import unquote, urlsplit
from uuid import UUID

from django.core.files.storage import Storage
from django.db import connection
from django.utils import timezone

from assets.models import Asset, AssetQuerySet
from assets.prepared import Given, Selection
from assets.services.objects import Placed, storage_of
from storagecache.capabilities import LocalFiles, RangeReader
from storagecache.errors import ObjectNotFoundError


@dataclass(frozen=True, slots=True)
class Located:
    """What serving needs to know of the asset at an address: its access, its entity and where its bytes lie."""

    asset_id: str  # 32 hex digits
    object_id: str  # 32 hex digits
    owner_id: int
    is_public: bool
    name: str
    content_type: str
    changed_at: datetime
    expires_at: datetime | None
    size: int  # bytes
    sha256: str
    storage: str
    bucket: str
    key: str

    @property
    def etag(self) -> str:
        """The strong ETag of the bytes."""
        return f'"{self.sha256}"'


_COLUMNS: Final = (
    "pk", "object_id", "owner_id", "is_public", "name", "content_type", "content_changed_at", "expires_at",
    "object__size", "object__sha256", "object__storage", "object__bucket", "object__key",
)  # fmt: skip


def _at() -> AssetQuerySet:
    return Asset.objects.at(Given(Asset, "bucket"), Given(Asset, "key"))


_AT: Final = Selection(_at)
_LOCKED_AT: Final = Selection(lambda: _at().select_for_update())


def locate(bucket: str, key: str) -> Located:
    """Find what an address serves now; costs one SELECT, and none of the ORM's building of it.

    Raises:
        ObjectNotFoundError: nothing is there, or it has expired.
    """
    with connection.cursor() as cursor:
        cursor.execute(locating_sql(), [bucket, key])
        row = cursor.fetchone()
    found = located(row) if row else None
    if found is None or (found.expires_at is not None and found.expires_at <= timezone.now()):
        raise nothing_at(bucket, key)
    return found


def open_object(placed: Placed, start: int, length: int | None) -> BinaryIO:
    """Open an object's bytes from `start`; costs one trip to the bucket. The caller closes the stream.

    The stream may hold more than `length` bytes where the rest costs nothing: a file on this machine.

    Raises:
        ObjectNotFoundError: the bytes are gone.
        BackendUnavailableError: the bucket does not answer or is not configured.
    """
    storage = storage_of(placed)
    reader = cast("RangeReader", storage)
    return reader.open_stream(placed.key, start, None if isinstance(storage, LocalFiles) else length)


def nothing_at(bucket: str, key: str) -> ObjectNotFoundError:
    """Make the one error of an absent, expired or foreign asset: its text tells them not apart."""
    return ObjectNotFoundError(f"Nothing at {bucket}/{key}.")


def find_asset_at(bucket: str, key: str) -> Asset:
    """Find the live asset that answers at an address, joined with its object; costs one SELECT.

    Raises:
        ObjectNotFoundError: none, or it has expired.
    """
    asset = Asset.objects.at(bucket, key).alive(timezone.now()).select_related("object").first()
    if asset is None or asset.object is None:
        raise nothing_at(bucket, key)
    return asset


def asset_at(bucket: str, key: str, *, lock: bool = False) -> Asset | None:
    """Find the asset at an address, expired or not, its object not joined; costs one SELECT that is built once.

    With `lock`, inside a section, its row is locked where the engine has such locks.
    """
    return (_LOCKED_AT if lock else _AT).first(bucket=bucket, key=key)


def open_asset(asset: Asset, *, start: int = 0, length: int | None = None) -> BinaryIO:
    """Open `length` bytes of an asset from `start` (None: to the end); costs one trip to the bucket.

    The caller closes the stream.

    Raises:
        ObjectNotFoundError: a folder, or the bytes are gone.
        BackendUnavailableError: the bucket does not answer or is not configured.
    """
    if asset.object is None:
        raise ObjectNotFoundError(f"{asset.name} is a folder and has no bytes.")
    return cast("RangeReader", storage_for(asset)).open_stream(asset.object.key, start, length)


def storage_for(asset: Asset) -> Storage:
    """Give the storage that holds an asset's bytes.

    Raises:
        ObjectNotFoundError: a folder.
        BackendUnavailableError: the recorded bucket is not configured now.
    """
    if asset.object is None:
        raise ObjectNotFoundError(f"{asset.name} is a folder and has no bytes.")
    return storage_of(asset.object)


def are_live(references: Collection[str]) -> bool:
    """Tell whether every one of these asset ids names an asset that is there, for the node cache; costs one SELECT."""
    try:
        ids = {UUID(reference) for reference in references}
    except ValueError:
        return False
    return Asset.objects.alive(timezone.now()).filter(pk__in=ids).count() == len(ids)


def digest_of(reference: str) -> str | None:
    """Give the hex sha256 of an asset's bytes by its id or its `/storage/` URL; None when there is none."""
    try:
        bucket, _, key = unquote(urlsplit(reference).path).removeprefix("/storage/").partition("/")
        if key:
            return locate(bucket, key).sha256
        live = Asset.objects.alive(timezone.now()).filter(pk=UUID(reference), object__isnull=False)
        return live.values_list("object__sha256", flat=True).first()
    except (ValueError, ObjectNotFoundError):
        return None


@functools.cache
def locating_sql() -> str:
    """Let the ORM write the statement once: its parameters are bucket and key, in this order."""
    sql, parameters = Asset.objects.at("b", "k").values_list(*_COLUMNS).query.sql_with_params()
    assert parameters == ("b", "k"), parameters
    return sql


def located(row: tuple[object, ...]) -> Located:
    """Read a row of `locating_sql`."""
    asset_id, object_id, owner_id, is_public, name, content_type, changed_at, expires_at, *rest = row
    return Located(
        _hex(asset_id), _hex(object_id), owner_id, bool(is_public), name, content_type,  # type: ignore[arg-type]
        _time(changed_at), _time(expires_at) if expires_at else None, *rest,  # type: ignore[arg-type]
    )  # fmt: skip


def _hex(value: object) -> str:
    """Read an id: 32 hex digits on SQLite, a UUID on PostgreSQL."""
    return str(value).replace("-", "")


def _time(value: object) -> datetime:
    """Read a time: aware on PostgreSQL; in UTC without saying so on SQLite."""
    time = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return time if time.tzinfo else time.replace(tzinfo=UTC)
