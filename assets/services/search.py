"""Find assets by a part of their name: any case of any script, wildcards literal, pages by keyset in order of age.

An index of trigrams serves terms of three characters and more. What it cannot serve (shorter terms), and what it serves
badly (an owner of few assets whose term is in nearly every name of the others), is looked through in order. What the
index holds is kept by `assets.services.indexing`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from django.db import connection
from django.db.models.expressions import RawSQL
from django.utils import timezone

from assets.engines import NameIndex, NamesWanted, engine
from assets.models import Asset, fold_name
from assets.services import pages
from assets.services.cursors import Cursor, decode_cursor, encode_cursor, scope
from assets.services.listing import Filters, conditions_of
from assets.services.narrowing import Anything, Narrowing, Sql
from assets.services.pages import Sort, Wanted, gathered, narrowest, walked

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

    Costs up to four statements, on SQLite up to five.

    Raises:
        CursorError: the cursor was not made by this search.
    """
    folded = fold_name(term)
    bound_to = scope("search", owner_id, folded, filters.bound_to(owner_id, "created").decode())
    after = decode_cursor(cursor, bound_to).id if cursor else UUID(int=0)
    wanted = _Wanted(owner_id, folded, filters, after, size + 1, timezone.now())
    rows = Asset.objects.filter(pk__in=_ids(wanted)).select_related("object")
    found = sorted(rows, key=lambda asset: asset.pk)
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

    @property
    def conditions(self) -> list[Narrowing]:
        """What the filters ask."""
        return list(conditions_of(self.filters))

    def page(self, conditions: Sequence[Narrowing]) -> Wanted:
        """Give the page as lists know it."""
        return Wanted(
            owner_id=self.owner_id, conditions=conditions, sort=Sort(), after=Cursor(self.after), count=self.count,
            now=self.now,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Named:
    """Assets whose name holds a term. No LIKE: PostgreSQL would take its index of trigrams, and read all of it."""

    term: str

    orders = frozenset[str]()
    place = "a.id"
    key = "a.id"

    def found(self, owner_id: int, rank: str = "id") -> Sql:
        """No index finds them."""
        return Anything().found(owner_id, rank)

    def holds(self, owner_id: int, place: str) -> Sql:
        """See Narrowing."""
        return Sql(f"{engine().position}(a.name_folded, %s) > 0", (self.term,))


@dataclass(frozen=True, slots=True)
class _Like(_Named):
    """The same, by the index of trigrams where PostgreSQL finds it worth it."""

    def holds(self, owner_id: int, place: str) -> Sql:
        """See Narrowing."""
        literal = connection.ops.prep_for_like_query(self.term)
        return Sql("a.name_folded LIKE %s", (f"%{literal}%",))


def _ids(wanted: _Wanted) -> list[UUID] | RawSQL:
    """Give the ids of the page, or select them."""
    names = engine().names
    if names is None and engine().finds_by_index(wanted.term):
        return _raw(_by_like(wanted))
    few = narrowest(wanted.owner_id, wanted.conditions, pages.FEW)
    if names and few is None and not _has_few(wanted.owner_id):
        return _by_trigrams(names, wanted)
    page = wanted.page([*wanted.conditions, _Named(wanted.term)])
    return _raw(gathered(page, few) if few else walked(page, None))


def _raw(sql: Sql) -> RawSQL:
    return RawSQL(sql.text, sql.values)  # noqa: S611  # values are parameters


def _has_few(owner_id: int) -> bool:
    """Tell whether an owner has so few assets that looking through them costs less than the index may."""
    mine = Asset.objects.filter(owner_id=owner_id, trashed_at=None).order_by().values("pk")[: FEW + 1]
    return mine.count() <= FEW


def _by_like(wanted: _Wanted) -> Sql:
    """Select the ids of the page; PostgreSQL chooses between its index of trigrams and the order."""
    return walked(wanted.page([*wanted.conditions, _Like(wanted.term)]), None)


def _by_trigrams(names: NameIndex, wanted: _Wanted) -> list[UUID]:
    """Give the ids of the page, out of the index of names."""
    met = Sql("")
    for condition in wanted.conditions:
        met += Sql(" AND ") + condition.holds(wanted.owner_id, "a.id")
    return names.find(
        NamesWanted(wanted.owner_id, wanted.term, wanted.after, wanted.count, wanted.now, met.text, met.values)
    )


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
