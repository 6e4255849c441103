"""The names of live assets as trigrams, in a table of SQLite's FTS5 beside the assets.

It holds its own copy of the names, and no trigger keeps it: a later migration of the assets would lose one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final
from uuid import UUID

from django.db import connection

from assets.engines.base import Name, NamesWanted
from assets.ids import search_row

_TRIGRAM: Final = 3  # characters
_ROWS: Final = 200  # of one INSERT
_NAMES: Final = "assets_search"
# CROSS JOIN keeps the order of the tables (https://www.sqlite.org/optoverview.html, 8.2): names first, in the order of
# their rows, which is that of the ids; so a page ends as soon as it is full.
_BY_TRIGRAMS: Final = f"""
    SELECT a.id FROM {_NAMES} AS s CROSS JOIN assets_asset AS a
    WHERE {_NAMES} MATCH %s AND s.rowid > %s AND s.owner = %s AND a.id = s.asset AND {{live}}
    ORDER BY s.rowid LIMIT %s"""  # noqa: S608  # names of ours
# The table behind the index (https://www.sqlite.org/fts5.html, 9): names and owners without the rest of the assets.
_BY_NAMES: Final = f"""
    SELECT a.id FROM {_NAMES}_content AS s CROSS JOIN assets_asset AS a
    WHERE instr(s.c0, %s) AND s.id > %s AND s.c2 = %s AND a.id = s.c1 AND {{live}}
    ORDER BY s.id LIMIT %s"""  # noqa: S608
_LIVE: Final = "a.trashed_at IS NULL AND (a.expires_at IS NULL OR a.expires_at > %s)"


class TrigramTable:
    """The index of names on SQLite; see `assets.engines.base.NameIndex`."""

    def find(self, wanted: NamesWanted) -> list[UUID]:
        """Ask the table of trigrams, or look through its names when the term is shorter than those."""
        is_served = len(wanted.term) >= _TRIGRAM
        quoted = wanted.term.replace('"', '""')
        parameters: list[str | int | float] = [
            f'"{quoted}"' if is_served else wanted.term,
            search_row(wanted.after),
            wanted.owner_id,
            wanted.now.replace(tzinfo=None).isoformat(" "),
            *wanted.values,
            wanted.count,
        ]
        sql = (_BY_TRIGRAMS if is_served else _BY_NAMES).format(live=_LIVE + wanted.conditions)
        with connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return [UUID(hex=row[0]) for row in cursor.fetchall()]

    def add(self, names: Iterable[Name]) -> None:
        """Add rows to the table of trigrams."""
        rows = [(search_row(name.asset_id), name.folded, name.asset_id.hex, name.owner_id) for name in names]
        with connection.cursor() as cursor:
            for start in range(0, len(rows), _ROWS):
                part = rows[start : start + _ROWS]
                places = ", ".join(["(%s, %s, %s, %s)"] * len(part))
                values = [value for row in part for value in row]
                cursor.execute(f"INSERT INTO {_NAMES} (rowid, name, asset, owner) VALUES {places}", values)  # noqa: S608

    def change(self, name: Name) -> None:
        """Change a row of the table of trigrams."""
        statement = f"UPDATE {_NAMES} SET name = %s WHERE rowid = %s"  # noqa: S608  # a name of ours
        with connection.cursor() as cursor:
            cursor.execute(statement, [name.folded, search_row(name.asset_id)])

    def remove(self, asset_ids: Collection[UUID]) -> None:
        """Remove rows from the table of trigrams."""
        rows = [search_row(asset_id) for asset_id in asset_ids]
        places = ", ".join(["%s"] * len(rows))
        with connection.cursor() as cursor:
            cursor.execute(f"DELETE FROM {_NAMES} WHERE rowid IN ({places})", rows)  # noqa: S608
