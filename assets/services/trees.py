"""The shape of folders: who lies above, and who below, in one statement each.

Nothing here writes a row. Ids of a tree are kept in a file when they are many, so that memory stays the same for
a tree of any size.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator
from types import TracebackType
from typing import Final, Self
from uuid import UUID

from django.db import connection
from django.db.models.expressions import RawSQL

from assets.models import Asset

_ID: Final = 16  # bytes
_IN_MEMORY: Final = 1 << 20  # bytes of ids; more of them go to a file
_FETCHED: Final = 2000  # rows at a time
_TABLE: Final = Asset._meta.db_table

_UP: Final = """
WITH RECURSIVE up (id, parent_id) AS (
    SELECT id, parent_id FROM {table} WHERE id IN ({ids})
    UNION
    SELECT above.id, above.parent_id FROM up JOIN {table} above ON above.id = up.parent_id
)
SELECT a.id, a.parent_id, a.name, a.is_folder, a.owner_id, a.trashed_at, a.trashed_root
FROM up JOIN {table} a ON a.id = up.id
"""
_DOWN: Final = """
WITH RECURSIVE tree (id, depth) AS (
    SELECT a.id, 0 FROM {table} a WHERE {top}
    UNION ALL
    SELECT below.id, tree.depth + 1 FROM tree JOIN {table} below ON below.parent_id = tree.id WHERE {below}
)
SELECT id FROM tree ORDER BY depth, id{limit}
"""
_LIVE: Final = "below.trashed_at IS NULL"
_TAKEN: Final = "below.trashed_root = %s AND below.trashed_at IS NOT NULL"
_TOPMOST: Final = """
a.trashed_root = %s AND a.trashed_at IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM {table} p
    WHERE p.id = a.parent_id AND p.trashed_root = a.trashed_root AND p.trashed_at IS NOT NULL
)"""


class Ids:
    """Many ids in order, to be gone through from either end; closed when its block ends."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115  # closed by __exit__
        self.count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, ids: list[UUID]) -> None:
        """Add ids behind the last ones."""
        self._file.write(b"".join(found.bytes for found in ids))
        self.count += len(ids)

    def forwards(self, size: int) -> Iterator[list[UUID]]:
        """Yield them from the first on, `size` at a time."""
        for start in range(0, self.count, size):
            yield self._read(start, min(size, self.count - start))

    def backwards(self, size: int) -> Iterator[list[UUID]]:
        """Yield them from the last on, `size` at a time."""
        for end in range(self.count, 0, -size):
            start = max(0, end - size)
            yield self._read(start, end - start)[::-1]

    def _read(self, start: int, count: int) -> list[UUID]:
        self._file.seek(start * _ID)
        raw = self._file.read(count * _ID)
        return [UUID(bytes=raw[at : at + _ID]) for at in range(0, len(raw), _ID)]


def above(ids: Collection[UUID]) -> dict[UUID, Asset]:
    """Give these assets and every folder above them; costs one statement, also when there are thousands.

    Of each are loaded: parent, name, owner, and whether it is trashed or being deleted.
    """
    if not ids:
        return {}
    marks = ", ".join(["%s"] * len(ids))
    rows = Asset.objects.raw(_UP.format(table=_TABLE, ids=marks), [found.hex for found in ids])
    return {asset.pk: asset for asset in rows}


def path_to(asset_id: UUID | None, known: dict[UUID, Asset]) -> list[Asset]:
    """Give the folders from the topmost one to this one, itself included, out of what `above` found."""
    path: list[Asset] = []
    while asset_id is not None and asset_id in known:
        path.append(known[asset_id])
        asset_id = path[-1].parent_id
    return path[::-1]


def live_below(root: UUID) -> Ids:
    """Collect an asset and all that is not trashed below it, folders before what they hold; costs one statement."""
    return _collect("a.id = %s", _LIVE, [root.hex])


def first_live_below(root: UUID | None, owner_id: int, limit: int) -> RawSQL:
    """Give, as what `pk__in` takes, at most `limit` ids of a live tree, level by level; None: all that an owner has."""
    top, parameter = ("a.id = %s", root.hex) if root else (_AT_HOME, owner_id)
    return RawSQL(_DOWN.format(table=_TABLE, top=top, below=_LIVE, limit=f" LIMIT {limit}"), [parameter])  # noqa: S611


_AT_HOME: Final = "a.owner_id = %s AND a.parent_id IS NULL AND a.trashed_at IS NULL"


def taken_below(root: UUID, top: UUID) -> Ids:
    """Collect what the deletion of `root` took, from `top` on, folders before what they hold.

    When `top` is the root itself it is all of it, wherever it lies by now.
    """
    if top == root:
        return _collect(_TOPMOST.format(table=_TABLE), _TAKEN, [root.hex, root.hex])
    return _collect("a.id = %s AND a.trashed_at IS NOT NULL", _TAKEN, [top.hex, root.hex])


def _collect(top: str, below: str, parameters: list[str]) -> Ids:
    """Run the statement with a cursor of the server's: its rows never are in memory all at once."""
    ids = Ids()
    with connection.chunked_cursor() as cursor:
        cursor.execute(_DOWN.format(table=_TABLE, top=top, below=below, limit=""), parameters)
        while rows := cursor.fetchmany(_FETCHED):
            ids.append([UUID(str(row[0])) for row in rows])
    return ids
