"""Folders: find, lock and make them, and move assets between them without ever closing a ring.

Two moves that together would close a ring wait for each other at their owner's row. Deleting and restoring trees is in
`assets.services.trash`.
"""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from django.contrib.auth import get_user_model
from django.utils import timezone

from assets.ids import new_id
from assets.models import Asset, fold_name
from assets.services import changes
from assets.services.metadata import check_metadata
from assets.services.sections import release_connection, write_section
from assets.services.trees import above, path_to
from storagecache.errors import ObjectExistsError, ObjectNotFoundError, StorageError

FOLDER = "folder"  # the content type of a folder


class NoFolderError(StorageError, ValueError):
    """What was named as a folder is a file."""

    status = 422


def find_folder(owner_id: int, parent_id: str | None) -> Asset | None:
    """Find the folder that a client names by its id; None is home, named by None or the owner's own id.

    Raises:
        ObjectNotFoundError: there is none, it is another owner's, or it is trashed.
        NoFolderError: it is a file.
    """
    if parent_id is None or parent_id == str(owner_id):
        return None
    found = Asset.objects.filter(owner_id=owner_id).alive(timezone.now()).filter(pk=_id_of(parent_id)).first()
    return _must_be_folder(found)


def lock_folder(owner_id: int, folder_id: UUID) -> Asset:
    """Lock a folder that is to get another child, inside a section: until its end nobody trashes it.

    Raises:
        ObjectNotFoundError, NoFolderError: as `find_folder`.
    """
    return lock_with_folder(owner_id, [folder_id], folder_id)[folder_id]


def lock_with_folder(owner_id: int, asset_ids: Collection[UUID], folder_id: UUID | None) -> dict[UUID, Asset]:
    """Lock an owner's assets and the folder they are to lie in, in the order of ids; what is not there is left out.

    The folder is alive then; the assets may be trashed.

    Raises:
        ObjectNotFoundError, NoFolderError: the folder is none; see `find_folder`.
    """
    wanted = {*asset_ids, *([folder_id] if folder_id else [])}
    rows = Asset.objects.filter(owner_id=owner_id, pk__in=wanted).order_by("pk").select_for_update(no_key=True)
    found = {asset.pk: asset for asset in rows}
    if folder_id is not None:
        _must_be_folder(found.get(folder_id))
    return found


def lock_owner(owner_id: int) -> None:
    """Queue behind this owner's other moves and deletions, inside a section and before any other lock.

    Raises:
        ObjectNotFoundError: the owner is gone.
    """
    users = get_user_model().objects.select_for_update(no_key=True).filter(pk=owner_id)
    if not list(users.values_list("pk", flat=True)):  # not exists(), which locks nothing
        raise ObjectNotFoundError("The owner is gone.")


def refuse_ring(asset: Asset, folder_id: UUID | None) -> None:
    """Refuse a move that would make a folder its own ancestor, or touch a tree that is being deleted.

    Call it behind `lock_owner`; costs one statement.

    Raises:
        ObjectExistsError
    """
    ends = {found for found in (asset.parent_id, folder_id) if found}
    known = above(ends)
    if asset.pk in known and asset.pk in {step.pk for step in path_to(folder_id, known)}:
        raise ObjectExistsError("parent_id: a folder cannot be moved into itself or into what it holds.")
    if any(step.trashed_root is not None for step in known.values()):
        raise ObjectExistsError("The folder is being deleted: delete it again, or restore it.")


def create_folder(*, owner_id: int, name: str, parent: Asset | None, **fields: object) -> Asset:
    """Make an empty folder; `fields` are more of its row: metadata, tags and where it comes from.

    Raises:
        ObjectNotFoundError: the parent went away.
        InvalidMetadataError
    """
    check_metadata(fields.get("metadata", {}))
    with write_section():
        if parent is not None:
            lock_folder(owner_id, parent.pk)
        now = timezone.now()
        folder = Asset(
            id=new_id(), owner_id=owner_id, name=name, name_folded=fold_name(name), parent=parent, is_folder=True,
            content_type=FOLDER, created_at=now, updated_at=now, **fields,
        )  # fmt: skip
        folder.save(force_insert=True)
        changes.created(folder)
    release_connection()
    return folder


def breadcrumbs(asset: Asset) -> list[Asset]:
    """Give the folders in which an asset lies, the topmost first; home is not among them. Costs one statement."""
    return path_to(asset.parent_id, above([asset.parent_id])) if asset.parent_id else []


def _must_be_folder(found: Asset | None) -> Asset:
    if found is None or found.trashed_at is not None:
        raise ObjectNotFoundError("parent_id: there is no folder with this id.")
    if not found.is_folder:
        raise NoFolderError("parent_id: this asset is a file, not a folder.")
    if found.trashed_root is not None:
        raise ObjectNotFoundError("parent_id: this folder is being deleted.")
    return found


def _id_of(text: str) -> UUID:
    """Read an id as the API writes it, 32 lower-case hex digits."""
    try:
        found = UUID(hex=text)
    except ValueError:
        found = UUID(int=0)  # nobody's
    return found if found.hex == text else UUID(int=0)
