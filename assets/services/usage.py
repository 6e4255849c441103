"""What each user's files amount to: noted as they change, so that nobody ever counts a library to know.

The section that changes assets calls one function here, behind its other changes; it inserts what changed, one row for
each combination of owner, place, folder, type and day. Nobody waits for anybody there. `fold` adds the rows up now and
then, and who reads adds what is not folded yet. Only files count. Folding and counting anew live in
`assets.services.usage_upkeep`.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from django.db import connection
from django.db.models import F, Q, QuerySet, Sum, Value

from assets.engines import engine
from assets.models import Account, Asset, UsageDelta, UsageTotal

Dimension = UsageTotal.Dimension
TRASH: Final = "trash"  # the place of what is in the trash; it has no folder, type or day
FOLDERS: Final = 1000  # the largest, and those that changed just now
DAYS: Final = 366
_GROUP_LENGTH: Final = 64
_ROWS: Final = 1000  # in one INSERT


@dataclass(frozen=True, slots=True)
class Cell:
    """What a file is counted under; the texts are those of UsageDelta."""

    owner_id: int
    place: str
    folder: str
    group: str
    day: str


@dataclass(frozen=True, slots=True)
class Amount:
    """How much there is."""

    bytes: int = 0
    count: int = 0  # files

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.bytes + other.bytes, self.count + other.count)

    def __neg__(self) -> Amount:
        return Amount(-self.bytes, -self.count)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a user has: live files by each dimension, the trash beside them. Folders and days are bounded."""

    places: dict[str, Amount]
    groups: dict[str, Amount]
    folders: dict[str, Amount]
    days: dict[str, Amount]

    @property
    def live(self) -> Amount:
        """What is not in the trash, temp included."""
        return sum((amount for place, amount in self.places.items() if place != TRASH), start=Amount())


Change = tuple[Cell, Amount]
Row = tuple[str, str, int, int]  # dimension, value, bytes, count


# --- noting -----------------------------------------------------------------------------------


def created(asset: Asset) -> None:
    """Note a new asset; one INSERT, none for a folder."""
    _note(_counted([asset]))


def changed(before: Asset, after: Asset) -> None:
    """Note that an asset has other bytes, another type or another folder; one INSERT when that changes a figure."""
    _note([*_reversed(_counted([before])), *_counted([after])])


def trashed(assets: Sequence[Asset]) -> None:
    """Note that live assets go to the trash; one INSERT."""
    _note([*_reversed(_counted(assets, is_live=True)), *_counted(assets, is_live=False)])


def restored(assets: Sequence[Asset]) -> None:
    """Note that assets come back from the trash into the folders that they have now; one INSERT."""
    _note([*_reversed(_counted(assets, is_live=False)), *_counted(assets, is_live=True)])


def removed(assets: Sequence[Asset]) -> None:
    """Note that assets are gone, from where they were or from the trash; one INSERT."""
    _note(_reversed(_counted(assets)))


def moved(assets: Sequence[Asset], folder_id: UUID | None) -> None:
    """Note that live assets, as they are before, go into another folder (None: home); one INSERT."""
    before = _counted(assets, is_live=True)
    _note([*_reversed(before), *((_in_folder(cell, folder_id), amount) for cell, amount in before)])


def cell_of(asset: Asset, *, is_live: bool) -> Cell:
    """Tell what a file is counted under, or would be, were it live or in the trash."""
    if not is_live:
        return Cell(asset.owner_id, TRASH, "", "", "")
    return Cell(
        asset.owner_id,
        asset.bucket,
        folder_text(asset.owner_id, asset.parent_id),
        group_of(asset.content_type),
        asset.created_at.astimezone(UTC).date().isoformat(),
    )


def folder_text(owner_id: int, folder_id: UUID | None) -> str:
    """Write a folder as the API does: home is its owner's id."""
    return folder_id.hex if folder_id else str(owner_id)


def group_of(content_type: str) -> str:
    """Give the group of a content type: `image` of `image/png`."""
    return content_type.partition("/")[0].lower()[:_GROUP_LENGTH]


def _counted(assets: Iterable[Asset], *, is_live: bool | None = None) -> list[Change]:
    """Give what each file amounts to; None: as its row says."""
    return [
        (cell_of(asset, is_live=asset.trashed_at is None if is_live is None else is_live), Amount(asset.size or 0, 1))
        for asset in assets
        if not asset.is_folder
    ]


def _reversed(changes: Iterable[Change]) -> list[Change]:
    return [(cell, -amount) for cell, amount in changes]


def _in_folder(cell: Cell, folder_id: UUID | None) -> Cell:
    return Cell(cell.owner_id, cell.place, folder_text(cell.owner_id, folder_id), cell.group, cell.day)


def _note(changes: Iterable[Change]) -> None:
    """Insert what the changes amount to together, by cell; what cancels out is left out."""
    sums: defaultdict[Cell, Amount] = defaultdict(Amount)
    for cell, amount in changes:
        sums[cell] += amount
    rows = [
        (cell.owner_id, cell.place, cell.folder, cell.group, cell.day, amount.bytes, amount.count)
        for cell, amount in sums.items()
        if amount != Amount()
    ]
    for start in range(0, len(rows), _ROWS):
        _insert(rows[start : start + _ROWS])


def _insert(rows: list[tuple[int, str, str, str, str, int, int]]) -> None:
    """Insert rows without the ORM: this is in the section of every upload."""
    head, marks = _insert_sql()
    with connection.cursor() as cursor:
        cursor.execute(head + ", ".join([marks] * len(rows)), [value for row in rows for value in row])


@functools.cache
def _insert_sql() -> tuple[str, str]:
    columns = ("owner_id", "place", "folder", "group", "day", "bytes", "count")
    names = ", ".join(map(connection.ops.quote_name, columns))
    table = connection.ops.quote_name(UsageDelta._meta.db_table)
    return f"INSERT INTO {table} ({names}) VALUES ", f"({', '.join(['%s'] * len(columns))})"  # noqa: S608  # ours


# --- reading ----------------------------------------------------------------------------------


def usage_of(owner_id: int, *, now: datetime) -> Usage:
    """Read what a user has; one statement, which reads totals and what is not folded yet as of one moment."""
    since = (now.astimezone(UTC).date() - timedelta(days=DAYS - 1)).isoformat()
    deltas, totals = UsageDelta.objects.filter(owner_id=owner_id), UsageTotal.objects.filter(owner_id=owner_id)
    largest = totals.filter(dimension=Dimension.FOLDER).order_by("-bytes").values("pk")[:FOLDERS]
    folders = Q(pk__in=largest) | Q(value__in=deltas.values("folder"))
    kept = totals.filter(
        Q(dimension__in=[Dimension.PLACE, Dimension.GROUP])
        | Q(dimension=Dimension.DAY, value__gte=since)
        | Q(folders, dimension=Dimension.FOLDER)
    )
    parts = (deltas.filter(day__gte=since) if name == Dimension.DAY else deltas for name in Dimension)
    found = _added_up(_stored(kept), *(_waiting(part, name) for part, name in zip(parts, Dimension, strict=True)))
    return Usage(*(dict(found[name]) for name in (Dimension.PLACE, Dimension.GROUP, Dimension.FOLDER, Dimension.DAY)))


def places_of_everybody() -> dict[str, Amount]:
    """Tell what all users together have in each place; one statement.

    It costs three rows for each account, whatever they store, and what is not folded yet.
    """
    owners = Account.objects.values("user_id")  # by whom the index of totals begins
    totals = UsageTotal.objects.filter(owner_id__in=owners, dimension=Dimension.PLACE)
    sums = totals.order_by().values("dimension", "value").annotate(b=Sum("bytes"), c=Sum("count"))
    waiting = _waiting(UsageDelta.objects.all(), Dimension.PLACE)
    return dict(_added_up(sums.values_list("dimension", "value", "b", "c"), waiting)[Dimension.PLACE])


def folder_totals(owner_id: int, folder_ids: Collection[UUID | None]) -> dict[UUID | None, Amount]:
    """Tell what lies directly in each of an owner's folders (None: home); one statement."""
    texts = {folder_text(owner_id, folder_id): folder_id for folder_id in folder_ids}
    totals = UsageTotal.objects.filter(owner_id=owner_id, dimension=Dimension.FOLDER, value__in=texts)
    waiting = _waiting(UsageDelta.objects.filter(owner_id=owner_id, folder__in=texts), Dimension.FOLDER)
    found = _added_up(_stored(totals), waiting)[Dimension.FOLDER]
    return {folder_id: found.get(text, Amount()) for text, folder_id in texts.items()}


def tree_total(owner_id: int, folder_id: UUID) -> Amount:
    """Tell what lies in a live folder and in all live folders below it; one statement, which reads folders only."""
    with connection.cursor() as cursor:
        cursor.execute(_tree_sql(), [folder_id.hex, owner_id, owner_id])
        size, count = cursor.fetchone()
    return Amount(int(size or 0), int(count or 0))


def _waiting(deltas: QuerySet[UsageDelta], dimension: str) -> QuerySet[UsageDelta, Row]:
    """Add up along one dimension what is not folded yet."""
    rows = deltas.order_by().values(d=Value(str(dimension)), v=F(dimension))
    return rows.annotate(b=Sum("bytes"), c=Sum("count")).values_list("d", "v", "b", "c")


def _stored(totals: QuerySet[UsageTotal]) -> QuerySet[UsageTotal, Row]:
    return totals.order_by().values_list("dimension", "value", "bytes", "count")


def _added_up(
    totals: QuerySet[UsageTotal, Row], *waiting: QuerySet[UsageDelta, Row]
) -> defaultdict[str, dict[str, Amount]]:
    """Read totals and what waits in one statement, so that a fold between two does not hide or double anything."""
    rows = totals.union(*waiting, all=True)
    found: defaultdict[str, dict[str, Amount]] = defaultdict(dict)
    for dimension, value, size, count in rows:
        found[dimension][value] = found[dimension].get(value, Amount()) + Amount(int(size), int(count))
    return defaultdict(dict, {name: _clean(amounts) for name, amounts in found.items()})


def _clean(amounts: dict[str, Amount]) -> dict[str, Amount]:
    """Leave out what is empty by now, and the folder, type and day that the trash does not have."""
    return {value: amount for value, amount in amounts.items() if value and amount != Amount()}


@functools.cache
def _tree_sql() -> str:
    quote = connection.ops.quote_name
    asset, total, delta = (quote(model._meta.db_table) for model in (Asset, UsageTotal, UsageDelta))
    text = engine().hex_of("tree.id")
    return f"""
        WITH RECURSIVE tree (id) AS (
            SELECT {engine().uuid_mark}
            UNION
            SELECT a.id FROM tree JOIN {asset} a ON a.parent_id = tree.id WHERE a.is_folder AND a.trashed_at IS NULL
        )
        SELECT SUM(bytes), SUM(count) FROM (
            SELECT t.bytes, t.count FROM tree JOIN {total} t
                ON t.owner_id = %s AND t.dimension = 'folder' AND t.value = {text}
            UNION ALL
            SELECT d.bytes, d.count FROM tree JOIN {delta} d ON d.owner_id = %s AND d.folder = {text}
        ) found"""  # noqa: S608  # names of our own tables
