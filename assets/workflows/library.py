"""One user's assets, as workflows see them: found by id, address or name, listed, created. Others' do not exist."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final
from urllib.parse import unquote, urlsplit
from uuid import UUID

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.utils import timezone

from assets.models import Asset, AssetQuerySet, fold_name
from assets.services import AssetDetails, create_asset
from assets.services.listing import MAX_PAGE, Filters, find_asset, list_assets
from assets.staging import Source
from assets.workflows.errors import AssetNotFoundError
from storagecache.environment import Environment
from storagecache.errors import ObjectNotFoundError

_ADDRESSES: Final = (("/api/storage/temp/", "temp"), ("/api/storage/", "assets"), ("/storage/assets/", "assets"))
_PREFIXES: Final = (*_ADDRESSES, ("/storage/temp/", "temp"))
_LEVEL: Final = 500  # folders whose children one statement asks for


class Library:
    """The assets of the user `owner_id`."""

    def __init__(self, owner_id: int) -> None:
        self.owner_id = owner_id
        self._owner: AbstractBaseUser | None = None

    def by_id(self, asset_id: object) -> Asset:
        """Find a live asset, with its object; one SELECT.

        Raises:
            AssetNotFoundError
        """
        try:
            return find_asset(self.owner_id, UUID(str(asset_id)).hex)
        except (ObjectNotFoundError, ValueError) as error:
            raise AssetNotFoundError.of(asset_id) from error

    def by_id_or_key(self, text: str) -> Asset:
        """Find a live asset by its id, else by its key in `assets`, else in `temp`.

        Raises:
            AssetNotFoundError
        """
        try:
            return self.by_id(text)
        except AssetNotFoundError:
            _refuse_no_key(text)
            found = list(self._live().filter(key=text, bucket__in=["assets", "temp"]).order_by("bucket")[:1])
        if not found:
            raise AssetNotFoundError.of(text)
        return found[0]

    def by_url(self, url: str) -> Asset | None:
        """Find what an URL of this service names, of this user or public; None for any other URL."""
        address = _own_address(url)
        if address is None:
            return None
        live = Asset.objects.at(*address).alive(timezone.now()).select_related("object")
        asset = next(iter(live[:1]), None)
        return asset if asset is not None and (asset.owner_id == self.owner_id or asset.is_public) else None

    def by_object(self, alias: str, key: str) -> Asset | None:
        """Find an asset whose bytes are the object `key`, if the user has one."""
        return self._live().filter(object__storage=alias, object__key=key).first()

    def by_name(self, name: str) -> Asset:
        """Find the newest file of this name.

        Raises:
            AssetNotFoundError
        """
        _refuse_no_key(name)
        named = self._live().filter(name_folded=fold_name(name), name=name, is_folder=False)
        asset = next(iter(named.order_by("-pk")[:1]), None)
        if asset is None:
            raise AssetNotFoundError.of(name)
        return asset

    def list(self, filters: Filters, *, recursive: bool, limit: int | None) -> list[Asset]:
        """List assets in the order of their ids; recursive: level by level, folders included unless a type is asked."""
        found = self._descendants(filters) if recursive else self._pages(filters)
        return list(islice(found, limit))

    def create(self, *, name: str, content: Source, content_type: str, bucket: str, details: AssetDetails) -> Asset:
        """Store a stream as a new asset of this user."""
        return create_asset(
            owner=self.owner, name=name, content=content, content_type=content_type, bucket=bucket, details=details
        )

    def folder(self, parent_id: str | None) -> Asset | None:
        """Find a folder; None, or the user's own id, is home.

        Raises:
            AssetNotFoundError: it is no folder of this user.
        """
        if parent_id is None or parent_id == str(self.owner_id):
            return None
        folder = self.by_id(parent_id)
        if not folder.is_folder:
            raise AssetNotFoundError.of(parent_id)
        return folder

    @property
    def owner(self) -> AbstractBaseUser:
        """The user, asked for once.

        Raises:
            ValueError: there is none.
        """
        if self._owner is None:
            self._owner = get_user_model().objects.filter(pk=self.owner_id).first()
        if self._owner is None:
            raise ValueError(f"User {self.owner_id} not found")
        return self._owner

    def _live(self) -> AssetQuerySet:
        return Asset.objects.filter(owner_id=self.owner_id).alive(timezone.now()).select_related("object")

    def _pages(self, filters: Filters) -> Iterator[Asset]:
        cursor = ""
        while True:
            page = _listed(self.owner_id, filters, cursor)
            yield from page[0]
            cursor = page[1]
            if not cursor:
                return

    def _descendants(self, filters: Filters) -> Iterator[Asset]:
        """Walk down from a folder, or over everything when none is named."""
        if filters.parent_id is None:
            yield from self._keyset(self._live(), _chooser(filters))
            return
        root = self.folder(filters.parent_id)
        level: list[UUID | None] = [root.pk if root else None]
        while level:
            parents, level = level[:_LEVEL], level[_LEVEL:]
            beneath = self._live().filter(parent=None) if None in parents else self._live().filter(parent__in=parents)
            yield from self._keyset(beneath, _chooser(filters))
            level += list(beneath.filter(is_folder=True).values_list("pk", flat=True))

    def _keyset(self, rows: AssetQuerySet, choose: Callable[[AssetQuerySet], AssetQuerySet]) -> Iterator[Asset]:
        chosen = choose(rows).order_by("pk")
        batch = list(chosen[:MAX_PAGE])
        while batch:
            yield from batch
            batch = list(chosen.filter(pk__gt=batch[-1].pk)[:MAX_PAGE]) if len(batch) == MAX_PAGE else []


def _refuse_no_key(text: str) -> None:
    """Refuse what no key or name can be, and no database takes: NUL, lone surrogates.

    Raises:
        AssetNotFoundError
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise AssetNotFoundError.of(repr(text)) from error
    if "\0" in text:
        raise AssetNotFoundError.of(text)


def _chooser(filters: Filters) -> Callable[[AssetQuerySet], AssetQuerySet]:
    if not filters.content_type:
        return lambda rows: rows
    return lambda rows: rows.filter(content_type__startswith=filters.content_type)


def _listed(owner_id: int, filters: Filters, cursor: str) -> tuple[tuple[Asset, ...], str]:
    try:
        page = list_assets(owner_id, filters, order="created", cursor=cursor, size=MAX_PAGE)
    except ObjectNotFoundError as error:
        raise AssetNotFoundError.of(filters.parent_id) from error
    return page.assets, page.next


def _own_address(url: str) -> tuple[str, str] | None:
    """Read bucket and key out of an URL of this service, absolute or from `/` on."""
    base = Environment.current().base_url
    rest = url.removeprefix(base) if url.startswith(f"{base}/") else url
    if not rest.startswith("/") or rest.startswith("//"):
        return None
    path = urlsplit(rest).path
    found = next(((bucket, path.removeprefix(prefix)) for prefix, bucket in _PREFIXES if path.startswith(prefix)), None)
    try:
        return (found[0], unquote(found[1], errors="strict")) if found else None
    except UnicodeDecodeError:
        return None
