"""What the node cache may ask the catalog about assets: two callables, registered from above.

The catalog lives a floor higher, so it introduces itself here when its app starts. No model, no SQL.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

IsLive = Callable[[Collection[str]], bool]
DigestOf = Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class AssetLookup:
    """The questions: are all of these ids assets that still exist (one SELECT), and what is this one's sha256."""

    is_live: IsLive
    digest_of: DigestOf


_registered: AssetLookup | None = None


def register_assets(*, is_live: IsLive, digest_of: DigestOf) -> None:
    """Let the catalog answer for its assets; the last registration counts.

    `is_live(ids)` tells whether every id names an asset that is there and not trashed; ids are as the values had
    them. `digest_of(reference)` gives the sha256 (hex) of an asset's content by its id or `/storage/` URL, or None.
    """
    global _registered  # noqa: PLW0603 (one catalog per process)
    _registered = AssetLookup(is_live, digest_of)


def asset_digest(reference: str) -> str | None:
    """Give the sha256 of an asset's content, or None when no catalog knows it."""
    return _registered.digest_of(reference) if _registered else None


def all_live(ids: Collection[str]) -> bool:
    """Tell whether all these assets exist; without a catalog nothing can have been deleted from it."""
    return _registered.is_live(ids) if _registered else True
