"""What finds assets beside their own row: the search index of names on SQLite, and the attributes that filters ask for.

Both hold live assets only, and every section that makes, changes, trashes, restores or removes assets calls one of
these functions; no trigger does (a later migration of the table would lose it). PostgreSQL indexes names by itself.
Searching is in `assets.services.search`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final
from uuid import UUID

from assets.attributes import attributes_of
from assets.engines import Name, engine
from assets.models import Asset, AssetAttribute
from assets.services.sections import release_connection, write_section

_ROWS: Final = 200  # of one INSERT
_BATCH: Final = 1000  # assets of one section of a rebuild


def index_new(assets: Sequence[Asset]) -> None:
    """Index assets that were just made, inside their section.

    Costs one statement on SQLite for each 200 names, and one for their attributes if they have any.
    """
    if names := engine().names:
        names.add(map(_name_of, assets))
    AssetAttribute.objects.bulk_create(_attributes(assets), batch_size=_ROWS)


def index_changed(before: Asset, after: Asset) -> None:
    """Index what changed of a live asset, inside its section.

    A new name costs one statement on SQLite, new metadata or tags cost two.
    """
    if before.name_folded != after.name_folded and (names := engine().names):
        names.change(_name_of(after))
    if (before.metadata, before.tags) != (after.metadata, after.tags):
        AssetAttribute.objects.filter(asset=after).delete()
        AssetAttribute.objects.bulk_create(_attributes([after]))


def index_again(assets: Sequence[Asset]) -> None:
    """Index assets that came back, as their rows are now, inside their section.

    Metadata that was not loaded is read. Costs two statements more than `index_new`, three with that.
    """
    unindex([asset.pk for asset in assets])
    _load_metadata(assets)
    index_new(assets)


def unindex(asset_ids: Collection[UUID]) -> None:
    """Forget assets that were trashed, inside their section; costs two statements, on PostgreSQL one."""
    if asset_ids:
        AssetAttribute.objects.filter(asset_id__in=asset_ids).delete()
        forget(asset_ids)


def forget(asset_ids: Collection[UUID]) -> None:
    """Forget the names of assets whose rows went, and their attributes with them; one statement, on PostgreSQL none."""
    if asset_ids and (names := engine().names):
        names.remove(asset_ids)


def rebuild() -> Iterator[int]:
    """Index every live asset anew, in sections of a thousand; yields how many each one did.

    Safe beside writers, and when it dies: what it has not come to stays as it was.
    """
    last = UUID(int=0)
    while True:
        with write_section():
            rows = Asset.objects.filter(pk__gt=last).order_by("pk").select_for_update(no_key=True)
            batch = list(rows.only("pk", "owner_id", "name_folded", "metadata", "tags", "trashed_at")[:_BATCH])
            unindex([asset.pk for asset in batch])
            index_new([asset for asset in batch if asset.trashed_at is None])
        release_connection()
        if not batch:
            return
        last = batch[-1].pk
        yield len(batch)


def _attributes(assets: Sequence[Asset]) -> list[AssetAttribute]:
    return [
        AssetAttribute(asset=asset, owner_id=asset.owner_id, name=found.name, text=found.text, number=found.number)
        for asset in assets
        for found in attributes_of(asset.metadata, asset.tags)
    ]


def _load_metadata(assets: Sequence[Asset]) -> None:
    """Read the metadata of assets that came without it, in one statement."""
    without = {asset.pk: asset for asset in assets if "metadata" in asset.get_deferred_fields()}
    if without:
        for asset_id, metadata in Asset.objects.filter(pk__in=list(without)).values_list("pk", "metadata"):
            without[asset_id].metadata = metadata


def _name_of(asset: Asset) -> Name:
    return Name(asset.pk, asset.owner_id, asset.name_folded)
