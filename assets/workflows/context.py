"""ProcessingContext: the one object through which workflow nodes reach storage, the node cache and their workspace."""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import UUID

from django.contrib.auth.models import AbstractBaseUser

from assets.services import release_connection
from assets.workflows.binding import Binding, Used, user_id_of
from assets.workflows.finding import AssetLike
from assets.workflows.fonts import find_font
from assets.workflows.job_inputs import ManifestEntry, read_manifest
from assets.workflows.media import MediaContext
from assets.workflows.references import AssetRef, is_reference, map_references, reference_from, references_in
from assets.workflows.resolving import content_of
from assets.workflows.threads import anywhere, in_event_loop, in_worker, twin
from storagecache.environment import Environment
from storagecache.errors import StorageError
from storagecache.node_cache import NodeCacheKey

if TYPE_CHECKING:
    from storagecache.node_cache.keys import CacheableNode

DEFAULT_TTL: Final = 3600.0  # seconds
_MARK: Final = "__reference__"  # of a reference inside a cached result

T = TypeVar("T")
logger = logging.getLogger(__name__)


class ProcessingContext(MediaContext):
    """What a node is given: bound to user, workflow, job, node and workspace; usable from any thread or event loop.

    Whatever asset it opens, resolves or is handed becomes a source of the assets it creates afterwards. Methods have
    `a`-prefixed twins for coroutines; the plain ones also work where a loop runs, and hold it up meanwhile.
    """

    def __init__(
        self,
        *,
        user: AbstractBaseUser | int | str = 1,
        workflow_id: str = "",
        job_id: str = "",
        node_id: str = "",
        workspace_dir: str | os.PathLike[str] | None = None,
        inputs: Iterable[AssetLike] = (),
    ) -> None:
        """Bind it; `inputs` are assets that were handed to the node. No query is made for anything else.

        Raises:
            ValueError: the user is no id, or an input is not found.
        """
        binding = Binding(
            user_id=user_id_of(user),
            workflow_id=workflow_id or "",
            job_id=job_id or "",
            node_id=node_id or "",
            workspace_dir=None if workspace_dir is None else Path(os.path.abspath(workspace_dir)),
        )
        super().__init__(binding, Used(), None)
        self.use(*inputs)

    def for_node(self, node_id: str) -> ProcessingContext:
        """Give a context of the same job for another node, which has used nothing yet."""
        return _bound(replace(self.binding, node_id=node_id), Used(), self._finder.known_manifest)

    @anywhere
    def use(self, *assets: AssetLike) -> None:
        """Record assets, references or ids as sources of what is created afterwards.

        Raises:
            ValueError: one of them is not found.
        """
        for asset in assets:
            self._finder.noted(self._finder.find(asset))

    # --- to another process --------------------------------------------------------------------

    def to_request(self, *, workspace_dir: str | None = None, has_catalog: bool | None = None) -> dict[str, Any]:
        """Write JSON from which a child process makes its context (`from_request`).

        `workspace_dir` is the workspace as the child sees it; without a catalog it resolves its inputs by the manifest
        and leaves what it creates in the workspace's `outputs`.
        """
        own = self.binding
        return {
            "user_id": self.user_id,
            "workflow_id": own.workflow_id,
            "job_id": own.job_id,
            "node_id": own.node_id,
            "workspace_dir": workspace_dir or (str(own.workspace_dir) if own.workspace_dir else None),
            "has_catalog": own.has_catalog if has_catalog is None else has_catalog,
            "used": list(self.used_asset_ids),
        }

    @classmethod
    def from_request(cls, request: Mapping[str, Any]) -> ProcessingContext:
        """Make the context that `to_request` described. The manifest, whose paths are trusted here, is read at once.

        Raises:
            ValueError: the request is none.
            BackendUnavailableError: the manifest cannot be read.
        """
        folder = request.get("workspace_dir")
        try:
            binding = Binding(
                user_id=user_id_of(str(request["user_id"])),
                workflow_id=str(request.get("workflow_id") or ""),
                job_id=str(request.get("job_id") or ""),
                node_id=str(request.get("node_id") or ""),
                workspace_dir=Path(str(folder)) if folder else None,
                has_catalog=bool(request.get("has_catalog", True)),
            )
            used = Used(UUID(str(asset_id)) for asset_id in request.get("used", ()))
        except KeyError as error:
            raise ValueError(f"The request of a context lacks {error}.") from error
        manifest = read_manifest(binding.workspace_dir, (Path("/"),)) if binding.workspace_dir else {}
        return _bound(binding, used, manifest)

    # --- paths ---------------------------------------------------------------------------------

    def get_system_font_path(self, font_name: str = "Arial.ttf") -> Path:
        """Find a font file by name, with or without extension: in FONT_PATH, then in the system's folders.

        Raises:
            FileNotFoundError: there is none.
        """
        return find_font(font_name, Environment.current().font_path)

    @property
    def comfy_folder(self) -> Path | None:
        """The folder of ComfyUI (COMFY_FOLDER), if there is one."""
        return Environment.current().comfy_folder

    @property
    def chroma_path(self) -> Path | None:
        """The folder of Chroma (CHROMA_PATH), if there is one."""
        return Environment.current().chroma_path

    # --- nested values -------------------------------------------------------------------------

    @anywhere
    def upload_assets_to_temp(self, value: Any) -> Any:
        """Give nested dicts, lists and tuples with what is inline or of this process (memory://) as temporary assets.

        References of assets get fresh URLs; all else is unchanged. Each reference that is met becomes a source.
        """
        return map_references(value, self._uploaded)

    @anywhere
    def encode_assets_as_uri(self, value: Any) -> Any:
        """Give nested dicts, lists and tuples with the bytes of each reference as a data: URI in `uri`."""
        return map_references(value, self._encoded)

    # --- the node cache ------------------------------------------------------------------------

    @anywhere
    def get_cached_result(self, node: CacheableNode, default: Any = None) -> Any:
        """Give what a node computed before on the same properties, or `default`; trouble of the cache is a miss."""
        cache = Environment.get_node_cache()
        return self._restored(cache.get(self._key(node), default))

    @anywhere
    def cache_result(self, node: CacheableNode, result: Any, ttl: float | None = DEFAULT_TTL) -> bool:
        """Keep a node's result for `ttl` seconds; tells whether other processes can see it.

        References that only this process can follow are stored as temporary assets; where that fails it is not kept.
        """
        try:
            return Environment.get_node_cache().set(self._key(node), self._kept_for_all(result), ttl)
        except _NotKeptError:
            return False

    def cached(self, node: CacheableNode, compute: Callable[[], T], ttl: float | None = DEFAULT_TTL) -> T:
        """Give a node's result from the cache, or compute and keep it: once for all that ask meanwhile.

        A result that cannot be kept is given as it was computed.
        """
        if in_event_loop():
            return self._cached_beside(node, compute, ttl)

        def computed() -> Any:
            release_connection()  # it may take an hour
            return self._kept_for_all(compute())

        try:
            found: T = self._restored(Environment.get_node_cache().get_or_compute(self._key(node), computed, ttl))
        except _NotKeptError as not_kept:
            return not_kept.result  # type: ignore[no-any-return]
        finally:
            release_connection()
        return found

    async def acached(
        self, node: CacheableNode, compute: Callable[[], T | Awaitable[T]], ttl: float | None = DEFAULT_TTL
    ) -> T:
        """As `cached`; `compute` may be a coroutine function."""
        key = await self._akey(node)

        async def computed() -> Any:
            return await self._akept_for_all(await _awaited(compute))

        try:
            return self._restored(await Environment.get_node_cache().aget_or_compute(key, computed, ttl))  # type: ignore[no-any-return]
        except _NotKeptError as not_kept:
            return not_kept.result  # type: ignore[no-any-return]

    async def aget_cached_result(self, node: CacheableNode, default: Any = None) -> Any:
        """As `get_cached_result`."""
        return self._restored(await Environment.get_node_cache().aget(await self._akey(node), default))

    async def acache_result(self, node: CacheableNode, result: Any, ttl: float | None = DEFAULT_TTL) -> bool:
        """As `cache_result`."""
        key = await self._akey(node)
        try:
            return await Environment.get_node_cache().aset(key, await self._akept_for_all(result), ttl)
        except _NotKeptError:
            return False

    ause = twin(use)
    aget_system_font_path = twin(get_system_font_path)
    aupload_assets_to_temp = twin(upload_assets_to_temp)
    aencode_assets_as_uri = twin(encode_assets_as_uri)

    # --- how -----------------------------------------------------------------------------------

    @anywhere
    def _cached_beside(self, node: CacheableNode, compute: Callable[[], T], ttl: float | None) -> T:
        return self.cached(node, compute, ttl)

    def _key(self, node: CacheableNode) -> NodeCacheKey | None:
        return Environment.get_node_cache().key_for(node, user=self.user_id, workflow=self.workflow_id)

    _akey = twin(_key)

    def _kept_for_all(self, result: Any) -> Any:
        """Write references as marked JSON, which is what a cache keeps; none of them may be of this process alone.

        Raises:
            _NotKeptError: a value of this process cannot be stored, or is gone: no reason to fail the node.
        """
        try:
            return _dumped(map_references(result, self._stored)) if references_in(result) else result
        except (StorageError, ValueError) as error:
            logger.warning("result not cached workflow=%s reason=%s", self.workflow_id, error)
            raise _NotKeptError(result) from error

    _akept_for_all = twin(_kept_for_all)

    def _stored(self, reference: AssetRef) -> AssetRef:
        return self._uploaded(reference) if reference.uri.startswith("memory://") else reference

    def _restored(self, result: Any) -> Any:
        """Make references again, and note them: whoever takes a cached result uses what it names."""
        restored = _restored(result)
        for reference in references_in(restored):
            if reference.asset_id:
                self._used.note(UUID(reference.asset_id))
        return restored

    def _uploaded(self, reference: AssetRef) -> AssetRef:
        if reference.asset_id:
            return self.refresh_uri(reference) if self.binding.has_catalog else reference
        here = reference.data is not None or reference.uri.startswith(("memory://", "data:"))
        if not here:
            return reference
        found = content_of(reference, self._finder)
        with found.open_whole() as stream:
            asset = self.create_asset(reference.type, found.content_type, stream, temporary=True)
        return self.reference_to(asset, type(reference))

    def _encoded(self, reference: AssetRef) -> AssetRef:
        if reference.is_empty():
            return reference
        return replace(reference, data=None, uri=self.asset_to_data_uri(reference))


class _NotKeptError(Exception):
    """Carries a result past the cache, to all who wait for it."""

    def __init__(self, result: Any) -> None:
        super().__init__("this result is not kept")
        self.result = result


def _bound(binding: Binding, used: Used, manifest: Mapping[str, ManifestEntry] | None) -> ProcessingContext:
    context = ProcessingContext.__new__(ProcessingContext)
    MediaContext.__init__(context, binding, used, manifest)
    return context


async def _awaited(compute: Callable[[], T | Awaitable[T]]) -> T:
    """Await a coroutine function; run a plain one in a thread."""
    result = compute() if inspect.iscoroutinefunction(compute) else await in_worker(compute)
    return await result if inspect.isawaitable(result) else result


def _dumped(value: Any) -> Any:
    if isinstance(value, AssetRef):
        return {**value.model_dump(), _MARK: True}
    if type(value) is dict:
        return {key: _dumped(item) for key, item in value.items()}
    if type(value) in {list, tuple}:
        return type(value)(_dumped(item) for item in value)
    return value


def _restored(value: Any) -> Any:
    if type(value) is dict:
        if value.get(_MARK) is True and is_reference(value):
            return reference_from(value)
        return {key: _restored(item) for key, item in value.items()}
    if type(value) in {list, tuple}:
        return type(value)(_restored(item) for item in value)
    return value
