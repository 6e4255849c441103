"""The only writer of the catalog and of the buckets. Views, commands and the admin call these functions."""

from assets.services.deletion import delete_assets, delete_at
from assets.services.lookups import Lookups
from assets.services.objects import storage_of
from assets.services.purging import PurgeReport, purge
from assets.services.reading import (
    Located,
    find_asset_at,
    locate,
    located,
    nothing_at,
    open_asset,
    open_object,
    storage_for,
)
from assets.services.sections import release_connection
from assets.services.uploads import (
    AssetDetails,
    Precondition,
    Stored,
    create_asset,
    put_content,
    put_staged,
    replace_content,
)

__all__ = [
    "AssetDetails",
    "Located",
    "Lookups",
    "Precondition",
    "PurgeReport",
    "Stored",
    "create_asset",
    "delete_assets",
    "delete_at",
    "find_asset_at",
    "locate",
    "located",
    "nothing_at",
    "open_asset",
    "open_object",
    "purge",
    "put_content",
    "put_staged",
    "release_connection",
    "replace_content",
    "storage_for",
    "storage_of",
]
