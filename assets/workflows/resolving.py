"""What a reference, an asset or a URI points to, as bytes that are not opened yet; and which URIs are refused."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit
from uuid import UUID

from django.core.files.storage import storages

from assets.content_types import HEAD_BYTES, OCTET_STREAM, guess_content_type, resolve_content_type
from assets.models import Asset
from assets.workflows import content as contents
from assets.workflows.binding import Binding
from assets.workflows.content import Content
from assets.workflows.downloads import FetchLimits, fetch
from assets.workflows.errors import AssetNotFoundError, RefusedUriError
from assets.workflows.finding import AssetLike, Finder, id_in_uri, reference_of
from assets.workflows.memory_values import kept_value, value_content
from assets.workflows.references import AssetRef, DataframeRef, TextRef, inline_bytes
from assets.workflows.workspace import open_regular, resolve_inside
from storagecache.capabilities import LocalFiles
from storagecache.environment import Environment


def content_of(asset: AssetLike, finder: Finder) -> Content:
    """Find bytes; whatever asset they are of becomes a source.

    Raises:
        ValueError: no such asset, an empty reference, or a URI that is refused.
    """
    if isinstance(asset, Mapping):
        asset = reference_of(asset)
    if isinstance(asset, AssetRef) and not asset.asset_id:
        return _content_of_reference(asset, finder)
    if isinstance(asset, AssetRef) and asset.data is not None:
        finder.note_if_found(asset.asset_id)
        return _content_of_reference(asset, finder)
    found = finder.noted(finder.find(asset))
    entry = finder.entry(found)
    if entry is None:
        return contents.of_asset(found)
    return contents.of_opener(lambda: contents.open_path(entry.path), content_type=entry.type, sha256=entry.sha256)


def content_of_uri(uri: str, finder: Finder) -> Content:
    """Find what a URI of a scheme that is opened points to, or a path of this service.

    Raises:
        ValueError: it is refused, or names no asset.
    """
    scheme = uri.partition(":")[0].lower()
    if uri.startswith("/") or scheme in {"http", "https"}:
        return _content_of_url(uri, finder)
    if scheme == "data":
        return contents.of_data_uri(uri)
    if scheme == "memory":
        data, content_type = value_content(kept_value(uri))
        return contents.of_bytes(data, content_type)
    if scheme == "asset":
        return content_of(id_in_uri(uri), finder)
    if scheme == "file":
        return _content_of_file(uri, finder)
    raise RefusedUriError(f"URIs of the scheme {scheme[:20]!r} are not opened.")


def _content_of_reference(reference: AssetRef, finder: Finder) -> Content:
    if isinstance(reference, DataframeRef) and reference.has_rows():
        return contents.of_bytes(inline_bytes(reference) or b"", "application/json")
    data = inline_bytes(reference)
    if data is not None:
        content_type = "text/plain" if isinstance(reference, TextRef) else _sniffed(data)
        return contents.of_bytes(data, content_type)
    if not reference.uri:
        raise ValueError("An empty reference points to nothing.")
    return content_of_uri(reference.uri, finder)


def _content_of_url(url: str, finder: Finder) -> Content:
    own = finder.library.by_url(url) if finder.binding.has_catalog else None
    if own is not None:
        return contents.of_asset(finder.noted(own))
    if url.startswith("/"):
        raise AssetNotFoundError.of(url.partition("?")[0])
    environment = Environment.current()
    limits = FetchLimits(
        max_bytes=environment.download_max_bytes,
        seconds=environment.download_timeout,
        allowed=environment.download_allowed_networks,
    )
    fetched = fetch(url, limits)
    return contents.of_opener(lambda: fetched.stream, content_type=fetched.content_type or OCTET_STREAM)


def _content_of_file(uri: str, finder: Finder) -> Content:
    """Open a file: URI inside the workspace, or the asset of this user that lies there in the asset folder."""
    parts = urlsplit(uri)
    if parts.netloc not in {"", "localhost"} or "\0" in unquote(parts.path):
        raise RefusedUriError("Only files of this machine are opened: file:///path.")
    text = unquote(parts.path)
    asset = _asset_of_file(Path(os.path.realpath(text)), finder)
    if asset is not None:
        return contents.of_asset(finder.noted(asset))
    entry = finder.entry_at(Path(os.path.realpath(text)))
    if entry is not None:
        return content_of(UUID(entry.id), finder)
    return _content_of_workspace(text, finder.binding)


def _content_of_workspace(text: str, binding: Binding) -> Content:
    try:
        path = resolve_inside(binding.workspace(), text)
    except ValueError as error:
        raise RefusedUriError("This file is neither in the workspace nor one of your assets.") from error
    root = Path(os.path.realpath(binding.workspace()))
    return contents.of_opener(lambda: open_regular(root, path), content_type=guess_content_type(path.name))


def _asset_of_file(path: Path, finder: Finder) -> Asset | None:
    """Find whose file lies in a bucket's folder: it is opened only as an asset, so that owners stay apart."""
    for alias in ("assets", "temp") if finder.binding.has_catalog else ():
        storage = storages[alias]
        if not isinstance(storage, LocalFiles):
            continue
        root = Path(os.path.realpath(storage.local_path("aa/a"))).parent.parent
        if path.is_relative_to(root) and not _is_in_workspace(path, finder.binding):
            asset = finder.library.by_object(alias, str(path.relative_to(root)))
            if asset is None:
                raise AssetNotFoundError.of(path.name)
            return asset
    return None


def _is_in_workspace(path: Path, binding: Binding) -> bool:
    workspace = binding.workspace_dir
    return workspace is not None and path.is_relative_to(os.path.realpath(workspace))


def _sniffed(data: bytes) -> str:
    return resolve_content_type("", "", data[:HEAD_BYTES])
