"""What an archive of assets and whole folders will hold: the tree of folders, and the ids of files, 16 bytes each.

How it is written lives in `assets.services.archive_stream`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from django.db import connection
from django.utils import timezone

from assets.models import Asset, AssetQuerySet
from assets.services.archive_names import safe_segment
from assets.services.sections import catalog_errors, release_connection
from storagecache.errors import ObjectNotFoundError

MAX_ENTRIES: Final = 100_000  # files and folders of one archive: its directory, 1 KB for each, is written at the end
ID_BYTES: Final = 16
_FETCHED: Final = 2000  # rows at a time


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
    """Find what the archive of these assets and folders holds; costs two statements.

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
    """Read the trees below the folders; returns what of the chosen lies in one of them."""
    nested: set[UUID] = set()
    room = MAX_ENTRIES - len(chosen)
    for number, (pk, parent, is_folder, name) in enumerate(_content(owner_id, list(folders), limit=room + 1)):
        if number == room:
            raise ArchiveError(f"asset_ids: more than {MAX_ENTRIES} files and folders; choose fewer.")
        if pk in chosen:
            nested.add(pk)
        holder = folders.setdefault(parent, Folder(""))  # its own row may come later
        if is_folder:
            folders.setdefault(pk, Folder("")).name = name
            holder.folders.append(pk)
        else:
            holder.files += pk.bytes
    for folder in folders.values():
        folder.sort()
    return nested


# UNION, not UNION ALL: a ring of folders, which no service makes, ends. Whose they are is not looked for by an index:
# SQLite would read all that the owner has. CROSS JOIN keeps the order of the tables there.
_CONTENT: Final = """
    WITH RECURSIVE tree (id) AS (
        SELECT a.id FROM {table} a WHERE a.id IN ({ids})
        UNION
        SELECT below.id FROM tree CROSS JOIN {table} below
        WHERE below.parent_id = tree.id AND below.is_folder AND below.trashed_at IS NULL
    )
    SELECT a.id, a.parent_id, a.is_folder, CASE WHEN a.is_folder THEN a.name ELSE '' END
    FROM tree CROSS JOIN {table} a
    WHERE a.parent_id = tree.id AND a.trashed_at IS NULL AND (a.expires_at IS NULL OR a.expires_at > %s)
        AND +a.owner_id = %s LIMIT {limit}"""


def _content(owner_id: int, folders: list[UUID], limit: int) -> Iterator[tuple[UUID, UUID, bool, str]]:
    """Yield all that lies in folders and below: id, folder, whether it is a folder, and then its name."""
    if not folders:
        return
    sql = _CONTENT.format(table=Asset._meta.db_table, ids=", ".join(["%s"] * len(folders)), limit=limit)
    now = connection.ops.adapt_datetimefield_value(timezone.now())
    with connection.chunked_cursor() as cursor:
        cursor.execute(sql, [*(folder.hex for folder in folders), now, owner_id])
        while rows := cursor.fetchmany(_FETCHED):
            for pk, parent, is_folder, name in rows:
                yield UUID(str(pk)), UUID(str(parent)), bool(is_folder), name


def _title(chosen: list[tuple[UUID, bool, str]]) -> str:
    return f"{safe_segment(chosen[0][2])}.zip" if len(chosen) == 1 else "assets.zip"


def _live(owner_id: int) -> AssetQuerySet:
    return Asset.objects.filter(owner_id=owner_id).alive(timezone.now())
