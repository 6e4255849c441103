"""Find assets and open their bytes. One SELECT tells everything; the bucket is touched for bytes only."""

from __future__ import annotations

from typing import BinaryIO, cast

from django.core.files.storage import Storage
from django.utils import timezone

from assets.models import Asset
from assets.services.objects import storage_of
from storagecache.capabilities import RangeReader
from storagecache.errors import ObjectNotFoundError


def find_asset_at(bucket: str, key: str) -> Asset:
    """Find the live asset that answers at an address, joined with its object; costs one SELECT.

    Raises:
        ObjectNotFoundError: none, or it has expired.
    """
    asset = Asset.objects.at(bucket, key).alive(timezone.now()).select_related("object").first()
    if asset is None or asset.object is None:
        raise ObjectNotFoundError(f"Nothing at {bucket}/{key}.")
    return asset


def open_asset(asset: Asset, *, start: int = 0, length: int | None = None) -> BinaryIO:
    """Open `length` bytes of an asset from `start` (None: to the end); costs one trip to the bucket.

    The caller closes the stream.

    Raises:
        ObjectNotFoundError: a folder, or the bytes are gone.
        BackendUnavailableError: the bucket does not answer or is not configured.
    """
    if asset.object is None:
        raise ObjectNotFoundError(f"{asset.name} is a folder and has no bytes.")
    storage = cast("RangeReader", storage_for(asset))
    return storage.open_stream(asset.object.key, start, length)


def storage_for(asset: Asset) -> Storage:
    """Give the storage that holds an asset's bytes.

    Raises:
        ObjectNotFoundError: a folder.
        BackendUnavailableError: the recorded bucket is not configured now.
    """
    if asset.object is None:
        raise ObjectNotFoundError(f"{asset.name} is a folder and has no bytes.")
    return storage_of(asset.object)
