"""Where assets came from and what was made of them: recorded with the asset, walked level by level.

A walk goes through what its owner may see: assets in the trash, expired and other owners' ones end it. Each level costs
two statements, however many assets it has, and reads a bounded number of rows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from django.db import connection
from django.utils import timezone

from assets.engines import engine
from assets.models import Asset, AssetQuerySet, Derivation
from assets.services.shown import COLUMNS, Shown, shown
from storagecache.errors import ObjectNotFoundError, StorageError

MAX_NODES: Final = 500  # of one walk
MAX_SOURCES: Final = 1000  # of one asset
_EDGES: Final = 2000  # read at one level in one direction
_ALL_EDGES: Final = 20_000  # read between the assets of a walk
# Texts, which sort as the ids do; a limit inside of a UNION wants a SELECT around it.
_STEP: Final = """
    SELECT {way}, far FROM (SELECT CAST({far} AS text) AS far FROM assets_derivation WHERE {near} IN ({ids})
    LIMIT {limit}) AS way_{way}"""
_LIVING: Final = """
    SELECT CAST(id AS text) FROM assets_asset WHERE id IN ({ids}) AND owner_id = %s AND trashed_at IS NULL
    AND (expires_at IS NULL OR expires_at > %s) ORDER BY id LIMIT {limit}"""
_LINKS: Final = f"""
    SELECT CAST(source_id AS text), CAST(asset_id AS text) FROM assets_derivation WHERE asset_id IN ({{ids}})
    LIMIT {_ALL_EDGES}"""  # noqa: S608  # a number of ours
# An anti-join, since a tree may have a hundred thousand assets, and most of what is made from them lies beside them.
_OUTPUTS_BEYOND: Final = f"""
    WITH RECURSIVE tree (id, live) AS (
        SELECT a.id, a.trashed_at IS NULL FROM assets_asset a WHERE a.id = %s AND a.owner_id = %s
        UNION
        SELECT below.id, tree.live FROM tree JOIN assets_asset below ON below.parent_id = tree.id
        WHERE (below.trashed_at IS NULL) = tree.live
    )
    SELECT link.asset_id FROM tree JOIN assets_derivation link ON link.source_id = tree.id
    LEFT JOIN tree inside ON inside.id = link.asset_id
    WHERE inside.id IS NULL LIMIT {_EDGES}"""  # noqa: S608  # a number of ours


class SourcesError(StorageError, ValueError):
    """These cannot be the sources of this asset."""

    status = 422


@dataclass(frozen=True, slots=True)
class Lineage:
    """Assets with their objects, nearest first, and who came from whom: (source, target). Truncated: there are more."""

    nodes: tuple[Shown, ...]
    edges: tuple[tuple[UUID, UUID], ...]
    truncated: bool


@dataclass(frozen=True, slots=True)
class Uses:
    """Live assets that were made from others, without their objects, by id; `more`: there are others."""

    assets: tuple[Asset, ...]
    more: bool


def check_sources(owner_id: int, source_ids: Collection[UUID]) -> None:
    """Refuse sources that `record_sources` would refuse, before bytes arrive; costs one SELECT, none without sources.

    Raises:
        ObjectNotFoundError, SourcesError: see `record_sources`.
    """
    if source_ids:
        _must_be_few(source_ids)
        _must_be_there(source_ids, _live(owner_id).filter(pk__in=source_ids).values_list("pk", flat=True))


def record_sources(
    asset_id: UUID, source_ids: Collection[UUID], *, owner_id: int, job_id: str = "", node_id: str = ""
) -> None:
    """Note inside a section what an asset was made from; costs two statements. What is noted already stays as it is.

    The sources are locked in the order of their ids, so that none of them goes away before the section ends.

    Raises:
        ObjectNotFoundError: a source is absent, in the trash, expired or another owner's; the text names it.
        SourcesError: too many, or the asset itself.
    """
    if not source_ids:
        return
    _must_be_few(source_ids)
    if asset_id in source_ids:
        raise SourcesError("sources: an asset is not made from itself.")
    locked = _live(owner_id).filter(pk__in=source_ids).order_by("pk").select_for_update(no_key=True)
    _must_be_there(source_ids, locked.values_list("pk", flat=True))
    links = [Derivation(asset_id=asset_id, source_id=i, job_id=job_id, node_id=node_id) for i in set(source_ids)]
    Derivation.objects.bulk_create(links, ignore_conflicts=True)


def trace(start: Asset, *, depth: int) -> Lineage:
    """Walk from an asset to what it was made from, and to what was made of it, `depth` steps each way.

    Costs two statements for each step that finds something, and two at the end.
    """
    walk = _Walk(start)
    for _ in range(depth):
        if not walk.step():
            break
    return walk.lineage()


class _Walk:
    """A walk in both directions at once. Ids are text as the engine writes it: UUIDs were half of what it cost."""

    def __init__(self, start: Asset) -> None:
        self._owner_id = start.owner_id
        self._now = timezone.now()
        first = engine().text_of(start.pk)
        self._ids = {first: None}  # a set in the order of finding
        self._up = self._down = {first}
        self._is_cut = False

    def step(self) -> bool:
        """Go one step each way, and tell whether it found something that was not known."""
        sources, outputs = _around(self._up, self._down)
        room = MAX_NODES - len(self._ids)
        beyond = sorted((sources | outputs) - self._ids.keys())
        found = self._living(beyond[: 2 * room + 1], limit=room + 1)
        if max(len(sources), len(outputs)) >= _EDGES or max(len(found), len(beyond) // 2) > room:
            self._is_cut = True
        fresh = dict.fromkeys(found[:room])
        self._ids |= fresh
        self._up, self._down = sources & fresh.keys(), outputs & fresh.keys()
        return bool(fresh)

    def lineage(self) -> Lineage:
        """Read the assets that were found, and every edge between them."""
        rows = _alive().filter(owner_id=self._owner_id, pk__in=self._ids).values_list(*COLUMNS)
        text_of = engine().text_of
        assets = {text_of(asset.pk): asset for asset in map(shown, rows)}
        nodes = tuple(assets[found] for found in self._ids if found in assets)
        return Lineage(nodes, _edges(assets.keys()), self._is_cut)

    def _living(self, ids: Sequence[str], limit: int) -> list[str]:
        """Give those that the owner may see, the first by id."""
        if not ids:
            return []
        sql = _LIVING.format(ids=_marks(ids), limit=limit)
        now = connection.ops.adapt_datetimefield_value(self._now)
        return [found for (found,) in _rows(sql, [*ids, self._owner_id, now])]


def used_by(asset_ids: Collection[UUID], *, limit: int) -> Uses:
    """Give live assets that were made from any of these, which are not among them themselves; costs two statements.

    It informs: nothing keeps a source from being deleted.
    """
    outputs = _beyond(set(asset_ids), "source_id", "asset_id") - set(asset_ids)
    found = list(_alive().filter(pk__in=outputs).order_by("pk")[: limit + 1]) if outputs else []
    return Uses(tuple(found[:limit]), len(found) > limit or len(outputs) >= _EDGES)


def used_beyond(owner_id: int, root: UUID, *, limit: int) -> Uses:
    """Give live assets that were made from an asset of this owner or from what a folder holds, and lie outside of it.

    Of a trashed one it is what was trashed that counts as held. Costs a statement, two when there are any.
    """
    with connection.cursor() as cursor:
        cursor.execute(_OUTPUTS_BEYOND, [root.hex, owner_id])
        outputs = {UUID(str(row[0])) for row in cursor.fetchall()}
    found = list(_alive().filter(pk__in=outputs).order_by("pk")[: limit + 1]) if outputs else []
    return Uses(tuple(found[:limit]), len(found) > limit or len(outputs) >= _EDGES)


def made_from(asset_id: UUID, *, limit: int) -> Uses:
    """Give live assets that this one was made from; costs one statement."""
    found = list(_alive().filter(used_by__asset_id=asset_id).order_by("pk")[: limit + 1])
    return Uses(tuple(found[:limit]), len(found) > limit)


def _beyond(ids: Collection[UUID], near: str, far: str) -> set[UUID]:
    """Give what lies one step away; of very many some, in the order of an index that holds both ends."""
    if not ids:
        return set()
    return set(Derivation.objects.filter(**{f"{near}__in": ids}).values_list(far, flat=True)[:_EDGES])


def _around(up: Collection[str], down: Collection[str]) -> tuple[set[str], set[str]]:
    """Give the sources of the one and the outputs of the other; of very many some, as `_beyond` does."""
    parts, ids, found = [], list[str](), (set[str](), set[str]())
    for way, (near, far, begin) in enumerate((("asset_id", "source_id", up), ("source_id", "asset_id", down))):
        if begin:
            parts.append(_STEP.format(way=way, near=near, far=far, ids=_marks(begin), limit=_EDGES))
            ids += begin
    for way, far in _rows(" UNION ALL ".join(parts), ids) if parts else ():
        found[way].add(far)
    return found


def _edges(ids: Collection[str]) -> tuple[tuple[UUID, UUID], ...]:
    """Give every edge between these assets, in no order.

    Only targets are asked for: what has many outputs would cost them all.
    """
    by_text = {found: UUID(found) for found in ids}
    links = _rows(_LINKS.format(ids=_marks(ids)), list(ids)) if ids else []
    return tuple((by_text[source], by_text[target]) for source, target in links if source in by_text)


def _rows(sql: str, parameters: Sequence[str | int | None]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return list(cursor.fetchall())


def _marks(ids: Collection[str]) -> str:
    return ", ".join(["%s"] * len(ids))


def _live(owner_id: int) -> AssetQuerySet:
    return _alive().filter(owner_id=owner_id)


def _alive() -> AssetQuerySet:
    return Asset.objects.alive(timezone.now())


def _must_be_few(source_ids: Collection[UUID]) -> None:
    if len(source_ids) > MAX_SOURCES:
        raise SourcesError(f"sources: {len(source_ids)} are more than {MAX_SOURCES}.")


def _must_be_there(source_ids: Collection[UUID], found: Iterable[UUID]) -> None:
    missing = sorted(set(source_ids) - set(found))
    if missing:
        raise ObjectNotFoundError(f"sources: there is no asset {missing[0].hex}.")
