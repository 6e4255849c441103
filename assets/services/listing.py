"""Pages of assets, and assets by their ids. Every page is found by its keys: the last one costs what the first does.

How a page is found is in `assets.services.pages`, what narrows it in `assets.services.narrowing`, what a cursor says in
`assets.services.cursors`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, Final, Generic, Literal, TypeVar
from uuid import UUID

from django.contrib.auth import get_user_model
from django.db.models import Q, QuerySet
from django.db.models.expressions import RawSQL
from django.utils import timezone

from assets.attributes import TAG, Condition
from assets.ids import home_folder
from assets.models import Asset, AssetQuerySet
from assets.services.cursors import Cursor, decode_cursor, encode_cursor, scope
from assets.services.narrowing import FOLDER_COLUMN, Equal, Having, Narrowing, Sql, Stored, TypePrefix, Within
from assets.services.pages import Sort, Wanted, fewest, find
from assets.services.shown import COLUMNS, AnyAsset, Shown, shown
from storagecache.errors import ObjectNotFoundError

MAX_PAGE: Final = 10_000
NAMED_COLUMNS: Final = ("job_id", "node_id", "workflow_id", "bucket")  # whole values are asked for
Order = Literal["created", "-created", "name", "-size"]
Row = TypeVar("Row", Asset, Shown)
Rows = QuerySet[Asset, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What a list is narrowed to; "" and None do not narrow. `parent_id` is a folder's id or the owner's own.

    Ids are made in the order of time: `first_id` (inclusive) and `end_id` (exclusive) bound when assets were made.
    Sizes are bounded inclusively, by an index when the list is by size. `bucket` is one of the two public buckets.
    """

    parent_id: str | None = None
    content_type: str = ""
    workflow_id: str = ""
    job_id: str = ""
    node_id: str = ""
    tag: str = ""
    bucket: str = ""
    attributes: tuple[Condition, ...] = ()
    first_id: UUID | None = None
    end_id: UUID | None = None
    least_size: int | None = None
    most_size: int | None = None

    @property
    def bounds(self) -> dict[str, UUID | int]:
        """Give the bounds that are set, as conditions of a list."""
        found = {
            "place__gte": self.first_id, "place__lt": self.end_id,
            "size__gte": self.least_size, "size__lte": self.most_size,
        }  # fmt: skip
        return {name: value for name, value in found.items() if value is not None}

    def bound_to(self, owner_id: int, order: Order) -> bytes:
        """Write what a cursor of this list is bound to."""
        asked = [[c.name, sorted(c.texts), [list(bound) for bound in c.bounds]] for c in self.attributes]
        own = [self.parent_id, self.content_type, self.workflow_id, self.job_id, self.node_id, self.tag]
        own += [f"bucket={self.bucket}"] if self.bucket else []
        own += [f"{name}={value}" for name, value in self.bounds.items()]
        return scope("list", owner_id, order, own, asked)


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """Some assets in order, each with its object, and the cursor of the next page ("": there is none)."""

    assets: tuple[Row, ...]
    next: str


def list_assets(owner_id: int, filters: Filters, *, order: Order, cursor: str, size: int) -> Page[Asset]:
    """Give one page of an owner's live assets.

    Costs one SELECT; one more for a parent, one more where filters combine or no index sorts what they find, and up to
    five where they find many but few in common (`assets.services.pages`); twice that at folders by size.

    Raises:
        ObjectNotFoundError: the parent is no folder of this owner.
        CursorError: the cursor was not made by this list: another's order, filters or owner.
    """
    found = _page(owner_id, filters, order, cursor, size + 1, lambda rows: rows.select_related("object"))
    return _paged(owner_id, filters, order, found, size)


def list_shown(owner_id: int, filters: Filters, *, order: Order, cursor: str, size: int) -> Page[Shown]:
    """Give the page that `list_assets` gives, as plain values; it costs and raises the same."""
    found = _page(owner_id, filters, order, cursor, size + 1, lambda rows: rows.values_list(*COLUMNS))
    return _paged(owner_id, filters, order, list(map(shown, found)), size)


def find_asset(owner_id: int, asset_id: str) -> Asset:
    """Find an owner's live asset by its id (32 hex digits), with its object; costs one SELECT.

    Raises:
        ObjectNotFoundError: absent, trashed, expired or another owner's: always the same text.
    """
    found = find_assets(owner_id, [asset_id])
    if not found:
        raise ObjectNotFoundError("There is no asset with this id.")
    return found[0]


def find_assets(owner_id: int, asset_ids: Iterable[str]) -> list[Asset]:
    """Find those of the assets that are alive and the owner's, with their objects; costs one SELECT."""
    ids = [found for text in asset_ids if (found := _uuid(text)) is not None]
    return list(_of(owner_id).filter(pk__in=ids).select_related("object"))


def home_since(owner_id: int) -> datetime:
    """Tell since when an owner has a home folder.

    Raises:
        ObjectNotFoundError: there is no such user.
    """
    joined = get_user_model().objects.filter(pk=owner_id).values_list("date_joined", flat=True).first()
    if joined is None:
        raise ObjectNotFoundError("There is no asset with this id.")
    return joined


def _page(
    owner_id: int, filters: Filters, order: Order, cursor: str, count: int, shape: Callable[[AssetQuerySet], Rows]
) -> list[Any]:
    """Read `count` rows behind the cursor, shaped so."""
    after = decode_cursor(cursor, filters.bound_to(owner_id, order)) if cursor else None
    conditions, now = list(_conditions(owner_id, filters)), timezone.now()
    parts = [
        Wanted(owner_id=owner_id, conditions=conditions, sort=sort, after=behind, count=count, now=now)
        for sort, behind in _parts(order, after)
    ]
    few, found = fewest(parts[0]), list[Any]()
    for part in parts:
        if left := count - len(found):
            found += find(replace(part, count=left), few, partial(_rows, shape, part.sort))
    return found


def _parts(order: Order, after: Cursor | None) -> list[tuple[Sort, Cursor | None]]:
    """Give the sorts that an order goes through, one after the other, each with where to go on."""
    first, *rest = _SORTS[order]
    if rest and after and after.size is None:
        return [(rest[0], after)]
    return [(first, after), *((sort, None) for sort in rest)]


def _rows(shape: Callable[[AssetQuerySet], Rows], sort: Sort, ids: Sql) -> list[Any]:
    columns = [sort.column, "pk"] if sort.column else ["pk"]
    rows = shape(Asset.objects.filter(pk__in=RawSQL(ids.text, ids.values)))  # noqa: S611  # values are parameters
    return list(rows.order_by(*(f"-{column}" if sort.is_down else column for column in columns)))


def _paged(owner_id: int, filters: Filters, order: Order, found: list[Row], size: int) -> Page[Row]:
    """Make a page of what was found, which is one more than a page where there is another."""
    assets = tuple(found[:size])
    end = encode_cursor(_end(order, assets[-1]), filters.bound_to(owner_id, order)) if len(found) > size else ""
    return Page(assets, end)


def _of(owner_id: int) -> AssetQuerySet:
    return Asset.objects.filter(owner_id=owner_id).alive(timezone.now())


def _conditions(owner_id: int, filters: Filters) -> Iterator[Narrowing]:
    """Give what narrows the list, the folder last; with no filter it is the home folder."""
    yield from conditions_of(filters)
    if filters.parent_id is not None:
        yield Equal(FOLDER_COLUMN, _folder(owner_id, filters.parent_id))
    elif filters == Filters():
        yield Equal(FOLDER_COLUMN, home_folder(owner_id))


def conditions_of(filters: Filters) -> Iterator[Narrowing]:
    """Give what narrows a list but for its folder."""
    yield from (
        Equal(name, value) for name in ("job_id", "node_id", "workflow_id") if (value := getattr(filters, name))
    )
    if filters.tag:
        yield Having(Condition(TAG, frozenset({filters.tag})))
    # Values before bounds: an index holds them whole, and what is not of them is looked at no further.
    yield from (Having(asked) for asked in sorted(filters.attributes, key=lambda asked: len(asked.bounds)))
    if filters.content_type:
        yield TypePrefix(filters.content_type)
    if filters.bucket:
        yield Stored(filters.bucket)
    yield from _ranges("id", (">=", filters.first_id), ("<", filters.end_id))
    yield from _ranges("size", (">=", filters.least_size), ("<=", filters.most_size))


def _ranges(column: str, *bounds: tuple[str, UUID | int | None]) -> Iterator[Narrowing]:
    if asked := tuple((sign, value) for sign, value in bounds if value is not None):
        yield Within(column, asked)


def own_columns(filters: Filters) -> Q:
    """Say as one condition what filters ask of an asset's own columns: neither a folder nor tags nor metadata."""
    named = {name: getattr(filters, name) for name in NAMED_COLUMNS if getattr(filters, name)}
    bounds = {name.replace("place", "pk"): value for name, value in filters.bounds.items()}
    condition = Q(**named, **bounds)
    if filters.content_type:
        least, behind = TypePrefix(filters.content_type).bounds
        condition &= Q(content_type__gte=least, content_type__lt=behind)
    return condition


def _folder(owner_id: int, parent_id: str) -> UUID:
    """Give the folder's id as the column `folder` has it."""
    if parent_id == str(owner_id):
        return home_folder(owner_id)
    folder = _uuid(parent_id)
    if folder is None or not _of(owner_id).filter(pk=folder, is_folder=True).exists():
        raise ObjectNotFoundError("parent_id: there is no folder with this id.")
    return folder


def _uuid(text: str) -> UUID | None:
    try:
        found = UUID(hex=text)
    except ValueError:
        return None
    return found if found.hex == text else None


# Sizes go from the largest; what has none (folders) comes last: engines do not agree where NULL belongs.
_SIZED: Final = Sort("size", is_down=True, known="size >= 0", index="size")
_UNSIZED: Final = Sort(is_down=True, known="size IS NULL", index="size")
_SORTS: Final[dict[Order, tuple[Sort, ...]]] = {
    "created": (Sort(),),
    "-created": (Sort(is_down=True),),
    "name": (Sort("name_key", index="name_key"),),
    "-size": (_SIZED, _UNSIZED),
}


def _end(order: Order, asset: AnyAsset) -> Cursor:
    name = asset.name_key if order == "name" else ""
    return Cursor(asset.pk, name, asset.size if order == "-size" else None)
