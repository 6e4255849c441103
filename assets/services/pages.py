"""Which assets one page of a list holds: chosen by counting, with a bound on what is looked at.

A page is found in one of two ways. Where a condition finds few assets, they are gathered and sorted. Where all find
many, the order is walked, for many of those met will do; but not to its end: what turns out to be rare, or lies at the
far end, is gathered from the condition that finds the fewest. Neither engine can choose: SQLite has no statistics, and
those of PostgreSQL know the numbers of all metadata keys as one. So the SQL here leaves their planners no choice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from django.db import connection

from assets.engines import engine
from assets.services.cursors import Cursor
from assets.services.narrowing import Anything, Narrowing, Sql

Row = TypeVar("Row")

FEW: Final = 5000  # assets that are gathered without a walk
MANY: Final = 100_000  # assets that are gathered where a walk meets fewer yet; behind them it goes to its end
WINDOW: Final = 1000  # assets that a first walk looks at
WIDER: Final = 8  # times as many that a second one does: what is alike often lies together
_ASSET: Final = "a.id"
_LIVE: Final = " AND a.trashed_at IS NULL AND (a.expires_at IS NULL OR a.expires_at > %s)"


@dataclass(frozen=True, slots=True)
class Sort:
    """An order of assets: by a column ("": none), then by id; both ways down, or both up.

    `known` is what an asset must be to be in the order, as SQL; `index` is the column by which an index serves it.
    """

    column: str = ""
    is_down: bool = False
    known: str = ""
    index: str = ""

    def by(self, column: str, place: str) -> Sql:
        """Write the order, in which the column and the id are called so."""
        columns = [column, place] if self.column else [place]
        return Sql(" ORDER BY " + ", ".join(f"{one}{' DESC' if self.is_down else ''}" for one in columns))

    def behind(self, of: str, place: str, after: Cursor | None) -> Sql:
        """Say that an asset is of this order, and behind the cursor: not as `a OR (b AND c)`, which no index serves."""
        known = Sql(f" AND {of}.{self.known}" if self.known else "")
        if after is None:
            return known
        sign, last = "<" if self.is_down else ">", after.id.hex
        if not self.column:
            return known + Sql(f" AND {place} {sign} %s", (last,))
        value: str | int = after.name if self.column == "name_key" else after.size or 0
        column = f"{of}.{self.column}"
        either = Sql(f" AND ({column} {sign} %s OR {place} {sign} %s)", (value, last))
        return known + either + Sql(f" AND {column} {sign}= %s", (value,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A part of a list: `count` of an owner's live assets that meet the conditions, behind a cursor."""

    owner_id: int
    conditions: Sequence[Narrowing]
    sort: Sort
    after: Cursor | None
    count: int
    now: datetime

    @property
    def leader(self) -> Narrowing:
        """The condition whose index is walked."""
        return next((one for one in self.conditions if self.sort.index in one.orders), Anything())

    @property
    def is_led(self) -> bool:
        """Whether an index gives just these, sorted."""
        return all(one is self.leader for one in self.conditions)

    @property
    def window(self) -> int:
        """How many assets are walked by at first."""
        return max(WINDOW, 4 * self.count)


def find(wanted: Wanted, few: Narrowing | None, fetch: Callable[[Sql], list[Row]]) -> list[Row]:
    """Give what `fetch` gives for the ids of the page; `few` is what `fewest` told.

    Costs one statement; two where a first walk did not fill the page, and up to six where a wider one did not.
    """
    if wanted.is_led:
        return fetch(walked(wanted, None))
    if few:
        return fetch(gathered(wanted, few))
    for window in (wanted.window, wanted.window * WIDER):
        found = fetch(walked(wanted, window))
        if len(found) == wanted.count:
            return found
    return _find_rare(wanted, found, fetch)


def _find_rare(wanted: Wanted, met: list[Row], fetch: Callable[[Sql], list[Row]]) -> list[Row]:
    """Gather the page, or walk as far as what a wide walk met lets expect, whichever looks at less."""
    window = wanted.window * WIDER
    far = min(2 * window * wanted.count // (len(met) + 1), MANY)  # twice what is expected
    parts = [_window(wanted, Sql("")) + _limit(window), *_alone(wanted.owner_id, wanted.conditions, far)]
    walked_by, *counts = _counts(parts)
    if walked_by < window:  # that was all
        return met
    if rare := _least(wanted.conditions, counts, far):
        return fetch(gathered(wanted, rare))
    found = fetch(walked(wanted, far)) if far < MANY else []
    if len(found) == wanted.count:
        return found
    rare = narrowest(wanted.owner_id, wanted.conditions, MANY) if far < MANY else None
    return fetch(gathered(wanted, rare) if rare else walked(wanted, None))


def fewest(wanted: Wanted) -> Narrowing | None:
    """Tell which condition finds few assets, if one does and it matters; costs one statement where it may."""
    return None if wanted.is_led else narrowest(wanted.owner_id, wanted.conditions, FEW)


def narrowest(owner_id: int, conditions: Sequence[Narrowing], limit: int) -> Narrowing | None:
    """Tell which of the conditions finds the fewest assets, if they are no more than `limit`; costs one statement."""
    return _least(conditions, _counts(_alone(owner_id, conditions, limit)), limit) if conditions else None


def walked(wanted: Wanted, limit: int | None) -> Sql:
    """Select the ids of the page out of what comes next in its order: all of it, or so many assets."""
    leader, sort, last = wanted.leader, wanted.sort, _limit(wanted.count)
    others = [one for one in wanted.conditions if one is not leader]
    if limit is None and leader.place == _ASSET:
        return Sql("SELECT f.id FROM (") + _window(wanted, _meeting(wanted, others, _ASSET)) + last + Sql(") AS f")
    window = _window(wanted, Sql("")) + (_limit(limit) if limit else Sql(""))
    head = Sql("SELECT a.id FROM (") + window + Sql(f") AS f {engine().lookup}")
    is_sorted = limit is not None and engine().reads_limited_in_order
    return head + _meeting(wanted, others, "f.id") + (Sql("") if is_sorted else sort.by("f.rank", "f.id")) + last


def gathered(wanted: Wanted, narrow: Narrowing) -> Sql:
    """Select the ids of the page out of all that one condition finds, which are no more than MANY."""
    others = [one for one in wanted.conditions if one is not narrow]
    (found,) = _alone(wanted.owner_id, [narrow], MANY)
    head = Sql("SELECT a.id FROM (") + found + Sql(f") AS f {engine().lookup}")
    end = wanted.sort.behind("a", "a.id", wanted.after) + wanted.sort.by(f"a.{wanted.sort.column}", "a.id")
    return head + _meeting(wanted, others, "f.id") + end + _limit(wanted.count)


def _window(wanted: Wanted, met: Sql) -> Sql:
    """Select what comes next in the order, where that is said of it."""
    leader, sort = wanted.leader, wanted.sort
    of = leader.place.partition(".")[0]
    found = leader.found(wanted.owner_id, sort.column or "id") + sort.behind(of, leader.place, wanted.after)
    return found + met + sort.by(f"{of}.{sort.column}", leader.place)


def _alone(owner_id: int, conditions: Sequence[Narrowing], limit: int) -> list[Sql]:
    """Select what each condition finds alone, up to one more than the limit.

    The order names the index: PostgreSQL would read the table for numbers of which it expects many.
    """
    return [one.found(owner_id) + Sql(f" ORDER BY {one.key}") + _limit(limit + 1) for one in conditions]


def _least(conditions: Sequence[Narrowing], counts: Sequence[int], limit: int) -> Narrowing | None:
    least, at = min(zip(counts, range(len(conditions)), strict=True))
    return conditions[at] if least <= limit else None


def _limit(count: int) -> Sql:
    return Sql(" LIMIT %s", (count,))


def _meeting(wanted: Wanted, conditions: Sequence[Narrowing], place: str) -> Sql:
    """Say that the asset `a`, whose id is `place`, is alive and meets the conditions."""
    met = Sql("")
    for condition in conditions:
        met += Sql(" AND ") + condition.holds(wanted.owner_id, place)
    return met + Sql(_LIVE, (str(wanted.now.replace(tzinfo=None)),))


def _counts(parts: Sequence[Sql]) -> list[int]:
    """Count what each part selects; costs one statement."""
    counted = ", ".join(f"(SELECT COUNT(*) FROM ({part.text}) AS found)" for part in parts)  # noqa: S608  # values are parameters
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {counted}", [value for part in parts for value in part.values])
        return [int(count) for count in cursor.fetchone()]
