"""What an archive of assets and whole folders will hold: the tree of folders, and the ids of files, 16 bytes each.

How it is written lives in `assets.services.archive_stream`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from django.db.models import Case, F, Value, When
from django.utils import timezone

from assets.models import Asset, AssetQuerySet
from assets.services.archive_names import safe_segment
from assets.services.sections import catalog_errors, release_connection
from storagecache.errors import ObjectNotFoundError

MAX_ENTRIES: Final = 100_000  # files and folders of one archive: its directory, 1 KB for each, is written at the end
ID_BYTES: Final = 16
_FOLDERS: Final = 1000  # whose content one statement reads


class ArchiveError(ValueError):
    """What is asked for is more than one archive holds."""


@dataclass(slots=True)
class Folder:
    """A folder of the archive: its name in the catalog, its folders, and the ids of its files, packed."""

    name: str
    folders: list[UUID] = field(default_factory=list)
    files: bytearray = field(default_factory=bytearray)

    def sort(self) -> None:
        """Put all in the order of their creation; the database need not, which might choose to read all it has."""
        self.folders.sort()
        starts = range(0, len(self.files), ID_BYTES)
        self.files = bytearray(b"".join(sorted(bytes(self.files[start : start + ID_BYTES]) for start in starts)))


@dataclass(frozen=True, slots=True)
class Archive:
    """What an archive will hold. `folders` are all of them by id, `top` is what was chosen, without what it holds."""

    owner_id: int
    name: str
    folders: dict[UUID, Folder]
    top: Folder


def plan_archive(owner_id: int, asset_ids: Collection[UUID]) -> Archive:
    """Find what the archive of these assets and folders holds; costs a statement, and one for 1,000 folders of a level.

    What is chosen and also lies in a chosen folder is there once, in its folder.

    Raises:
        ObjectNotFoundError: one of them is absent, in the trash, expired or another owner's; the text names it.
        ArchiveError: more than MAX_ENTRIES files and folders.
    """
    with catalog_errors():
        chosen = _chosen(owner_id, asset_ids)
        folders = {pk: Folder(name) for pk, is_folder, name in chosen if is_folder}
        nested = _fill(owner_id, folders, chosen={pk for pk, _, _ in chosen})
    release_connection()
    top = Folder("")
    for pk, is_folder, _ in chosen:
        if is_folder and pk not in nested:
            top.folders.append(pk)
        elif pk not in nested:
            top.files += pk.bytes
    return Archive(owner_id, _title(chosen), folders, top)


def _chosen(owner_id: int, asset_ids: Collection[UUID]) -> list[tuple[UUID, bool, str]]:
    wanted = dict.fromkeys(asset_ids)  # in order, each once
    rows = _live(owner_id).filter(pk__in=list(wanted)).values_list("pk", "is_folder", "name")
    found = {row[0]: row for row in rows}
    missing = [pk for pk in wanted if pk not in found]
    if missing:
        raise ObjectNotFoundError(f"asset_ids: there is no asset {missing[0].hex}.")
    return [found[pk] for pk in wanted]


def _fill(owner_id: int, folders: dict[UUID, Folder], chosen: set[UUID]) -> set[UUID]:
    """Read the trees below the folders, level by level; returns what of the chosen lies in one of them.

    A folder is opened once, so that a ring of folders, which no service makes, cannot hold this up.
    """
    nested: set[UUID] = set()
    entries, level = len(chosen), list(folders)
    while level:
        opened, level = level[:_FOLDERS], level[_FOLDERS:]
        for pk, parent, is_folder, name in _content(owner_id, opened, limit=MAX_ENTRIES - entries + 1):
            entries += 1
            if pk in chosen:
                nested.add(pk)
            if not is_folder:
                folders[parent].files += pk.bytes
                continue
            folders[parent].folders.append(pk)
            if pk not in folders:
                folders[pk] = Folder(name)
                level.append(pk)
        for pk in opened:
            folders[pk].sort()
        if entries > MAX_ENTRIES:
            raise ArchiveError(f"asset_ids: more than {MAX_ENTRIES} files and folders; choose fewer.")
    return nested


def _content(owner_id: int, folders: list[UUID], limit: int) -> Iterator[tuple[UUID, UUID, bool, str]]:
    """Yield the entries of folders: id, folder, whether it is a folder, and then its name."""
    name = Case(When(is_folder=True, then=F("name")), default=Value(""))
    rows = _live(owner_id).filter(parent_id__in=folders).annotate(shown=name).order_by("pk")  # as they were made
    yield from rows.values_list("pk", "parent_id", "is_folder", "shown")[:limit].iterator(chunk_size=2000)


def _title(chosen: list[tuple[UUID, bool, str]]) -> str:
    return f"{safe_segment(chosen[0][2])}.zip" if len(chosen) == 1 else "assets.zip"


def _live(owner_id: int) -> AssetQuerySet:
    return Asset.objects.filter(owner_id=owner_id).alive(timezone.now())
