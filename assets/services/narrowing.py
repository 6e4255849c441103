"""What lists are narrowed to, as SQL: what an index finds by one condition alone, and how an asset is held against it.

Which of them leads to a page is chosen in `assets.services.pages`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol
from uuid import UUID

from assets.attributes import Condition
from assets.engines import engine
from assets.models import Asset

FOLDER_COLUMN: Final = "folder"
_LAST: Final = "\U0010ffff"
_MINE: Final = "SELECT a.id, a.{rank} AS rank FROM assets_asset AS a WHERE a.owner_id = %s AND a.trashed_at IS NULL"
_ATTRIBUTES: Final = "SELECT t.asset_id AS id, t.asset_id AS rank FROM assets_assetattribute AS t WHERE t.owner_id = %s"


@dataclass(frozen=True, slots=True)
class Sql:
    """A piece of SQL with its parameters."""

    text: str
    values: tuple[str | int | float, ...] = ()

    def __add__(self, other: Sql) -> Sql:
        return Sql(self.text + other.text, self.values + other.values)


class Narrowing(Protocol):
    """One condition of a list."""

    @property
    def orders(self) -> frozenset[str]:
        """By which columns an index sorts what this finds; "" is the id alone, which ends each order."""

    @property
    def place(self) -> str:
        """The id in what `found` selects from: `a.id` of assets, or a column of another table."""

    @property
    def key(self) -> str:
        """The column that sorts what its index holds of an owner's, behind those that are fixed."""

    def found(self, owner_id: int, rank: str = "id") -> Sql:
        """Select the ids of what an index finds of an owner's by this condition alone, and a column as `rank`.

        Conditions on what it selects from may be appended.
        """

    def holds(self, owner_id: int, place: str) -> Sql:
        """Say, of the asset `a` whose id is also `place`, that the condition holds for it; no index is to find it."""


@dataclass(frozen=True, slots=True)
class Anything:
    """All that an owner has: what is walked when nothing narrow leads."""

    orders = frozenset({"", "name_key", "size"})
    place = "a.id"
    key = "a.id"

    def found(self, owner_id: int, rank: str = "id") -> Sql:
        """See Narrowing."""
        return _mine(owner_id, rank)

    def holds(self, owner_id: int, place: str) -> Sql:
        """See Narrowing."""
        return Sql("TRUE")


@dataclass(frozen=True, slots=True)
class Equal:
    """Assets with a value in one of their own columns."""

    column: str
    value: str | UUID

    place = "a.id"
    key = "a.id"

    @property
    def orders(self) -> frozenset[str]:
        """See Narrowing."""
        return Anything.orders if self.column == FOLDER_COLUMN else frozenset({""})

    def found(self, owner_id: int, rank: str = "id") -> Sql:
        """See Narrowing."""
        return _mine(owner_id, rank) + Sql(f" AND a.{self.column} = %s", (self._text,))

    def holds(self, owner_id: int, place: str) -> Sql:
        """See Narrowing."""
        return Sql(f"{engine().hiding}a.{self.column} = %s", (self._text,))

    @property
    def _text(self) -> str:
        return self.value.hex if isinstance(self.value, UUID) else self.value


@dataclass(frozen=True, slots=True)
class TypePrefix:
    """Assets whose content type begins so; it is compared bytewise, so that a prefix is a range."""

    prefix: str

    orders = frozenset[str]()
    place = "a.id"
    key = "a.content_type"

    def found(self, owner_id: int, rank: str = "id") -> Sql:
        """See Narrowing."""
        return _mine(owner_id, rank) + Sql(" AND a.content_type >= %s AND a.content_type < %s", self.bounds)

    def holds(self, owner_id: int, place: str) -> Sql:
        """See Narrowing."""
        type_ = f"{engine().hiding}a.content_type"
        return Sql(f"{type_} >= %s AND {type_} < %s", self.bounds)

    @property
    def bounds(self) -> tuple[str, str]:
        """The least content type that has the prefix, and one behind all of them."""
        return self.prefix, self.prefix + _LAST


@dataclass(frozen=True, slots=True)
class Having:
    """Assets with an attribute: a tag, or a value of the metadata."""

    condition: Condition

    place = "t.asset_id"

    @property
    def orders(self) -> frozenset[str]:
        """See Narrowing."""
        return frozenset({""}) if self._is_one_text else frozenset()

    @property
    def key(self) -> str:
        """See Narrowing."""
        return "t.number" if self.condition.bounds else "t.text"

    def found(self, owner_id: int, rank: str = "id") -> Sql:
        """See Narrowing."""
        return Sql(_ATTRIBUTES, (owner_id,)) + self._asked()

    def holds(self, owner_id: int, place: str) -> Sql:
        """See Narrowing. In this form PostgreSQL does not make a join of it, whose size it would guess."""
        head = f"(SELECT 1 FROM assets_assetattribute AS t WHERE t.asset_id = {place}"  # noqa: S608  # ours
        # SQLite would read the index of numbers where it is told of the owner: it does not know that an id is rarer.
        mine = Sql(" AND t.owner_id = %s", (owner_id,)) if self._is_one_text else Sql("")
        return Sql(head) + mine + self._asked() + Sql(" LIMIT 1) = 1")

    @property
    def _is_one_text(self) -> bool:
        return len(self.condition.texts) == 1 and not self.condition.bounds

    def _asked(self) -> Sql:
        asked = Sql(" AND t.name = %s", (self.condition.name,))
        if texts := sorted(self.condition.texts):
            asked += Sql(f" AND t.text IN ({', '.join(['%s'] * len(texts))})", tuple(texts))
        for comparison, number in self.condition.bounds:
            asked += Sql(f" AND t.number {_SIGNS[comparison]} %s", (number,))
        return asked


_SIGNS: Final = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


@dataclass(frozen=True, slots=True)
class Stored:
    """Assets of one bucket. What is temp ends some day, and is found by the index of the ends."""

    bucket: str

    orders = frozenset[str]()
    place = "a.id"

    @property
    def key(self) -> str:
        """See Narrowing."""
        return "a.expires_at" if self.bucket == Asset.Bucket.TEMP else "a.id"

    def found(self, owner_id: int, rank: str = "id") -> Sql:
        """See Narrowing."""
        found = _mine(owner_id, rank) + Sql(" AND a.bucket = %s", (self.bucket,))
        if self.bucket != Asset.Bucket.TEMP:
            return found
        return Sql(found.text.replace("a.owner_id", "+a.owner_id"), found.values) + Sql(" AND a.expires_at IS NOT NULL")

    def holds(self, owner_id: int, place: str) -> Sql:
        """See Narrowing."""
        return Sql(f"{engine().hiding}a.bucket = %s", (self.bucket,))


@dataclass(frozen=True, slots=True)
class Within:
    """Assets whose id or size lies in a range; `bounds` are pairs of a sign of SQL and a value."""

    column: str
    bounds: tuple[tuple[str, int | UUID], ...]

    place = "a.id"

    @property
    def orders(self) -> frozenset[str]:
        """See Narrowing."""
        return frozenset({"" if self.column == "id" else self.column})

    @property
    def key(self) -> str:
        """See Narrowing."""
        return f"a.{self.column}"

    def found(self, owner_id: int, rank: str = "id") -> Sql:
        """See Narrowing."""
        return _mine(owner_id, rank) + Sql(" AND ") + self._asked(f"a.{self.column}")

    def holds(self, owner_id: int, place: str) -> Sql:
        """See Narrowing."""
        return self._asked(f"{engine().hiding}a.{self.column}")

    def _asked(self, column: str) -> Sql:
        asked = " AND ".join(f"{column} {sign} %s" for sign, _ in self.bounds)
        return Sql(asked, tuple(value.hex if isinstance(value, UUID) else value for _, value in self.bounds))


def _mine(owner_id: int, rank: str) -> Sql:
    return Sql(_MINE.format(rank=rank), (owner_id,))
