"""Delete assets: rows go and references are dropped; no bucket is touched (`assets.services.purging` does that)."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from django.utils import timezone

from assets.models import Asset
from assets.services.objects import drop_references, lock_objects
from assets.services.reading import nothing_at
from assets.services.sections import write_section
from assets.services.uploads import Precondition


def delete_at(owner_id: int, bucket: str, key: str, *, check: Precondition = lambda current: None) -> None:
    """Delete the live asset at an address for good.

    Raises:
        ObjectNotFoundError: none, or another owner's.
        PreconditionFailedError: from `check`, judged under the row's lock.
    """
    with write_section():
        found = Asset.objects.at(bucket, key).alive(timezone.now()).filter(owner_id=owner_id)
        asset = found.select_related("object").select_for_update(of=("self",)).first()
        if asset is None or asset.object is None:
            raise nothing_at(bucket, key)
        check(asset)
        _remove([asset])


def delete_assets(asset_ids: Iterable[UUID], *, owner_id: int | None = None) -> list[UUID]:
    """Delete files for good, in one section; returns the ids that were there. None as owner: anybody's."""
    with write_section():
        found = Asset.objects.filter(pk__in=list(asset_ids), is_folder=False)
        if owner_id is not None:
            found = found.filter(owner_id=owner_id)
        assets = list(found.order_by("pk").select_for_update())
        _remove(assets)
    return [asset.pk for asset in assets]


def _remove(assets: list[Asset]) -> None:
    object_ids = [asset.object_id for asset in assets]
    lock_objects(*object_ids)
    Asset.objects.filter(pk__in=[asset.pk for asset in assets]).delete()
    drop_references(*object_ids)
