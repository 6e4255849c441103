"""What every change of the library passes through, in the section that makes it: the books that must agree with rows.

Whoever creates, changes, trashes, restores or removes assets calls one of these, as the last thing in its section, so
that a counter or an index is extended here and nowhere else. No function here changes an asset's own row.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

from assets.models import Asset, Derivation
from assets.services import usage
from assets.services.indexing import forget, index_again, index_changed, index_new, unindex
from assets.services.objects import drop_references
from assets.services.quota import charge, refund


def created(asset: Asset, sources: Collection[UUID] = ()) -> None:
    """Note a new asset; `sources` are locked assets of the same owner that it was made from.

    Raises:
        StorageFullError: the owner's quota does not allow it.
    """
    links = [Derivation(asset=asset, source_id=i, job_id=asset.job_id, node_id=asset.node_id) for i in sources]
    if links:
        Derivation.objects.bulk_create(links)
    index_new([asset])
    usage.created(asset)
    charge(asset.owner_id, asset.size or 0)


def changed(before: Asset, after: Asset) -> None:
    """Note new values of one asset: its name, folder, type, size, metadata or tags.

    Raises:
        StorageFullError: it grew, and the owner's quota does not allow it.
    """
    index_changed(before, after)
    usage.changed(before, after)
    charge(after.owner_id, (after.size or 0) - (before.size or 0))


def trashed(assets: Sequence[Asset]) -> None:
    """Note live assets of one owner that went to the trash, where the quota goes on counting them; no `metadata`."""
    usage.trashed(assets)
    unindex([asset.pk for asset in assets])


def restored(assets: Sequence[Asset]) -> None:
    """Note assets of one owner that came back from the trash, as they are now; `metadata` is not loaded."""
    index_again(assets)
    usage.restored(assets)


def removed(assets: Sequence[Asset]) -> None:
    """Note assets that went for good, live ones and trashed ones; their objects are locked."""
    forget([asset.pk for asset in assets])
    drop_references(*(asset.object_id for asset in assets))
    usage.removed(assets)
    refund(assets)
