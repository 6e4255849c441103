"""Counters that must equal what they count: the quota account of each user, and the figures of their usage.

Both sides are read in one moment, ordered by owner, and merged: one pass over the assets for all owners together.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from django.db.models import Case, Count, F, QuerySet, Sum, TextField, Value, When

from assets.models import Account, Asset, UsageDelta, UsageTotal
from assets.services import quota, usage_upkeep
from assets.services.sections import reading_section
from assets.services.usage import TRASH, Amount, Dimension

_FETCHED: Final = 2000  # rows at a time
_PLACE: Final = Dimension.PLACE
MENDERS: Final[Mapping[str, Callable[[int], object]]] = {"quota": quota.recount, "usage": usage_upkeep.recount}


@dataclass(frozen=True, slots=True)
class Difference:
    """A counter that is wrong: which one, whose, what it says and what there is."""

    counter: str
    owner_id: int
    counted: str
    actual: str


@dataclass(slots=True)
class _Books:
    """What one owner has, and what the books say of it. The other dimensions of usage are held against its places."""

    there: dict[str, Amount] = field(default_factory=dict)  # by place
    used: int | None = None  # on the account; None: there is none
    noted: dict[tuple[str, str], Amount] = field(default_factory=dict)  # by dimension, and value of a place

    def enter(self, book: str, value: str, amount: Amount) -> None:
        """Write an entry down."""
        if book == _THERE:
            self.there[value] = amount
        elif book == _ACCOUNT:
            self.used = amount.bytes
        else:
            key = (book, value if book == _PLACE else "")
            self.noted[key] = self.noted.get(key, Amount()) + amount

    def expected(self) -> dict[tuple[str, str], Amount]:
        """Give what the figures of usage should be: what is in the trash has only a place."""
        live = sum((amount for place, amount in self.there.items() if place != TRASH), Amount())
        figures = {(str(_PLACE), place): amount for place, amount in self.there.items()}
        return figures | {(str(name), ""): live for name in Dimension if name != _PLACE}


def differing() -> list[Difference]:
    """Compare every counter of every user in one moment; nobody waits meanwhile.

    Costs a pass over the assets, and one over the counters. What two wrong figures of one dimension make up for is
    only told by `recount_usage`.

    Raises:
        BackendUnavailableError: the catalog does not answer.
    """
    with reading_section():
        return [found for owner_id, books in _by_owner() for found in _judged(owner_id, books)]


def _judged(owner_id: int, books: _Books) -> Iterator[Difference]:
    total = sum(amount.bytes for amount in books.there.values())
    if books.used is not None and books.used != total:
        yield Difference("quota", owner_id, f"{books.used} bytes", f"{total} bytes")
    expected = books.expected()
    for key in sorted({*expected, *books.noted}):
        noted, there = books.noted.get(key, Amount()), expected.get(key, Amount())
        if noted != there:
            name = f"{key[1] or key[0]}: "
            yield Difference("usage", owner_id, name + _text(noted), name + _text(there))
            return  # one finding for each user: counting anew mends all of them


def _text(amount: Amount) -> str:
    return f"{amount.count} files of {amount.bytes} bytes"


# --- reading ----------------------------------------------------------------------------------

_THERE: Final = "there"
_ACCOUNT: Final = "account"
_Entry = tuple[int, str, str, Amount]  # owner, book (_THERE, _ACCOUNT or a dimension of usage), value, amount


def _by_owner() -> Iterator[tuple[int, _Books]]:
    """Merge the tables by owner."""
    deltas = [_deltas(str(dimension)) for dimension in Dimension]
    entries = heapq.merge(_there(), _accounts(), _totals(), *deltas, key=itemgetter(0))
    for owner_id, group in groupby(entries, key=itemgetter(0)):
        books = _Books()
        for _, book, value, amount in group:
            books.enter(book, value, amount)
        yield owner_id, books


def _there() -> Iterator[_Entry]:
    place = Case(When(trashed_at=None, then=F("bucket")), default=Value(TRASH), output_field=TextField())
    rows = Asset.objects.filter(is_folder=False).order_by("owner_id").values_list("owner_id", place)
    for owner_id, where, size, count in _streamed(rows.annotate(b=Sum("size"), c=Count("pk"))):
        yield owner_id, _THERE, where, _amount(size, count)


def _accounts() -> Iterator[_Entry]:
    for owner_id, used in _streamed(Account.objects.order_by("pk").values_list("pk", "used_bytes")):
        yield owner_id, _ACCOUNT, "", _amount(used, 0)


def _totals() -> Iterator[_Entry]:
    value = Case(When(dimension=_PLACE, then=F("value")), default=Value(""), output_field=TextField())
    rows = UsageTotal.objects.order_by("owner_id").values_list("owner_id", "dimension", value)
    for owner_id, dimension, where, size, count in _streamed(rows.annotate(b=Sum("bytes"), c=Sum("count"))):
        yield owner_id, dimension, where, _amount(size, count)


def _deltas(dimension: str) -> Iterator[_Entry]:
    """Give what is not folded into the totals yet; in a dimension without a value nothing is counted."""
    rows = UsageDelta.objects.exclude(**{dimension: ""}).order_by("owner_id").values_list("owner_id", "place")
    for owner_id, where, size, count in _streamed(rows.annotate(b=Sum("bytes"), c=Sum("count"))):
        yield owner_id, dimension, where, _amount(size, count)


def _amount(size: Any, count: Any) -> Amount:
    return Amount(int(size or 0), int(count))  # PostgreSQL sums to decimals


def _streamed(rows: QuerySet[Any, Any]) -> Iterator[tuple[Any, ...]]:
    return iter(rows.iterator(chunk_size=_FETCHED))
