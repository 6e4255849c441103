"""What every engine can do for the catalog, and the values that it is told and gives. No SQL lives here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

Row = tuple[Any, ...]  # columns of types that differ between the engines


class Cursor(Protocol):
    """What a question gives, as the engines' own connections have it."""

    def fetchone(self) -> Row | None:
        """Give the next row."""
        ...


class Connection(Protocol):
    """As much of a connection below Django as one question at a time needs."""

    def execute(self, query: Any, parameters: Any, /) -> Cursor:
        """Run one statement."""
        ...

    def close(self) -> None:
        """Hang up."""
        ...


CommitMark = Callable[[], bytes | None]  # as long as it gives the same, nothing was committed; None: it cannot tell


@dataclass(frozen=True, slots=True)
class Name:
    """The folded name by which a live asset is found."""

    asset_id: UUID
    owner_id: int
    folded: str


@dataclass(frozen=True, slots=True)
class NamesWanted:
    """A page of an owner's live assets whose folded name holds `term`, behind the asset `after`.

    `conditions` is SQL that narrows the assets `a` (it begins with AND), `values` are its parameters.
    """

    owner_id: int
    term: str
    after: UUID
    count: int
    now: datetime
    conditions: str
    values: Sequence[str | int | float]


@dataclass(frozen=True, slots=True)
class Table:
    """Where rows go: a table and its columns, in their order."""

    name: str
    columns: Sequence[str]


class NameIndex(Protocol):
    """An index of names beside the assets, which services keep in the sections that change assets."""

    def find(self, wanted: NamesWanted) -> list[UUID]:
        """Give the ids of a page of assets, the oldest first; one statement."""
        ...

    def add(self, names: Iterable[Name]) -> None:
        """Let new names be found; one statement for each 200."""
        ...

    def change(self, name: Name) -> None:
        """Let an asset be found by another name than before; one statement."""
        ...

    def remove(self, asset_ids: Collection[UUID]) -> None:
        """Let assets no longer be found, at least one; one statement."""
        ...


class Engine(Protocol):
    """A database that may hold the catalog. Whatever changes rows runs in the transaction of its caller."""

    has_many_writers: bool  # at once, so that one may have to try again because of another
    lookup: str  # SQL that joins to each id of `f`, one by one, its asset `a`, and begins the conditions
    takes_copies: bool  # `copy_catalog` may copy a catalog of another engine into it
    bytewise_collation: str | None  # under which text sorts by its bytes; None: it always does
    reads_limited_in_order: bool  # of a subquery with ORDER BY and LIMIT, as many rows as are wanted, in its order
    hiding: str  # SQL before a column for which the planner may not choose an index
    position: str  # the function of SQL that tells where in a text another one begins, 0 where it does not
    names: NameIndex | None  # None: names are indexed where they are
    uuid_mark: str  # the mark of a parameter that is a UUID of 32 hex digits, where its column does not tell the type

    # --- sections

    def turn(self) -> AbstractContextManager[None]:
        """Wait for the turn to write, and keep it.

        Raises:
            BackendUnavailableError: others kept it too long.
        """
        ...

    def free_turn(self) -> AbstractContextManager[None]:
        """Take the turn to write without waiting for it.

        Raises:
            BackendUnavailableError: somebody else has it.
        """
        ...

    def moment(self) -> AbstractContextManager[None]:
        """Let the block read the catalog as it is at one moment, in a transaction that writes nothing."""
        ...

    def see_one_moment(self) -> None:
        """Let all statements of a transaction that writes, of which this is the first, see one moment."""
        ...

    def turn_of_hosts(self) -> AbstractContextManager[None]:
        """Let one host at a time into the block, out of those that share the database."""
        ...

    # --- names

    def finds_by_index(self, term: str) -> bool:
        """Tell whether `contains` in a query finds the term by an index."""
        ...

    # --- raw SQL

    def hex_of(self, column: str) -> str:
        """Write the 32 hex digits of a column that holds a UUID, in SQL."""
        ...

    def text_of(self, value: UUID) -> str:
        """Write a UUID as a column that holds it comes out when it is cast to text."""
        ...

    def load(self, table: Table, rows: Iterable[Row]) -> None:
        """Write many rows by the fastest way there is; the values are Python's, JSON is text."""
        ...

    def settle(self) -> None:
        """Gather at once the statistics that are otherwise gathered by and by; outside of transactions."""
        ...

    # --- questions below Django

    @property
    def errors(self) -> type[Exception]:
        """What its driver raises."""
        ...

    def connect(self) -> Connection:
        """Open a connection below Django, for questions only.

        Raises:
            `errors`: the database is not there, or does not answer within seconds.
        """
        ...

    def commit_mark(self) -> CommitMark:
        """Give what tells whether anything was committed, by whichever process, since the last look."""
        ...

    def of_driver(self, sql: str) -> str:
        """Write a statement of Django's with the marks for parameters that the driver knows."""
        ...
