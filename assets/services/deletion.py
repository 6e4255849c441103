"""Delete assets: rows go and references are dropped; no bucket is touched (`assets.services.purging` does that)."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from django.utils import timezone

from assets.models import Asset
from assets.services import changes
from assets.services.objects import lock_objects
from assets.services.reading import nothing_at
from assets.services.sections import release_connection, write_section
from assets.services.uploads import Precondition


def delete_at(owner_id: int, bucket: str, key: str, *, check: Precondition = lambda current: None) -> None:
    """Delete the live asset at an address for good.

    Raises:
        ObjectNotFoundError: none, or another owner's.
        PreconditionFailedError: from `check`, judged under the row's lock.
    """
    with write_section():
        live = Asset.objects.at(bucket, key).alive(timezone.now()).filter(owner_id=owner_id)
        asset = next(iter(live.select_for_update()[:1]), None)
        if asset is None or asset.object_id is None:
            raise nothing_at(bucket, key)
        asset.object = lock_objects(asset.object_id)[asset.object_id]
        check(asset)
        _remove([asset])
    release_connection()


def delete_assets(asset_ids: Iterable[UUID], *, owner_id: int | None = None) -> list[UUID]:
    """Delete files for good, in one section; returns the ids that were there. None as owner: anybody's."""
    with write_section():
        found = Asset.objects.filter(pk__in=list(asset_ids), is_folder=False)
        if owner_id is not None:
            found = found.filter(owner_id=owner_id)
        assets = list(found.order_by("pk").select_for_update())
        lock_objects(*(asset.object_id for asset in assets))
        _remove(assets)
    release_connection()
    return [asset.pk for asset in assets]


def _remove(assets: list[Asset]) -> None:
    """Remove locked assets whose objects are locked too."""
    Asset.objects.filter(pk__in=[asset.pk for asset in assets]).delete()
    changes.removed(assets)
