"""Delete assets and whole trees, into the trash or for good, and bring back what a deletion took.

A tree goes in batches, what lies deepest first, each in a section of its own, so that no live asset ever lies in a
trashed folder. Its root is marked before (`trashed_root` is set while `trashed_at` is not): nothing moves out of or
into a marked tree, and a deletion that died is carried on by the next one of the same root, or by purge.
No bucket is touched here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from django.db import IntegrityError
from django.db.models import Exists, F, OuterRef, Q
from django.utils import timezone

from assets.models import Asset, AssetQuerySet
from assets.services import changes
from assets.services.folders import lock_owner
from assets.services.objects import lock_objects
from assets.services.sections import release_connection, write_section
from assets.services.trees import live_below, taken_below
from assets.services.uploads import Precondition
from storagecache.errors import BackendUnavailableError, ObjectExistsError, ObjectNotFoundError

logger = logging.getLogger(__name__)

BATCH: Final = 500  # assets that go in one section
_PASSES: Final = 5  # over a tree that others keep filling
_NOTHING: Final = "There is no asset with this id."
_TAKEN: Final = "The key of a deleted asset is taken by now: {bucket}/{key}."


def trash_tree(owner_id: int, asset_id: UUID, *, check: Precondition = lambda current: None) -> Iterator[list[UUID]]:
    """Move an asset, and everything below it, to the trash; yields the ids batch by batch, children first, it last.

    The first step is done when this returns; the rest as the batches are asked for. When they end without the asset
    itself, somebody has called the deletion off. Constant memory; 5 statements a batch.

    Raises:
        ObjectNotFoundError: absent, trashed, expired or another owner's.
        PreconditionFailedError: from `check`, judged under the row's lock.
        BackendUnavailableError: others keep filling the folder.
    """
    return _begin(_Deletion(owner_id, asset_id, timezone.now(), _to_trash), check)


def delete_tree(owner_id: int, asset_id: UUID, *, check: Precondition = lambda current: None) -> Iterator[list[UUID]]:
    """Delete an asset, and everything below it, for good; also one that is in the trash. See `trash_tree`.

    What earlier deletions took out of the tree stays in the trash, and comes back to home.
    """
    deletion = _Deletion(owner_id, asset_id, timezone.now(), _for_good)
    trashed = Asset.objects.filter(owner_id=owner_id, pk=asset_id, trashed_at__isnull=False).first()
    if trashed is not None and trashed.trashed_root is not None:
        check(trashed)
        return _empty(deletion, trashed.trashed_root)
    return _begin(deletion, check)


def restore(owner_id: int, asset_id: UUID) -> None:
    """Bring back what the deletion of this asset took; of an asset that another's deletion took, it and what it held.

    Where the folder is gone it comes back to home. An asset that is there stays as it is. Batch by batch, folders
    first: a restoration that died is carried on by the next one.

    Raises:
        ObjectNotFoundError: absent, expired or another owner's.
        ObjectExistsError: a key was taken by another asset since; unless that happens now, nothing is restored.
    """
    asset = Asset.objects.filter(owner_id=owner_id, pk=asset_id).filter(_unexpired(timezone.now())).first()
    if asset is None:
        raise ObjectNotFoundError(_NOTHING)
    root = asset_id if asset.trashed_at is None else asset.trashed_root or asset_id
    _call_off(owner_id, asset)
    with taken_below(root, asset_id) as ids:
        for batch in ids.forwards(BATCH):
            _refuse_taken_keys(batch)
        for batch in ids.forwards(BATCH):
            _restore_batch(owner_id, root, batch)


def resume_deletions(before: datetime) -> int:
    """Carry on the deletions that were begun before this time and never ended; returns how many assets went.

    They go to the trash, also when they were to go for good: that is asked for again.
    """
    marked = Asset.objects.filter(trashed_at=None, trashed_root__isnull=False, updated_at__lte=before)
    done, last = 0, UUID(int=0)
    while root := marked.filter(pk__gt=last).order_by("pk").first():
        last = root.pk
        logger.info("deletion resumed root=%s", root.pk)
        batches = _passes(_Deletion(root.owner_id, root.pk, timezone.now(), _to_trash))
        done += sum(len(batch) for batch in batches)
    return done


def empty_trash(before: datetime) -> int:
    """Delete for good what was trashed before this time; returns how many assets went."""
    done = 0
    while True:
        old = Asset.objects.filter(trashed_at__lte=before).order_by("trashed_at", "pk")
        with write_section():
            rows = list(old.defer("metadata").select_for_update(skip_locked=True)[:BATCH])
            _remove(rows)
        release_connection()
        done += len(rows)
        if len(rows) < BATCH:
            return done


def trashed_before(moment: datetime) -> AssetQuerySet:
    """Give what `empty_trash` would take."""
    return Asset.objects.filter(trashed_at__lte=moment)


# --- deleting -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Deletion:
    """One deletion: whose, of what, when it began, and what happens to a batch of locked live assets."""

    owner_id: int
    root: UUID
    now: datetime
    take: Callable[[_Deletion, list[Asset]], None]


def _begin(deletion: _Deletion, check: Precondition) -> Iterator[list[UUID]]:
    """Delete a file at once; mark a folder, and delete it as the batches are asked for."""
    with write_section():
        lock_owner(deletion.owner_id)
        root = _lock_root(deletion)
        check(root)
        if not root.is_folder:
            deletion.take(deletion, [root])
        else:
            Asset.objects.filter(pk=root.pk).update(trashed_root=root.pk, updated_at=deletion.now)
    release_connection()
    return _passes(deletion) if root.is_folder else iter([[root.pk]])


def _lock_root(deletion: _Deletion) -> Asset:
    mine = Asset.objects.filter(owner_id=deletion.owner_id).alive(deletion.now)
    root = next(iter(mine.filter(pk=deletion.root).select_for_update()[:1]), None)
    if root is None:
        raise ObjectNotFoundError(_NOTHING)
    return root


def _passes(deletion: _Deletion) -> Iterator[list[UUID]]:
    """Go over the tree until its root is gone: what others put in meanwhile is taken by the next pass."""
    for _ in range(_PASSES):
        with live_below(deletion.root) as ids:
            release_connection()
            for batch in ids.backwards(BATCH):
                taken = _take_batch(deletion, batch)
                if taken is None:
                    return
                yield taken
                if taken and taken[-1] == deletion.root:
                    return
    raise BackendUnavailableError("Others keep filling this folder. Delete it again.")


def _take_batch(deletion: _Deletion, ids: list[UUID]) -> list[UUID] | None:
    """Take what of these is still there and holds nothing that is alive; None: the deletion was called off."""
    with write_section():
        rows = _locked(deletion.owner_id, Q(pk__in={*ids, deletion.root}, trashed_at=None))
        root = rows.get(deletion.root)
        if root is None or root.trashed_root != deletion.root:
            return None
        held = _holders(ids, rows)
        taken = []
        for asset in (rows[found] for found in ids if found in rows):  # children before their folders
            if asset.pk in held and asset.parent_id:
                held.add(asset.parent_id)
            elif asset.pk not in held:
                taken.append(asset)
        if taken:
            deletion.take(deletion, taken)
    release_connection()
    return [asset.pk for asset in taken]


def _holders(ids: list[UUID], rows: dict[UUID, Asset]) -> set[UUID]:
    """Find the folders among these that hold something alive beside these; costs one statement, none for files."""
    folders = [found for found in ids if found in rows and rows[found].is_folder]
    if not folders:
        return set()
    others = Asset.objects.filter(parent_id__in=folders, trashed_at=None).exclude(pk__in=ids)
    return {found for found in others.values_list("parent_id", flat=True).distinct() if found}


def _to_trash(deletion: _Deletion, assets: list[Asset]) -> None:
    Asset.objects.filter(pk__in=[asset.pk for asset in assets]).update(
        trashed_at=deletion.now, trashed_root=deletion.root, updated_at=deletion.now, revision=F("revision") + 1
    )
    changes.trashed(assets)


def _for_good(deletion: _Deletion, assets: list[Asset]) -> None:
    _remove(assets)


def _remove(assets: list[Asset]) -> None:
    """Remove locked assets that hold nothing alive; what was trashed out of a folder loses it, and so goes home."""
    if not assets:
        return
    lock_objects(*(asset.object_id for asset in assets))
    ids = [asset.pk for asset in assets]
    folders = [asset.pk for asset in assets if asset.is_folder]
    if folders:
        Asset.objects.filter(parent_id__in=folders).update(parent=None)
    Asset.objects.filter(pk__in=ids).delete()
    changes.removed(assets)


def _empty(deletion: _Deletion, root: UUID) -> Iterator[list[UUID]]:
    """Delete out of the trash what one deletion took, from an asset on."""
    with taken_below(root, deletion.root) as ids:
        release_connection()
        for batch in ids.backwards(BATCH):
            with write_section():
                still = Q(pk__in=batch, trashed_at__isnull=False, trashed_root=root)
                rows = _locked(deletion.owner_id, still)
                gone = [rows[found] for found in batch if found in rows]
                _remove(gone)
            release_connection()
            yield [asset.pk for asset in gone]


def _locked(owner_id: int, condition: Q) -> dict[UUID, Asset]:
    """Lock an owner's assets in the order of their ids."""
    rows = Asset.objects.filter(condition, owner_id=owner_id).defer("metadata").order_by("pk").select_for_update()
    return {asset.pk: asset for asset in rows}


# --- restoring ------------------------------------------------------------------------------------


def _call_off(owner_id: int, asset: Asset) -> None:
    """Take the mark from the root of a deletion that did not end."""
    if asset.trashed_at is not None or asset.trashed_root is None:
        return
    with write_section():
        lock_owner(owner_id)
        Asset.objects.filter(pk=asset.pk, trashed_at=None).update(trashed_root=None, updated_at=timezone.now())
    release_connection()


def _refuse_taken_keys(ids: list[UUID]) -> None:
    rival = Asset.objects.filter(bucket=OuterRef("bucket"), key=OuterRef("key"), trashed_at=None)
    taken = Asset.objects.filter(Exists(rival), pk__in=ids, key__isnull=False, trashed_at__isnull=False)
    found = taken.values_list("bucket", "key").first()
    release_connection()
    if found is not None:
        raise ObjectExistsError(_TAKEN.format(bucket=found[0], key=found[1]))


def _restore_batch(owner_id: int, root: UUID, ids: list[UUID]) -> None:
    try:
        with write_section():
            assets = _lock_trashed(owner_id, root, ids)
            _bring_back(assets)
    except IntegrityError as error:
        raise ObjectExistsError("The key of a deleted asset was taken just now. Restore it again.") from error
    release_connection()


def _lock_trashed(owner_id: int, root: UUID, ids: list[UUID]) -> list[Asset]:
    """Lock what is to come back, and the folders it lies in; what has lost its folder is put into home."""
    folders = set(Asset.objects.filter(pk__in=ids, parent__isnull=False).values_list("parent_id", flat=True))
    rows = _locked(owner_id, Q(pk__in={*ids, *folders}))
    there = {row.pk: row for row in rows.values() if row.trashed_root == root and row.trashed_at and row.pk in set(ids)}
    homeless = [row for row in there.values() if not _has_folder(row, rows, there)]
    Asset.objects.filter(pk__in=[row.pk for row in homeless]).update(parent=None)
    for row in homeless:
        row.parent_id = None
    return list(there.values())


def _has_folder(row: Asset, rows: dict[UUID, Asset], coming: dict[UUID, Asset]) -> bool:
    """Tell whether an asset's folder is there, or comes back with it; one that is being deleted does not count."""
    folder = rows.get(row.parent_id) if row.parent_id else None
    if row.parent_id is None or (folder is not None and folder.pk in coming):
        return True
    return folder is not None and folder.trashed_at is None and folder.trashed_root is None


def _bring_back(assets: list[Asset]) -> None:
    if not assets:
        return
    now = timezone.now()
    Asset.objects.filter(pk__in=[asset.pk for asset in assets]).update(
        trashed_at=None, trashed_root=None, updated_at=now, revision=F("revision") + 1
    )
    for asset in assets:
        asset.trashed_at = asset.trashed_root = None
    changes.restored(assets)


def _unexpired(now: datetime) -> Q:
    return Q(expires_at=None) | Q(expires_at__gt=now)
