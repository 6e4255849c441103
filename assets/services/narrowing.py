"""What lists are narrowed to, and which of it drives the search for a page.

PostgreSQL chooses by its statistics. SQLite has none, so one probe counts what each condition would find, up to a
bound; the narrowest drives, and the others are hidden from its planner, which would walk a folder of a million assets
to find five of a job.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol
from uuid import UUID

from django.db import connection, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Exists, F, OuterRef, Q
from django.db.models.sql.compiler import SQLCompiler

from assets.attributes import Condition
from assets.engines import engine
from assets.models import Asset, AssetAttribute, AssetQuerySet

FEW: Final = 5000  # assets that are sorted rather than found in order
FOLDER_COLUMN: Final = "folder"
_LAST: Final = "\U0010ffff"


class Unindexed(models.Func):
    """A column as the planner of SQLite sees it without its indexes (https://www.sqlite.org/optoverview.html, 3)."""

    arity = 1
    template = "%(expressions)s"

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        """Write the unary plus."""
        return super().as_sql(compiler, connection, template="+%(expressions)s")


class Narrowing(Protocol):
    """One condition of a list."""

    @property
    def is_in_order(self) -> bool:
        """Whether what it finds comes sorted by id out of an index."""

    def probe(self, owner_id: int) -> models.QuerySet[Any]:
        """Give what an index finds by this condition alone."""

    def drive(self, chosen: AssetQuerySet, owner_id: int) -> AssetQuerySet:
        """Narrow an owner's assets by its index; their other conditions are hidden."""

    def filter(self, chosen: AssetQuerySet, owner_id: int) -> AssetQuerySet:
        """Narrow assets that another index finds."""


@dataclass(frozen=True, slots=True)
class Equal:
    """Assets with a value in one of their own columns."""

    column: str
    value: str | UUID

    is_in_order = True

    def probe(self, owner_id: int) -> models.QuerySet[Any]:
        """See Narrowing."""
        return Asset.objects.filter(owner_id=owner_id, trashed_at=None, **{self.column: self.value})

    def drive(self, chosen: AssetQuerySet, owner_id: int) -> AssetQuerySet:
        """See Narrowing."""
        return chosen.filter(owner_id=owner_id, **{self.column: self.value})

    def filter(self, chosen: AssetQuerySet, owner_id: int) -> AssetQuerySet:
        """See Narrowing."""
        return chosen.alias(**{f"plain_{self.column}": Unindexed(self.column)}).filter(
            **{f"plain_{self.column}": self.value}
        )


@dataclass(frozen=True, slots=True)
class TypePrefix:
    """Assets whose content type begins so; it is compared bytewise, so that a prefix is a range."""

    prefix: str

    is_in_order = False

    def probe(self, owner_id: int) -> models.QuerySet[Any]:
        """See Narrowing."""
        return Asset.objects.filter(self._range("content_type"), owner_id=owner_id, trashed_at=None)

    def drive(self, chosen: AssetQuerySet, owner_id: int) -> AssetQuerySet:
        """See Narrowing."""
        return chosen.filter(self._range("content_type"), owner_id=owner_id)

    def filter(self, chosen: AssetQuerySet, owner_id: int) -> AssetQuerySet:
        """See Narrowing."""
        return chosen.alias(plain_type=Unindexed("content_type")).filter(self._range("plain_type"))

    @property
    def bounds(self) -> tuple[str, str]:
        """The least content type that has the prefix, and one behind all of them."""
        return self.prefix, self.prefix + _LAST

    def _range(self, column: str) -> Q:
        least, behind = self.bounds
        return Q(**{f"{column}__gte": least, f"{column}__lt": behind})


@dataclass(frozen=True, slots=True)
class Having:
    """Assets with an attribute: a tag, or a value of the metadata."""

    condition: Condition

    @property
    def is_in_order(self) -> bool:
        """See Narrowing."""
        return len(self.condition.texts) == 1 and not self.condition.bounds

    def probe(self, owner_id: int) -> models.QuerySet[Any]:
        """See Narrowing."""
        return AssetAttribute.objects.filter(self._holds(), owner_id=owner_id)

    def drive(self, chosen: AssetQuerySet, owner_id: int) -> AssetQuerySet:
        """See Narrowing."""
        mine = chosen.alias(plain_owner=Unindexed("owner_id")).filter(plain_owner=owner_id)
        return mine.filter(self._holds("attributes__"), attributes__owner_id=owner_id)

    def filter(self, chosen: AssetQuerySet, owner_id: int) -> AssetQuerySet:
        """See Narrowing."""
        # The owner helps PostgreSQL to begin here; SQLite must look up each asset's own attributes.
        mine = AssetAttribute.objects.alias(plain_owner=Unindexed("owner_id")).filter(plain_owner=owner_id)
        return chosen.filter(Exists(mine.filter(self._holds(), asset=OuterRef("pk"))))

    def _holds(self, prefix: str = "") -> Q:
        asked = Q(**{f"{prefix}name": self.condition.name})
        if len(self.condition.texts) == 1:
            asked &= Q(**{f"{prefix}text": next(iter(self.condition.texts))})
        elif self.condition.texts:
            asked &= Q(**{f"{prefix}text__in": sorted(self.condition.texts)})
        for comparison, number in self.condition.bounds:
            asked &= Q(**{f"{prefix}number__{comparison}": number})
        return asked


@dataclass(frozen=True, slots=True)
class Stored:
    """Assets of one bucket. What is temp ends some day, and is found by the index of the ends."""

    bucket: str

    is_in_order = False

    def probe(self, owner_id: int) -> models.QuerySet[Any]:
        """See Narrowing."""
        return self.drive(Asset.objects.filter(trashed_at=None), owner_id)

    def drive(self, chosen: AssetQuerySet, owner_id: int) -> AssetQuerySet:
        """See Narrowing."""
        if self.bucket != Asset.Bucket.TEMP:
            return self.filter(chosen.filter(owner_id=owner_id), owner_id)
        mine = chosen.alias(plain_owner=Unindexed("owner_id")).filter(plain_owner=owner_id)
        return self.filter(mine, owner_id).filter(expires_at__isnull=False)

    def filter(self, chosen: AssetQuerySet, owner_id: int) -> AssetQuerySet:
        """See Narrowing."""
        return chosen.alias(plain_bucket=Unindexed("bucket")).filter(plain_bucket=self.bucket)


class AnyOfOwner:
    """All that an owner has: what is walked when no condition is narrow."""

    is_in_order = True

    def probe(self, owner_id: int) -> models.QuerySet[Any]:
        """See Narrowing."""
        return Asset.objects.filter(owner_id=owner_id, trashed_at=None)

    def drive(self, chosen: AssetQuerySet, owner_id: int) -> AssetQuerySet:
        """See Narrowing."""
        return chosen.filter(owner_id=owner_id)

    def filter(self, chosen: AssetQuerySet, owner_id: int) -> AssetQuerySet:
        """See Narrowing."""
        return chosen


def narrow(live: AssetQuerySet, owner_id: int, conditions: Sequence[Narrowing], *, by_id: bool) -> AssetQuerySet:
    """Narrow live assets to an owner's that meet the conditions.

    Sort them by the aliases `place`, which is their id, `place_name` and `place_size`: what no index serves is hidden.

    `by_id` tells that nothing is sorted by before it. Costs no statement, or one on SQLite when there is a choice.
    """
    if engine().plans_by_statistics:
        return _all_seen(live, owner_id, conditions)
    driver, is_few = _driver(owner_id, conditions, by_id=by_id)
    for condition in conditions:
        if condition is not driver:
            live = condition.filter(live, owner_id)
    chosen = driver.drive(live, owner_id)
    if is_few:  # sorted: an index of the order would be walked from its beginning to find them
        return chosen.alias(place=Unindexed("pk"), place_name=Unindexed("name_key"), place_size=Unindexed("size"))
    return _placed(chosen, "attributes__asset_id" if isinstance(driver, Having) else "pk")


def _placed(chosen: AssetQuerySet, place: str) -> AssetQuerySet:
    return chosen.alias(place=F(place), place_name=F("name_key"), place_size=F("size"))


def finds_few(owner_id: int, conditions: Sequence[Narrowing]) -> bool:
    """Tell whether one of the conditions finds so few assets that all may be looked at; one statement, or none."""
    return bool(conditions) and min(_counts([condition.probe(owner_id) for condition in conditions])) <= FEW


def _all_seen(live: AssetQuerySet, owner_id: int, conditions: Sequence[Narrowing]) -> AssetQuerySet:
    for condition in conditions:
        live = condition.filter(live, owner_id)
    return _placed(live.filter(owner_id=owner_id), "pk")


def _driver(owner_id: int, conditions: Sequence[Narrowing], *, by_id: bool) -> tuple[Narrowing, bool]:
    """Choose the condition that drives, and tell whether it finds so few that they are sorted."""
    if len(conditions) <= 1 and all(_is_sorted(condition, by_id) for condition in conditions):
        return (conditions[0] if conditions else AnyOfOwner()), False
    counts = _counts([condition.probe(owner_id) for condition in conditions])
    count, best = min(zip(counts, range(len(conditions)), strict=True))
    if count <= FEW:
        return conditions[best], True
    ordered = [condition for condition in conditions if _is_sorted(condition, by_id)]
    return (ordered[0] if ordered else AnyOfOwner()), False


def _is_sorted(condition: Narrowing, by_id: bool) -> bool:
    """Tell whether an index gives what this finds in the order that is asked for."""
    return condition.is_in_order if by_id else isinstance(condition, Equal) and condition.column == FOLDER_COLUMN


def _counts(probes: Sequence[models.QuerySet[Any]]) -> list[int]:
    """Count what each probe finds, up to FEW and one; costs one statement."""
    parts, parameters = [], []
    for probe in probes:
        sql, values = probe.order_by().values("pk")[: FEW + 1].query.sql_with_params()
        parts.append(f"(SELECT COUNT(*) FROM ({sql}) AS found)")  # noqa: S608  # values are parameters
        parameters += list(values)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(parts)}", parameters)
        return [int(count) for count in cursor.fetchone()]
