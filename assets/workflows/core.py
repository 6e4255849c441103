"""What every context can do with bytes: find, open, download, create and link assets, and remember what it used.

The helpers for images, sound, text, tables and video are in `media`, caches and nested values in `context`. What all of
them stand on has files of its own: `finding` (which asset), `resolving` (which bytes), `making` (what comes in).
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

from django.utils import timezone

from assets.links import current_links
from assets.models import Asset
from assets.services import AssetDetails, storage_for
from assets.services.listing import Filters
from assets.services.metadata import check_metadata
from assets.signing import MAX_LIFE
from assets.workflows import content as contents
from assets.workflows.binding import Binding, Used
from assets.workflows.content import Sink
from assets.workflows.finding import AssetLike, Finder, reference_of
from assets.workflows.job_inputs import ManifestEntry
from assets.workflows.making import OUTPUTS, ContentLike, check_measures, check_name, leave_in_outputs, opened_content
from assets.workflows.memory_values import keep_value, kept_value
from assets.workflows.references import AssetRef
from assets.workflows.resolving import content_of, content_of_uri
from assets.workflows.threads import anywhere, twin
from assets.workflows.workspace import MOUNT_POINT, resolve_inside
from storagecache.capabilities import LocalFiles
from storagecache.environment import SIGNED_URL_LIFE, Environment
from storagecache.errors import ObjectNotFoundError, UnsupportedCapabilityError


class CoreContext:
    """Finds, opens, creates and links assets for one node. Safe for threads; `a`-prefixed twins are for coroutines."""

    def __init__(self, binding: Binding, used: Used, manifest: Mapping[str, ManifestEntry] | None) -> None:
        self.binding = binding
        self._used = used
        self._finder = Finder(binding, used, manifest)

    # --- who and where -------------------------------------------------------------------------

    @property
    def user_id(self) -> str:
        """The user's id, as the API writes it."""
        return str(self.binding.user_id)

    @property
    def workflow_id(self) -> str:
        """The workflow, or ""."""
        return self.binding.workflow_id

    @property
    def job_id(self) -> str:
        """The job, or ""."""
        return self.binding.job_id

    @property
    def node_id(self) -> str:
        """The node, or ""."""
        return self.binding.node_id

    @property
    def workspace_dir(self) -> Path | None:
        """The folder that the job may write, if it has one."""
        return self.binding.workspace_dir

    @property
    def used_asset_ids(self) -> tuple[str, ...]:
        """The assets (32 hex digits each) that will be recorded as sources of the next asset."""
        return tuple(asset_id.hex for asset_id in self._used.ids())

    def resolve_workspace_path(self, path: str | os.PathLike[str]) -> Path:
        """Give the real path of a file in the workspace, which need not exist; `/workspace/...` is its root everywhere.

        Raises:
            ValueError: the context has no workspace, or the path leads out of it (InvalidKeyError), also by a link.
        """
        return resolve_inside(self.binding.workspace(), path)

    # --- finding -------------------------------------------------------------------------------

    @anywhere
    def find_asset(self, asset_id: str) -> Asset:
        """Find an asset of the user by its id; it becomes a source of what is created afterwards.

        Raises:
            ValueError: "Asset <id> not found": absent, trashed, expired or another's.
        """
        return self._finder.noted(self._finder.by_id(asset_id))

    @anywhere
    def find_asset_by_filename(self, filename: str) -> Asset:
        """Find the user's newest file of this name.

        Raises:
            ValueError: "Asset <filename> not found".
        """
        return self._finder.noted(self._finder.by_name(filename))

    @anywhere
    def list_assets(
        self, parent_id: str | None = None, recursive: bool = False, content_type: str = "", *, limit: int | None = None
    ) -> list[Asset]:
        """List assets in the order of their making; with no argument those at home. `content_type` is a prefix.

        Recursive without a parent lists everything, with one all below it, level by level. They do not become sources.

        Raises:
            ValueError: the parent is no folder of the user.
        """
        filters = Filters(parent_id=parent_id, content_type=content_type or "")
        return self._finder.list(filters, recursive=recursive, limit=limit)

    # --- addresses -----------------------------------------------------------------------------

    @anywhere
    def asset_url(self, key_or_asset: AssetLike, expires_in: int = SIGNED_URL_LIFE) -> str:
        """Give the absolute URL by which anyone reads the asset, without any header, for `expires_in` seconds.

        Takes an asset, a reference, an id or a key. The same URL is given for a quarter of its life.

        Raises:
            ValueError: no such asset, or a life that is not 1 second to 7 days.
            ObjectNotFoundError: a folder, which has no bytes.
        """
        if not 0 < expires_in <= MAX_LIFE:
            raise ValueError(f"expires_in must be from 1 to {MAX_LIFE} seconds, not {expires_in}.")
        self.binding.need_catalog("URLs")
        url = current_links(life=expires_in).url(self._finder.noted(self._finder.find(key_or_asset)))
        if url is None:
            raise ObjectNotFoundError("A folder has no URL.")
        return url

    @anywhere
    def get_asset_url(self, asset_id: str) -> str:
        """Give the URL of an asset by its id.

        Raises:
            ValueError: "Asset <id> not found".
        """
        return self.asset_url(self.find_asset(asset_id))

    @anywhere
    def refresh_uri(self, reference: AssetRef | Mapping[str, Any]) -> AssetRef:
        """Give the reference, or its JSON, with a fresh URI of its asset; without `asset_id` as it is.

        Raises:
            ValueError: "Asset <id> not found".
        """
        if isinstance(reference, Mapping):
            reference = reference_of(reference)
        if not reference.asset_id:
            return reference
        return replace(reference, uri=self.get_asset_url(reference.asset_id))

    @anywhere
    def asset_path(self, asset: AssetLike) -> Path:
        """Give the asset's file on this machine, to be read only: of the job's manifest, else of the asset folder.

        Raises:
            ValueError: no such asset.
            UnsupportedCapabilityError: its bytes are no file here (S3, memory): use `asset_to_io` or `download_asset`.
        """
        found = self._finder.noted(self._finder.find(asset))
        entry = self._finder.entry(found)
        if entry is not None:
            return entry.path
        storage = storage_for(found)
        if not isinstance(storage, LocalFiles) or found.object is None:
            raise UnsupportedCapabilityError(f"{found.name} is no file on this machine: open or download it instead.")
        return Path(storage.local_path(found.object.key))

    # --- bytes ---------------------------------------------------------------------------------

    @anywhere
    def download_asset(self, asset: AssetLike, stream: Sink, start: int = 0, length: int | None = None) -> int:
        """Write an asset's bytes, or `length` of them from `start`, to a stream; returns how many. Constant memory.

        Raises:
            ValueError: no such asset.
            RangeNotSatisfiableError: the range starts behind the end, or is negative.
            DigestMismatchError: the whole asset came, and is not what was stored.
            ObjectNotFoundError, BackendUnavailableError
        """
        return contents.copy_checked(content_of(asset, self._finder), stream, start, length)

    @anywhere
    def asset_to_io(self, asset: AssetLike) -> BinaryIO:
        """Open what a reference or asset points to, as a seekable binary file; the caller closes it.

        Raises:
            ValueError: no such asset, an empty reference, or a URI that is refused.
            ObjectNotFoundError, ObjectTooLargeError, BackendUnavailableError
        """
        return content_of(asset, self._finder).open_whole()

    @anywhere
    def asset_to_bytes(self, asset: AssetLike) -> bytes:
        """Read what a reference or asset points to into memory; a stored asset is held against its digest."""
        return contents.read_checked(content_of(asset, self._finder))

    @anywhere
    def asset_to_base64(self, asset: AssetLike) -> str:
        """Read what a reference or asset points to, as base64."""
        return base64.b64encode(self.asset_to_bytes(asset)).decode("ascii")

    @anywhere
    def asset_to_data_uri(self, asset: AssetLike) -> str:
        """Read what a reference or asset points to, as a data: URI with its content type."""
        found = content_of(asset, self._finder)
        return f"data:{found.content_type};base64,{base64.b64encode(contents.read_checked(found)).decode('ascii')}"

    @anywhere
    def download_file(self, uri: str) -> BinaryIO:
        """Open a URI as a seekable binary file: http(s):, data:, file:, memory:, asset:, or a path of this service.

        http(s) is bounded (DOWNLOAD_MAX_BYTES, DOWNLOAD_TIMEOUT) and stays out of private networks; file: opens what
        lies in the workspace, or is an asset of the user in the asset folder.

        Raises:
            RefusedUriError, ObjectNotFoundError, ObjectTooLargeError, BackendUnavailableError
        """
        return content_of_uri(uri, self._finder).open_whole()

    # --- creating ------------------------------------------------------------------------------

    @anywhere
    def create_asset(
        self,
        name: str,
        content_type: str,
        content: ContentLike,
        parent_id: str | None = None,
        *,
        metadata: Mapping[str, Any] | None = None,
        tags: Iterable[str] = (),
        sources: Iterable[AssetLike] | None = None,
        duration: float | None = None,
        width: int | None = None,
        height: int | None = None,
        temporary: bool = False,
    ) -> Asset:
        """Store bytes, a binary stream or a file as a new asset of the user, with workflow, job, node and sources.

        A `Path` names any file, a `str` one of the workspace. Any name will do: it is no part of a URL. Sources are
        what the context used so far unless they are given; those that are gone are left out. `duration` in seconds.

        Raises:
            ValueError: the name is empty, too long or has control characters; the parent or a source is not
                found; the metadata is refused (InvalidMetadataError); a measure is negative or no number.
            TypeError: the content is none of these.
            ObjectTooLargeError, StorageFullError, BackendUnavailableError
        """
        check_name(name)
        check_measures(duration=duration, width=width, height=height)
        own, finder = self.binding, self._finder
        given = AssetDetails(
            metadata=check_metadata(dict(metadata or {})), tags=tuple(tags),
            duration=duration, width=width, height=height, expires_at=_temp_end() if temporary else None,
            workflow_id=own.workflow_id, job_id=own.job_id, node_id=own.node_id,
            sources=self._used.ids() if sources is None else tuple(finder.find(source).pk for source in sources),
        )  # fmt: skip
        with opened_content(content, own) as source:
            if not own.has_catalog:
                _refuse_without_catalog(own, parent_id, temporary=temporary)
                return leave_in_outputs(name, content_type, source, own)
            return finder.library.create(
                name=name,
                content=source,
                content_type=content_type or "",
                bucket="temp" if temporary else "assets",
                details=replace(given, parent=finder.library.folder(parent_id)),
            )

    acreate_asset = twin(create_asset)
    adownload_asset = twin(download_asset)
    adownload_file = twin(download_file)
    aasset_path = twin(asset_path)
    aasset_to_base64 = twin(asset_to_base64)
    aasset_to_bytes = twin(asset_to_bytes)
    aasset_to_data_uri = twin(asset_to_data_uri)
    aasset_to_io = twin(asset_to_io)
    aasset_url = twin(asset_url)
    afind_asset = twin(find_asset)
    afind_asset_by_filename = twin(find_asset_by_filename)
    aget_asset_url = twin(get_asset_url)
    alist_assets = twin(list_assets)
    arefresh_uri = twin(refresh_uri)
    aresolve_workspace_path = twin(resolve_workspace_path)

    # --- for the helpers above this class ------------------------------------------------------

    def reference_to(self, asset: Asset, kind: type[AssetRef]) -> AssetRef:
        """Give the reference of an asset that this context made."""
        if not self.binding.has_catalog:
            return kind(uri=Path(MOUNT_POINT, OUTPUTS, asset.key or asset.name).as_uri())
        return kind(uri=current_links().url(asset) or "", asset_id=asset.pk.hex)

    def memory_value(self, reference: AssetRef) -> Any:
        """Give the very object behind a memory:// reference, or None where it is no such reference.

        Raises:
            ObjectNotFoundError: it was dropped meanwhile.
        """
        return kept_value(reference.uri) if reference.uri.startswith("memory://") else None

    def keep_in_memory(self, value: Any) -> str | None:
        """Keep an object of this process under a new memory:// URI; None when it is too large for that."""
        return keep_value(value)


def _temp_end() -> datetime:
    return timezone.now() + timedelta(seconds=Environment.current().temp_ttl)


def _refuse_without_catalog(binding: Binding, parent_id: str | None, *, temporary: bool) -> None:
    if temporary:
        binding.need_catalog("Temporary assets")
    if parent_id is not None:
        binding.need_catalog("Folders")
