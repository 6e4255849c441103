"""Find assets by a part of their name: any case of any script, wildcards literal, pages by keyset in order of age.

An index of trigrams serves terms of three characters and more. What it cannot serve (shorter terms), and what it serves
badly (an owner of few assets whose term is in nearly every name of the others), is looked through in order. What the
index holds is kept by `assets.services.indexing`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from django.db import connection
from django.db.models import CharField, F, Value
from django.db.models.functions import StrIndex
from django.utils import timezone

from assets.engines import NameIndex, NamesWanted, engine
from assets.models import Asset, AssetQuerySet, fold_name
from assets.services.cursors import Cursor, decode_cursor, encode_cursor, scope
from assets.services.listing import NAMED_COLUMNS, Filters, conditions_of
from assets.services.narrowing import TypePrefix, finds_few, narrow

HOME: Final = "Home"
MIN_TERM: Final = 2  # characters
FEW: Final = 20_000  # assets of an owner that are looked through one by one
MAX_PATH: Final = 4096  # characters


@dataclass(frozen=True, slots=True)
class Place:
    """The folder that an asset lies in; `id` is the owner's id for home, `path` is "Home / A / B".

    A path of more than about MAX_PATH characters has an ellipsis instead of its upper folders.
    """

    id: str
    name: str
    path: str


@dataclass(frozen=True, slots=True)
class Found:
    """A page of assets, each with its object; where they lie, by parent; the cursor of the next page ("": none)."""

    assets: tuple[Asset, ...]
    places: Mapping[UUID | None, Place]
    next: str


def search_assets(owner_id: int, term: str, *, filters: Filters, cursor: str, size: int) -> Found:
    """Give one page of an owner's live assets whose name holds the term; a folder in `filters` does not narrow it.

    Costs two statements; on SQLite up to six.

    Raises:
        CursorError: the cursor was not made by this search.
    """
    folded = fold_name(term)
    bound_to = scope("search", owner_id, folded, filters.bound_to(owner_id, "created").decode())
    after = decode_cursor(cursor, bound_to).id if cursor else UUID(int=0)
    wanted = _Wanted(owner_id, folded, filters, after, size + 1, timezone.now())
    names = engine().names
    found = _by_index(names, wanted) if names else _in_order(wanted)
    assets = tuple(found[:size])
    following = encode_cursor(Cursor(assets[-1].pk), bound_to) if len(found) > size else ""
    return Found(assets, places_of(owner_id, assets), following)


def places_of(owner_id: int, assets: Iterable[Asset]) -> dict[UUID | None, Place]:
    """Tell where assets lie, by the id of their folder; costs one statement for any number and depth, none in home."""
    home = Place(str(owner_id), HOME, HOME)
    places: dict[UUID | None, Place] = {None: home}
    parents = {asset.parent_id for asset in assets if asset.parent_id}
    folders = _above(parents)
    for folder in parents & folders.keys():
        places[folder] = Place(folder.hex, folders[folder].name, _path(folder, folders))
    return places


def folder_chain(folder_id: UUID) -> list[tuple[UUID, str]]:
    """Give the ids and names of a folder and of those above it, the topmost first; costs one statement."""
    folders = _above({folder_id})
    return [(step, folders[step].name) for step in reversed(_chain(folder_id, folders))]


# --- finding --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is searched: `term` is folded, `after` is the id that the page before ended with."""

    owner_id: int
    term: str
    filters: Filters
    after: UUID
    count: int
    now: datetime

    def live(self) -> AssetQuerySet:
        """Give the owner's live assets that the filters let through, to be sorted by the alias `place`."""
        alive = Asset.objects.all().alive(self.now).select_related("object")
        chosen = narrow(alive, self.owner_id, list(conditions_of(self.filters)), by_id=True)
        return chosen.filter(**self.filters.bounds)


def _in_order(wanted: _Wanted) -> list[Asset]:
    """Look through the names in order, or let PostgreSQL choose its index where that serves the term."""
    behind = {"place__gt": wanted.after}
    chosen = wanted.live().filter(**behind)
    if engine().finds_by_index(wanted.term):
        chosen = chosen.filter(name_folded__contains=wanted.term)
    else:  # no LIKE: PostgreSQL would take the index of trigrams for it, and read all of it
        term = Value(wanted.term, output_field=CharField())
        chosen = chosen.alias(at=StrIndex("name_folded", term)).filter(at__gt=0)
    return list(chosen.order_by(F("place"))[: wanted.count])


def _by_index(names: NameIndex, wanted: _Wanted) -> list[Asset]:
    if _has_few(wanted.owner_id) or finds_few(wanted.owner_id, list(conditions_of(wanted.filters))):
        return _in_order(wanted)
    ids = _found_by_index(names, wanted)
    rows = Asset.objects.filter(pk__in=ids).select_related("object")
    return sorted(rows, key=lambda asset: asset.pk)


def _has_few(owner_id: int) -> bool:
    """Tell whether an owner has so few assets that looking through them costs less than the index may."""
    mine = Asset.objects.filter(owner_id=owner_id, trashed_at=None).order_by().values("pk")[: FEW + 1]
    return mine.count() <= FEW


_TYPE: Final = " AND a.content_type >= %s AND a.content_type < %s"
_TAGGED: Final = """ AND EXISTS (SELECT 1 FROM assets_assetattribute AS t
    WHERE t.asset_id = a.id AND t.name = 'tag' AND t.text = %s)"""
_BOUNDS: Final = {
    "place__gte": " AND a.id >= %s", "place__lt": " AND a.id < %s",
    "size__gte": " AND a.size >= %s", "size__lte": " AND a.size <= %s",
}  # fmt: skip


def _found_by_index(names: NameIndex, wanted: _Wanted) -> list[UUID]:
    """Give the ids of one page, out of the index of names."""
    conditions, values = _narrowed(wanted.filters)
    return names.find(
        NamesWanted(wanted.owner_id, wanted.term, wanted.after, wanted.count, wanted.now, conditions, values)
    )


def _narrowed(filters: Filters) -> tuple[str, list[str | int]]:
    """Write what filters ask of an asset as conditions of SQL, with their values."""
    sql, values = "", list[str | int]()
    for column in NAMED_COLUMNS:
        if value := getattr(filters, column):
            sql, values = f"{sql} AND a.{column} = %s", [*values, value]
    if filters.content_type:
        sql, values = sql + _TYPE, [*values, *TypePrefix(filters.content_type).bounds]
    if filters.tag:
        sql, values = sql + _TAGGED, [*values, filters.tag]
    for name, bound in filters.bounds.items():
        sql, values = sql + _BOUNDS[name], [*values, bound.hex if isinstance(bound, UUID) else bound]
    return sql, values


# --- folders --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Folder:
    name: str
    parent: UUID | None


# UNION, not UNION ALL: a folder that is above many others is read once.
_ABOVE: Final = """
    WITH RECURSIVE above(id, parent_id, name) AS (
        SELECT id, parent_id, name FROM assets_asset WHERE id IN ({places})
        UNION
        SELECT a.id, a.parent_id, a.name FROM above JOIN assets_asset AS a ON a.id = above.parent_id
    ) SELECT id, parent_id, name FROM above"""


def _above(folder_ids: set[UUID]) -> dict[UUID, _Folder]:
    """Read folders and every folder above them."""
    if not folder_ids:
        return {}
    places = ", ".join(["%s"] * len(folder_ids))
    with connection.cursor() as cursor:
        cursor.execute(_ABOVE.format(places=places), [i.hex for i in folder_ids])
        rows = cursor.fetchall()
    return {_id(row[0]): _Folder(row[2], _id(row[1]) if row[1] else None) for row in rows}


def _id(value: object) -> UUID:
    return value if isinstance(value, UUID) else UUID(str(value))


def _chain(folder: UUID, folders: Mapping[UUID, _Folder]) -> list[UUID]:
    """Give a folder and those above it, the topmost last."""
    chain: dict[UUID, None] = {}
    step: UUID | None = folder
    while step is not None and step in folders and step not in chain:
        chain[step] = None
        step = folders[step].parent
    return list(chain)


def _path(folder: UUID, folders: Mapping[UUID, _Folder]) -> str:
    """Write where a folder lies; no further up than there is room for, since folders nest without bound."""
    names: list[str] = []
    step: UUID | None = folder
    room = MAX_PATH
    while step is not None and step in folders and room > 0:
        names.append(folders[step].name)
        room -= len(names[-1]) + len(" / ")
        step = folders[step].parent
    if step in folders:
        names.append("…")
    return " / ".join((HOME, *reversed(names)))
