"""What every context can do with bytes: find, open, download, create and link assets, and remember what it used.

The helpers for images, sound, text, tables and video are in `media`, caches and nested values in `context`.
"""

from __future__ import annotations

import base64
import io
import os
import threading
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias, cast
from urllib.parse import unquote, urlsplit
from uuid import UUID, uuid4

from django.contrib.auth.models import AbstractBaseUser
from django.core.files.storage import storages
from django.utils import timezone

from assets.content_types import HEAD_BYTES, OCTET_STREAM, guess_content_type, resolve_content_type
from assets.links import current_links
from assets.models import Asset
from assets.services import AssetDetails, storage_for
from assets.services.listing import Filters
from assets.services.metadata import check_metadata
from assets.signing import MAX_LIFE
from assets.staging import Source
from assets.workflows import content as contents
from assets.workflows.content import Content, Sink
from assets.workflows.downloads import FetchLimits, fetch
from assets.workflows.errors import AssetNotFoundError, RefusedUriError
from assets.workflows.job_inputs import ManifestEntry, read_manifest
from assets.workflows.library import Library
from assets.workflows.memory_values import value_content
from assets.workflows.references import AssetRef, DataframeRef, TextRef, inline_bytes, is_reference, reference_from
from assets.workflows.threads import anywhere, twin
from assets.workflows.workspace import MOUNT_POINT, leave_file, open_regular, resolve_inside
from storagecache.capabilities import LocalFiles
from storagecache.environment import SIGNED_URL_LIFE, Environment
from storagecache.errors import ObjectNotFoundError, UnsupportedCapabilityError
from storagecache.storages.durable import disk_errors

MAX_NAME: Final = 1024  # characters
MEMORY_TTL: Final = 3600.0  # seconds that a memory:// value is kept, unless newer ones need its room
OUTPUTS: Final = "outputs"  # folder of the workspace whose files become assets when a job ends

AssetLike: TypeAlias = Asset | AssetRef | Mapping[str, Any] | UUID | str
ContentLike: TypeAlias = bytes | bytearray | memoryview | Source | os.PathLike[str] | str

_MISSING: Final = object()
_TEXT_STREAM: Final[type] = io.TextIOBase
_MOST_UNITS: Final = 2**31 - 1  # seconds or pixels: what a column of the catalog holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """Who works, and where: user, workflow, job, node and workspace. `has_catalog`: the database may be asked."""

    user_id: int
    workflow_id: str = ""
    job_id: str = ""
    node_id: str = ""
    workspace_dir: Path | None = None
    has_catalog: bool = True


class Used:
    """The assets that a context opened, resolved or was handed, in order; safe for threads."""

    def __init__(self, ids: Iterable[UUID] = ()) -> None:
        self._ids: dict[UUID, None] = dict.fromkeys(ids)
        self._lock = threading.Lock()

    def note(self, asset_id: UUID) -> None:
        """Remember an asset."""
        with self._lock:
            self._ids[asset_id] = None

    def ids(self) -> tuple[UUID, ...]:
        """Give what was noted so far."""
        with self._lock:
            return tuple(self._ids)


class CoreContext:
    """Finds, opens, creates and links assets for one node. Safe for threads; `a`-prefixed twins are for coroutines."""

    def __init__(self, binding: Binding, used: Used, manifest: Mapping[str, ManifestEntry] | None) -> None:
        self.binding = binding
        self._used = used
        self._library = Library(binding.user_id)
        self._known_manifest = manifest

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
        return resolve_inside(self._workspace(), path)

    # --- finding -------------------------------------------------------------------------------

    @anywhere
    def find_asset(self, asset_id: str) -> Asset:
        """Find an asset of the user by its id; it becomes a source of what is created afterwards.

        Raises:
            ValueError: "Asset <id> not found": absent, trashed, expired or another's.
        """
        return self._note(self._found(asset_id))

    @anywhere
    def find_asset_by_filename(self, filename: str) -> Asset:
        """Find the user's newest file of this name.

        Raises:
            ValueError: "Asset <filename> not found".
        """
        if not self.binding.has_catalog:
            named = [entry for entry in self._manifest().values() if entry.name == filename]
            if not named:
                raise AssetNotFoundError.of(filename)
            return self._note(_asset_of(named[-1], self.binding))
        return self._note(self._library.by_name(filename))

    @anywhere
    def list_assets(
        self, parent_id: str | None = None, recursive: bool = False, content_type: str = "", *, limit: int | None = None
    ) -> list[Asset]:
        """List assets in the order of their making; with no argument those at home. `content_type` is a prefix.

        Recursive without a parent lists everything, with one all below it, level by level. They do not become sources.

        Raises:
            ValueError: the parent is no folder of the user.
        """
        if not self.binding.has_catalog:
            chosen = [entry for entry in self._manifest().values() if entry.type.startswith(content_type or "")]
            return [_asset_of(entry, self.binding) for entry in chosen[:limit]]
        filters = Filters(parent_id=parent_id, content_type=content_type or "")
        return self._library.list(filters, recursive=recursive, limit=limit)

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
        self._need_catalog("URLs")
        url = current_links(life=expires_in).url(self._note(self._asset(key_or_asset)))
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
            reference = _reference(reference)
        if not reference.asset_id:
            return reference
        return changed_uri(reference, uri=self.get_asset_url(reference.asset_id))

    @anywhere
    def asset_path(self, asset: AssetLike) -> Path:
        """Give the asset's file on this machine, to be read only: of the job's manifest, else of the asset folder.

        Raises:
            ValueError: no such asset.
            UnsupportedCapabilityError: its bytes are no file here (S3, memory): use `asset_to_io` or `download_asset`.
        """
        found = self._note(self._asset(asset))
        entry = self._entry(found)
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
        return contents.copy_checked(self._content(asset), stream, start, length)

    @anywhere
    def asset_to_io(self, asset: AssetLike) -> BinaryIO:
        """Open what a reference or asset points to, as a seekable binary file; the caller closes it.

        Raises:
            ValueError: no such asset, an empty reference, or a URI that is refused.
            ObjectNotFoundError, ObjectTooLargeError, BackendUnavailableError
        """
        return self._content(asset).open_whole()

    @anywhere
    def asset_to_bytes(self, asset: AssetLike) -> bytes:
        """Read what a reference or asset points to into memory; a stored asset is held against its digest."""
        return contents.read_checked(self._content(asset))

    @anywhere
    def asset_to_base64(self, asset: AssetLike) -> str:
        """Read what a reference or asset points to, as base64."""
        return base64.b64encode(self.asset_to_bytes(asset)).decode("ascii")

    @anywhere
    def asset_to_data_uri(self, asset: AssetLike) -> str:
        """Read what a reference or asset points to, as a data: URI with its content type."""
        found = self._content(asset)
        return f"data:{found.content_type};base64,{base64.b64encode(contents.read_checked(found)).decode('ascii')}"

    @anywhere
    def download_file(self, uri: str) -> BinaryIO:
        """Open a URI as a seekable binary file: http(s):, data:, file:, memory:, asset:, or a path of this service.

        http(s) is bounded (DOWNLOAD_MAX_BYTES, DOWNLOAD_TIMEOUT) and stays out of private networks; file: opens what
        lies in the workspace, or is an asset of the user in the asset folder.

        Raises:
            RefusedUriError, ObjectNotFoundError, ObjectTooLargeError, BackendUnavailableError
        """
        return self._content_of_uri(uri).open_whole()

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
        _check_name(name)
        _check_measures(duration=duration, width=width, height=height)
        given = AssetDetails(
            metadata=check_metadata(dict(metadata or {})), tags=tuple(tags),
            duration=duration, width=width, height=height, expires_at=_temp_end() if temporary else None,
        )  # fmt: skip
        noted = self._used.ids() if sources is None else tuple(self._asset(source).pk for source in sources)
        bucket = "temp" if temporary else "assets"
        with ExitStack() as opened:
            source = self._source(content, opened)
            if not self.binding.has_catalog:
                self._refuse_without_catalog(parent_id, temporary=temporary)
                return self._left_in_outputs(name, content_type, source)
            details = self._detailed(given, self._library.folder(parent_id), noted)
            return self._library.create(
                name=name, content=source, content_type=content_type or "", bucket=bucket, details=details
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
        return _memory_value(reference.uri) if reference.uri.startswith("memory://") else None

    def keep_in_memory(self, value: Any) -> str | None:
        """Keep an object of this process under a new memory:// URI; None when it is too large for that."""
        uri = f"memory://{uuid4().hex}"
        return uri if Environment.get_memory_uri_cache().set(uri, value, ttl=MEMORY_TTL) else None

    # --- resolving -----------------------------------------------------------------------------

    def _content(self, asset: AssetLike) -> Content:
        """Find bytes; whatever asset they are of becomes a source."""
        if isinstance(asset, Mapping):
            asset = _reference(asset)
        if isinstance(asset, AssetRef) and not asset.asset_id:
            return self._content_of_reference(asset)
        if isinstance(asset, AssetRef) and asset.data is not None:
            self._note_if_found(asset.asset_id)
            return self._content_of_reference(asset)
        found = self._note(self._asset(asset))
        entry = self._entry(found)
        if entry is None:
            return contents.of_asset(found)
        return contents.of_opener(lambda: contents.open_path(entry.path), content_type=entry.type, sha256=entry.sha256)

    def _content_of_reference(self, reference: AssetRef) -> Content:
        if isinstance(reference, DataframeRef) and reference.has_rows():
            return contents.of_bytes(inline_bytes(reference) or b"", "application/json")
        data = inline_bytes(reference)
        if data is not None:
            content_type = "text/plain" if isinstance(reference, TextRef) else _sniffed(data)
            return contents.of_bytes(data, content_type)
        if not reference.uri:
            raise ValueError("An empty reference points to nothing.")
        return self._content_of_uri(reference.uri)

    def _content_of_uri(self, uri: str) -> Content:
        scheme = uri.partition(":")[0].lower()
        if uri.startswith("/") or scheme in {"http", "https"}:
            return self._content_of_url(uri)
        if scheme == "data":
            return contents.of_data_uri(uri)
        if scheme == "memory":
            data, content_type = value_content(_memory_value(uri))
            return contents.of_bytes(data, content_type)
        if scheme == "asset":
            return self._content(_id_in_uri(uri))
        if scheme == "file":
            return self._content_of_file(uri)
        raise RefusedUriError(f"URIs of the scheme {scheme[:20]!r} are not opened.")

    def _content_of_url(self, url: str) -> Content:
        own = self._library.by_url(url) if self.binding.has_catalog else None
        if own is not None:
            return contents.of_asset(self._note(own))
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

    def _content_of_file(self, uri: str) -> Content:
        """Open a file: URI inside the workspace, or the asset of this user that lies there in the asset folder."""
        parts = urlsplit(uri)
        if parts.netloc not in {"", "localhost"} or "\0" in unquote(parts.path):
            raise RefusedUriError("Only files of this machine are opened: file:///path.")
        text = unquote(parts.path)
        asset = self._asset_of_file(Path(os.path.realpath(text)))
        if asset is not None:
            return contents.of_asset(self._note(asset))
        entry = self._entry_at(Path(os.path.realpath(text)))
        if entry is not None:
            return self._content(UUID(entry.id))
        try:
            path = self.resolve_workspace_path(text)
        except ValueError as error:
            raise RefusedUriError("This file is neither in the workspace nor one of your assets.") from error
        root = Path(os.path.realpath(self._workspace()))
        return contents.of_opener(lambda: open_regular(root, path), content_type=guess_content_type(path.name))

    def _asset_of_file(self, path: Path) -> Asset | None:
        """Find whose file lies in a bucket's folder: it is opened only as an asset, so that owners stay apart."""
        for alias in ("assets", "temp") if self.binding.has_catalog else ():
            storage = storages[alias]
            if not isinstance(storage, LocalFiles):
                continue
            root = Path(os.path.realpath(storage.local_path("aa/a"))).parent.parent
            if path.is_relative_to(root) and not self._is_in_workspace(path):
                asset = self._library.by_object(alias, str(path.relative_to(root)))
                if asset is None:
                    raise AssetNotFoundError.of(path.name)
                return asset
        return None

    def _is_in_workspace(self, path: Path) -> bool:
        workspace = self.binding.workspace_dir
        return workspace is not None and path.is_relative_to(os.path.realpath(workspace))

    def _asset(self, asset: AssetLike) -> Asset:
        """Find the asset that is meant; one that was handed over must still be this user's."""
        if isinstance(asset, Mapping):
            asset = _reference(asset)
        if isinstance(asset, AssetRef):
            if not asset.asset_id:
                raise AssetNotFoundError.of(asset.uri.partition("?")[0][:80] or "of an empty reference")
            return self._found(asset.asset_id)
        if isinstance(asset, Asset):
            return self._found(asset.pk)
        if isinstance(asset, str) and self.binding.has_catalog:
            return self._library.by_id_or_key(_id_in_uri(asset) if asset.startswith("asset:") else asset)
        return self._found(asset)

    def _found(self, asset_id: object) -> Asset:
        if self.binding.has_catalog:
            return self._library.by_id(asset_id)
        text = str(asset_id)
        wanted = _id_in_uri(text) if text.startswith("asset:") else text
        entry = self._manifest().get(wanted.replace("-", "").lower())
        if entry is None:
            raise AssetNotFoundError.of(asset_id)
        return _asset_of(entry, self.binding)

    def _note(self, asset: Asset) -> Asset:
        if not asset.is_folder:
            self._used.note(asset.pk)
        return asset

    def _note_if_found(self, asset_id: str | None) -> None:
        try:
            self._note(self._found(asset_id))
        except AssetNotFoundError:
            return

    # --- without a catalog ---------------------------------------------------------------------

    def _manifest(self) -> Mapping[str, ManifestEntry]:
        if self._known_manifest is None:
            workspace, environment = self.binding.workspace_dir, Environment.current()
            # Where there are several users, a forged manifest must not lead to another's bytes.
            roots = (environment.asset_folder, environment.temp_folder) if environment.auth == "local" else ()
            self._known_manifest = read_manifest(workspace, roots) if workspace else {}
        return self._known_manifest

    def _entry(self, asset: Asset) -> ManifestEntry | None:
        """Find an asset in the job's manifest; where the catalog is asked, only a file of the bytes that it has now."""
        entry = self._manifest().get(asset.pk.hex)
        if entry is None or not self.binding.has_catalog:
            return entry
        return entry if asset.object is not None and asset.object.sha256 == entry.sha256 else None

    def _entry_at(self, path: Path) -> ManifestEntry | None:
        return next((entry for entry in self._manifest().values() if entry.path == path), None)

    def _left_in_outputs(self, name: str, content_type: str, source: Source) -> Asset:
        """Write the file that becomes an asset when the job ends; nobody else's file is replaced."""
        with disk_errors("Cannot leave an output"):
            path, size = leave_file(self._workspace() / OUTPUTS, name, source)
        return Asset(
            owner_id=self.binding.user_id,
            name=name,
            key=path.name,
            content_type=content_type or OCTET_STREAM,
            size=size,
        )

    def _refuse_without_catalog(self, parent_id: str | None, *, temporary: bool) -> None:
        if temporary:
            self._need_catalog("Temporary assets")
        if parent_id is not None:
            self._need_catalog("Folders")

    def _need_catalog(self, what: str) -> None:
        if not self.binding.has_catalog:
            raise UnsupportedCapabilityError(f"{what} need the catalog, which this job cannot reach.")

    def _workspace(self) -> Path:
        if self.binding.workspace_dir is None:
            raise ValueError("This context has no workspace_dir.")
        return self.binding.workspace_dir

    def _detailed(self, given: AssetDetails, parent: Asset | None, sources: tuple[UUID, ...]) -> AssetDetails:
        own = self.binding
        origin = {"workflow_id": own.workflow_id, "job_id": own.job_id, "node_id": own.node_id}
        return replace(given, parent=parent, sources=sources, **origin)  # type: ignore[arg-type]

    def _source(self, content: ContentLike, opened: ExitStack) -> Source:
        if isinstance(content, bytes | bytearray | memoryview):
            return io.BytesIO(content)
        if isinstance(content, str):
            root = Path(os.path.realpath(self._workspace()))
            return cast("Source", opened.enter_context(open_regular(root, self.resolve_workspace_path(content))))
        if isinstance(content, os.PathLike):
            path = Path(content)
            if not path.is_file():
                raise ValueError(f"{path.name} is no file.")
            return cast("Source", opened.enter_context(path.open("rb")))
        if isinstance(content, _TEXT_STREAM) or not hasattr(content, "read"):
            raise TypeError(f"Content is bytes, a binary stream or a path, not {type(content).__name__}.")
        return content


def user_id_of(user: AbstractBaseUser | int | str) -> int:
    """Read a user, or a user's id as a number or text.

    Raises:
        ValueError: it is no id.
    """
    text = str(user.pk if isinstance(user, AbstractBaseUser) else user)
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ValueError(f"User {text[:80]} not found")
    return int(text)


def _reference(value: Mapping[str, Any]) -> AssetRef:
    return reference_from(value) if is_reference(value) else AssetRef(asset_id=str(value.get("id", "")) or None)


def changed_uri(reference: AssetRef, *, uri: str) -> AssetRef:
    return type(reference)(
        uri=uri,
        asset_id=reference.asset_id,
        data=reference.data,
        **({"columns": reference.columns} if isinstance(reference, DataframeRef) else {}),
    )


def _asset_of(entry: ManifestEntry, binding: Binding) -> Asset:
    """Show a job's input as an asset; it is not to be saved."""
    size = entry.path.stat().st_size
    return Asset(
        id=UUID(entry.id), owner_id=binding.user_id, name=entry.name, content_type=entry.type, size=size
    )  # fmt: skip


def _memory_value(uri: str) -> Any:
    value = Environment.get_memory_uri_cache().get(uri, _MISSING)
    if value is _MISSING:
        raise ObjectNotFoundError("This memory:// value is of another process, or was dropped: make it again.")
    return value


def _id_in_uri(uri: str) -> str:
    return uri.partition(":")[2].lstrip("/").partition("?")[0].partition("/")[0].partition(".")[0]


def _sniffed(data: bytes) -> str:
    return resolve_content_type("", "", data[:HEAD_BYTES])


def _check_name(name: str) -> None:
    is_text = isinstance(name, str) and not any(letter < " " or letter == "\x7f" for letter in name)
    if not is_text or not 0 < len(name) <= MAX_NAME or name.encode("utf-8", "replace").decode() != name:
        raise ValueError(f"An asset's name has 1 to {MAX_NAME} characters, and no control characters.")


def _check_measures(**measures: float | None) -> None:
    for name, given in measures.items():
        if given is not None and not 0 <= given <= _MOST_UNITS:
            raise ValueError(f"The {name} of an asset is a number from 0 on, not {given}.")


def _temp_end() -> datetime:
    return timezone.now() + timedelta(seconds=Environment.current().temp_ttl)
