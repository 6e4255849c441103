"""Which asset is meant: by reference, id, key or name; in the catalog, or without one in the job's manifest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID

from assets.models import Asset
from assets.services.listing import Filters
from assets.workflows.binding import Binding, Used
from assets.workflows.errors import AssetNotFoundError
from assets.workflows.job_inputs import ManifestEntry, read_manifest
from assets.workflows.library import Library
from assets.workflows.references import AssetRef, is_reference, reference_from
from storagecache.environment import Environment

AssetLike: TypeAlias = Asset | AssetRef | Mapping[str, Any] | UUID | str


class Finder:
    """Finds the assets of one context. What is found becomes a source of later assets only once it is `noted`."""

    def __init__(self, binding: Binding, used: Used, manifest: Mapping[str, ManifestEntry] | None) -> None:
        self.binding = binding
        self.library = Library(binding.user_id)
        self._used = used
        self.known_manifest = manifest

    def find(self, asset: AssetLike) -> Asset:
        """Find the asset that is meant; one that was handed over must still be this user's.

        Raises:
            AssetNotFoundError
        """
        if isinstance(asset, Mapping):
            asset = reference_of(asset)
        if isinstance(asset, AssetRef):
            if not asset.asset_id:
                raise AssetNotFoundError.of(asset.uri.partition("?")[0][:80] or "of an empty reference")
            return self.by_id(asset.asset_id)
        if isinstance(asset, Asset):
            return self.by_id(asset.pk)
        if isinstance(asset, str) and self.binding.has_catalog:
            return self.library.by_id_or_key(id_in_uri(asset) if asset.startswith("asset:") else asset)
        return self.by_id(asset)

    def by_id(self, asset_id: object) -> Asset:
        """Find an asset by its id, without a catalog also by an asset: URI.

        Raises:
            AssetNotFoundError
        """
        if self.binding.has_catalog:
            return self.library.by_id(asset_id)
        text = str(asset_id)
        wanted = id_in_uri(text) if text.startswith("asset:") else text
        entry = self._manifest().get(wanted.replace("-", "").lower())
        if entry is None:
            raise AssetNotFoundError.of(asset_id)
        return self._shown(entry)

    def by_name(self, name: str) -> Asset:
        """Find the newest file of this name; in a manifest the last.

        Raises:
            AssetNotFoundError
        """
        if self.binding.has_catalog:
            return self.library.by_name(name)
        named = [entry for entry in self._manifest().values() if entry.name == name]
        if not named:
            raise AssetNotFoundError.of(name)
        return self._shown(named[-1])

    def list(self, filters: Filters, *, recursive: bool, limit: int | None) -> list[Asset]:
        """List assets; of a manifest, which has no folders, all of the content type."""
        if self.binding.has_catalog:
            return self.library.list(filters, recursive=recursive, limit=limit)
        chosen = [entry for entry in self._manifest().values() if entry.type.startswith(filters.content_type)]
        return [self._shown(entry) for entry in chosen[:limit]]

    def noted(self, asset: Asset) -> Asset:
        """Record an asset, unless it is a folder, as a source of what is created afterwards."""
        if not asset.is_folder:
            self._used.note(asset.pk)
        return asset

    def note_if_found(self, asset_id: str | None) -> None:
        """Record an asset as a source, if it is there."""
        try:
            self.noted(self.by_id(asset_id))
        except AssetNotFoundError:
            return

    def entry(self, asset: Asset) -> ManifestEntry | None:
        """Find an asset in the job's manifest; where the catalog is asked, only a file of the bytes that it has now."""
        entry = self._manifest().get(asset.pk.hex)
        if entry is None or not self.binding.has_catalog:
            return entry
        return entry if asset.object is not None and asset.object.sha256 == entry.sha256 else None

    def entry_at(self, path: Path) -> ManifestEntry | None:
        """Find the input whose file lies at this real path."""
        return next((entry for entry in self._manifest().values() if entry.path == path), None)

    def _manifest(self) -> Mapping[str, ManifestEntry]:
        if self.known_manifest is None:
            workspace, environment = self.binding.workspace_dir, Environment.current()
            # Where there are several users, a forged manifest must not lead to another's bytes.
            roots = (environment.asset_folder, environment.temp_folder) if environment.auth == "local" else ()
            self.known_manifest = read_manifest(workspace, roots) if workspace else {}
        return self.known_manifest

    def _shown(self, entry: ManifestEntry) -> Asset:
        """Show a job's input as an asset; it is not to be saved."""
        size, owner = entry.path.stat().st_size, self.binding.user_id
        return Asset(id=UUID(entry.id), owner_id=owner, name=entry.name, content_type=entry.type, size=size)


def reference_of(value: Mapping[str, Any]) -> AssetRef:
    """Read the JSON of a reference, or any other that has an asset's `id`."""
    return reference_from(value) if is_reference(value) else AssetRef(asset_id=str(value.get("id", "")) or None)


def id_in_uri(uri: str) -> str:
    """Read the id, or the key, out of an asset: URI."""
    return uri.partition(":")[2].lstrip("/").partition("?")[0].partition("/")[0].partition(".")[0]
