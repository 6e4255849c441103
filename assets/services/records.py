"""The record of an asset: what is said of it beside its bytes, changed under its revision; and records read in bulk.

Every change makes `revision` one more. Folders and moves are judged in `assets.services.folders`.
"""

from __future__ import annotations

import copy
import io
import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from django.utils import timezone

from assets.content_types import HEAD_BYTES, resolve_content_type
from assets.models import NAME_KEY, Asset, fold_name
from assets.services import changes
from assets.services.folders import FOLDER, find_folder, lock_owner, lock_with_folder, refuse_ring
from assets.services.listing import find_asset
from assets.services.metadata import check_metadata
from assets.services.reading import open_asset
from assets.services.sections import release_connection, write_section
from assets.services.shown import COLUMNS, Shown, shown
from assets.services.trees import first_live_below
from assets.services.uploads import Fields, Precondition, replace_content
from assets.staging import Expected
from storagecache.errors import ObjectExistsError, ObjectNotFoundError, StorageError

MAX_TREE: Final = 10_000  # assets of one answer
_NOTHING: Final = "There is no asset with this id."


class NotForThisError(StorageError, ValueError):
    """A change that this asset cannot have; the text names the field."""

    status = 422


class TreeTooLargeError(StorageError, ValueError):
    """More assets than one answer holds."""

    status = 422


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordChange:
    """What is to change of an asset; None is to stay. `parent_id` is a folder's id, or the owner's own for home.

    `data` is text that replaces the bytes.
    """

    name: str | None = None
    parent_id: str | None = None
    content_type: str | None = None
    metadata: dict[str, Any] | None = None
    tags: tuple[str, ...] | None = None
    data: str | None = None

    def __post_init__(self) -> None:
        """Raise InvalidMetadataError for metadata that the catalog does not take."""
        if self.metadata is not None:
            check_metadata(self.metadata)


def change_record(
    owner_id: int, asset_id: str, change: RecordChange, *, check: Precondition = lambda current: None
) -> Asset:
    """Change what is said of an asset, and its bytes when `change.data` is set, all in one section or not at all.

    A change that changes nothing leaves the revision as it is.

    Raises:
        ObjectNotFoundError: no such asset, or no such folder to move it to.
        ObjectExistsError: a folder would lie in itself, or the asset's bytes changed just now.
        NotForThisError, NoFolderError: the change is not for this kind of asset.
        PreconditionFailedError: from `check`, judged before and again under the row's lock.
        StorageFullError, BackendUnavailableError
    """
    asset = find_asset(owner_id, asset_id)
    check(asset)
    _refuse_for_folders(asset, change)
    amendment = _Amendment(asset, change, _folder_id(owner_id, change.parent_id), _judged_type(asset, change))
    release_connection()
    if change.data is None:
        return _amend_record(amendment, check)
    data = change.data.encode()
    return replace_content(
        asset,
        io.BytesIO(data),
        content_type=change.content_type or asset.content_type,
        expected=Expected(length=len(data)),
        check=check,
        amend=amendment.begin,
    )


def find_by_name(owner_id: int, name: str) -> Asset:
    """Find the newest live file or folder of this name, with its object; else the one whose key it is.

    Costs one SELECT, two where no asset has the name.

    Raises:
        ObjectNotFoundError
    """
    if "\x00" not in name:
        live = Asset.objects.filter(owner_id=owner_id).alive(timezone.now()).select_related("object")
        named = live.filter(name_key=fold_name(name)[:NAME_KEY], name=name)
        found = next(iter(named.order_by("-pk")[:1]), None)
        found = found or next(iter(live.filter(bucket=Asset.Bucket.ASSETS, key=name)[:1]), None)
        if found is not None:
            return found
    raise ObjectNotFoundError("There is no asset with this name.")


@dataclass(frozen=True, slots=True)
class Tree:
    """A folder's live assets by the folder they lie in, each list by age; None is home."""

    children: dict[UUID | None, list[Shown]]


def read_tree(owner_id: int, root: UUID | None) -> Tree:
    """Read everything below a folder, with its objects; None is home. Costs one statement.

    Raises:
        TreeTooLargeError: it holds more than MAX_TREE assets.
    """
    ids, now = first_live_below(root, owner_id, MAX_TREE + 2), timezone.now()
    rows = list(
        Asset.objects.filter(pk__in=ids, owner_id=owner_id, trashed_at=None).order_by("pk").values_list(*COLUMNS)
    )
    if len(rows) > MAX_TREE + 1:
        raise TreeTooLargeError(f"The folder holds more than {MAX_TREE} assets: list it page by page.")
    children: dict[UUID | None, list[Shown]] = defaultdict(list)
    for asset in map(shown, rows):
        if asset.pk != root and (asset.expires_at is None or asset.expires_at > now):
            children[asset.parent_id].append(asset)
    return Tree(children)


def _folder_id(owner_id: int, parent_id: str | None) -> UUID | None:
    folder = find_folder(owner_id, parent_id)
    return folder.pk if folder else None


def _refuse_for_folders(asset: Asset, change: RecordChange) -> None:
    """Refuse to make a folder of a file, a file of a folder, or to give a folder bytes."""
    if asset.is_folder and change.data is not None:
        raise NotForThisError("data: a folder has no bytes.")
    if change.content_type is not None and (change.content_type == FOLDER) is not asset.is_folder:
        raise NotForThisError("content_type: a file stays a file, and a folder a folder.")


def _judged_type(asset: Asset, change: RecordChange) -> str | None:
    """Hold a new type against the first bytes, as at an upload; costs a trip to the bucket."""
    if asset.is_folder or change.content_type in (None, asset.content_type) or change.data is not None:
        return None
    release_connection()
    with open_asset(asset, length=HEAD_BYTES) as stream:
        head = stream.read(HEAD_BYTES)
    return resolve_content_type(change.content_type or "", asset.name, head)


@dataclass(frozen=True, slots=True)
class _Amendment:
    """A change on its way into the section: what it refers to was found before, and is judged again there."""

    asset: Asset  # as it was read
    change: RecordChange
    folder_id: UUID | None
    content_type: str | None

    def begin(self) -> Callable[[Asset], Fields]:
        """Lock the owner when something may move, then the asset and its new folder."""
        if self.change.parent_id is not None:
            lock_owner(self.asset.owner_id)
        lock_with_folder(self.asset.owner_id, [self.asset.pk], self.folder_id)
        return self.fields

    def fields(self, current: Asset) -> Fields:
        """Give what changes of the locked row."""
        change = self.change
        fields: Fields = {}
        if change.name is not None:
            fields |= {"name": change.name, "name_folded": fold_name(change.name)}
        if change.metadata is not None:
            fields["metadata"] = change.metadata
        if change.tags is not None:
            fields["tags"] = list(change.tags)
        if change.parent_id is not None and self.folder_id != current.parent_id:
            refuse_ring(current, self.folder_id)
            fields["parent_id"] = self.folder_id
        if self.content_type is not None:
            if current.object_id != self.asset.object_id:
                raise ObjectExistsError("content_type: the bytes changed just now. Try again.")
            fields["content_type"] = self.content_type
        return {name: value for name, value in fields.items() if not _is_same(value, getattr(current, name))}


def _is_same(value: object, other: object) -> bool:
    """Compare as JSON does: Python takes 1 and true for equal."""
    return json.dumps(value, default=str) == json.dumps(other, default=str)


def _amend_record(amendment: _Amendment, check: Precondition) -> Asset:
    with write_section():
        fields_of = amendment.begin()
        current = _locked(amendment.asset)
        check(current)
        fields = fields_of(current)
        if fields:
            before = copy.copy(current)
            fields |= {"updated_at": timezone.now(), "revision": current.revision + 1}
            Asset.objects.filter(pk=current.pk).update(**fields)
            for name, value in fields.items():
                setattr(current, name, value)
            changes.changed(before, current)
    release_connection()
    return current


def _locked(asset: Asset) -> Asset:
    """Read the row anew, locked, with the object as it was found unless that was switched meanwhile."""
    live = Asset.objects.alive(timezone.now()).filter(pk=asset.pk, owner_id=asset.owner_id)
    current = next(iter(live.select_for_update(no_key=True)[:1]), None)
    if current is None:
        raise ObjectNotFoundError(_NOTHING)
    if current.object_id == asset.object_id:
        current.object = asset.object
    return current
