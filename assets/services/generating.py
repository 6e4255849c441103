"""Make catalogs of any size, fast, to measure with: rows without bytes, the same at every call but for their ids.

For `generate_catalog` alone: everything else makes assets one by one, through `assets.services.uploads`. The first
owner gets all assets but a hundred for each other one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Final
from uuid import UUID

from django.contrib.auth import get_user_model
from django.db import models
from django.utils import timezone

from assets.attributes import attributes_of
from assets.engines import Name, Table, engine
from assets.ids import new_id
from assets.models import Asset, AssetAttribute, Derivation, StoredObject, fold_name
from assets.services.quota import recount
from assets.services.sections import release_connection, write_section
from assets.services.usage_upkeep import recount as recount_usage
from storagecache.keys import new_object_key

OTHERS_SHARE: Final = 100  # assets of each owner but the first
RARE: Final = "needle"  # in one name of 100,000
_BATCH: Final = 10_000  # assets of one section
_TYPES: Final = (
    ("image/png", "png"),
    ("image/png", "png"),
    ("image/jpeg", "jpg"),
    ("audio/wav", "wav"),
    ("video/mp4", "mp4"),
)
_FIRST: Final = ("amber", "bright", "calm", "dusty", "early", "faint", "green", "hollow", "iron", "jolly", "kind")
_SECOND: Final = ("harbour", "forest", "tower", "river", "meadow", "street", "mountain", "bridge", "garden")
_THIRD: Final = ("über", "study", "portrait", "sketch", "scene", "close-up", "variation")

Value = UUID | datetime | str | int | float | bool | None
Row = tuple[Value, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much to make: assets beside the folders they lie in (none: all in home), owners, and derivations."""

    assets: int
    folders: int = 0
    owners: int = 1
    edges: int = 0


@dataclass(frozen=True, slots=True)
class _Made:
    """An asset to write: its number in the catalog, and the ids that its rows share."""

    number: int
    asset_id: UUID
    object_id: UUID
    owner_id: int
    folder: UUID | None
    now: datetime

    @property
    def name(self) -> str:
        n = self.number
        words = (_FIRST[n % 11], _SECOND[n // 11 % 9], _THIRD[n // 99 % 7])
        rare = f" {RARE}" if n % 100_000 == 50_000 else ""
        return f"{' '.join(words)}{rare} {n:07d}.{self.kind[1]}"

    @property
    def kind(self) -> tuple[str, str]:
        return _TYPES[self.number % 5]

    @property
    def size(self) -> int:
        return self.number * 7919 % 1_000_003

    @property
    def metadata(self) -> dict[str, object]:
        n = self.number
        return {"seed": n * 2_654_435_761 % (1 << 32), "cfg": n % 40 / 2, "model": f"model-{n % 7}"}

    @property
    def tags(self) -> list[str]:
        return [f"tag-{self.number // 10 % 100}"] if self.number % 10 == 0 else []


def generate(plan: Plan) -> Iterator[int]:
    """Make a catalog in sections of ten thousand; yields how many assets each one made."""
    owners = _owners(plan.owners)
    folders = {owner: _folders(owner, plan.folders if owner == owners[0] else 0) for owner in owners}
    ids: list[UUID] = []
    for start in range(0, plan.assets, _BATCH):
        numbers = range(start, min(plan.assets, start + _BATCH))
        with write_section():
            batch = [_made(number, plan, owners, folders) for number in numbers]
            _write(batch)
        release_connection()
        ids += [made.asset_id for made in batch]
        yield len(batch)
    _link(ids, plan.edges)
    for owner in owners:
        recount(owner)
        recount_usage(owner)
    engine().settle()
    release_connection()


def _made(number: int, plan: Plan, owners: Sequence[int], folders: dict[int, list[UUID]]) -> _Made:
    """Spread the other owners' assets evenly over the catalog."""
    turn = max(1, plan.assets // (OTHERS_SHARE * max(1, len(owners) - 1) + 1))
    other = number // turn if len(owners) > 1 and number % turn == turn - 1 else -1
    owner = owners[1 + other % (len(owners) - 1)] if 0 <= other < OTHERS_SHARE * (len(owners) - 1) else owners[0]
    places = folders[owner]
    place = places[number % len(places)] if places else None
    return _Made(number, new_id(), new_id(), owner, place, timezone.now())


def _owners(count: int) -> list[int]:
    """Give the ids of the oldest users, and make those that are missing."""
    users = get_user_model().objects
    found = list(users.order_by("pk").values_list("pk", flat=True)[:count])
    made = [users.create_user(f"generated-{number}").pk for number in range(len(found) + 1, count + 1)]
    return found + made


def _folders(owner_id: int, count: int) -> list[UUID]:
    now, ids = timezone.now(), [new_id() for _ in range(count)]
    rows = [_folder_row(owner_id, folder_id, f"folder {number:05d}", now) for number, folder_id in enumerate(ids)]
    with write_section():
        Asset.objects.bulk_create(rows, batch_size=500)
        _index(Name(row.pk, owner_id, row.name_folded) for row in rows)
    return ids


def _folder_row(owner_id: int, folder_id: UUID, name: str, now: datetime) -> Asset:
    return Asset(
        id=folder_id, owner_id=owner_id, name=name, name_folded=fold_name(name), is_folder=True, content_type="folder",
        created_at=now, updated_at=now,
    )  # fmt: skip


_OBJECT: Final = (
    "id", "storage", "bucket", "key", "size", "sha256", "content_type", "state", "state_changed_at", "referenced_at",
    "deletes_left", "upload_id", "created_at",
)  # fmt: skip
_ASSET: Final = (
    "id", "owner_id", "bucket", "key", "object_id", "name", "name_folded", "parent_id", "is_folder", "content_type",
    "size", "metadata", "tags", "is_public", "workflow_id", "job_id", "node_id", "created_at", "updated_at",
    "content_changed_at", "revision",
)  # fmt: skip
_ATTRIBUTE: Final = ("asset_id", "owner_id", "name", "text", "number")
_DERIVATION: Final = ("asset_id", "source_id", "job_id", "node_id")


def _write(batch: list[_Made]) -> None:
    _load_model(StoredObject, _OBJECT, map(_object_row, batch))
    _load_model(Asset, _ASSET, map(_asset_row, batch))
    _load_model(AssetAttribute, _ATTRIBUTE, (row for made in batch for row in _attribute_rows(made)))
    _index(Name(made.asset_id, made.owner_id, fold_name(made.name)) for made in batch)


def _object_row(made: _Made) -> Row:
    key, digest = new_object_key(made.object_id, made.kind[1]), made.object_id.hex * 2
    now = made.now
    return (
        made.object_id, "assets", "assets", key, made.size, digest, made.kind[0], "ready", now, now, 1, "", now,
    )  # fmt: skip


def _asset_row(made: _Made) -> Row:
    n, now, key = made.number, made.now, f"{made.asset_id.hex}.{made.kind[1]}"
    return (
        made.asset_id, made.owner_id, "assets", key, made.object_id, made.name, fold_name(made.name), made.folder,
        False, made.kind[0], made.size, json.dumps(made.metadata), json.dumps(made.tags), False, f"workflow-{n % 1000}",
        f"job-{n // 20}", f"node-{n % 50}", now, now, now, 1,
    )  # fmt: skip


def _attribute_rows(made: _Made) -> Iterator[Row]:
    for found in attributes_of(made.metadata, made.tags):
        yield made.asset_id, made.owner_id, found.name, found.text, found.number


def _link(ids: list[UUID], edges: int) -> None:
    """Derive each asset from the one before it, from the one at half its number and from the one at a third."""
    pairs = (
        (ids[number], ids[source], f"job-{number // 20}", f"node-{number % 50}")
        for number in range(1, len(ids))
        for source in {number - 1, number // 2, number // 3}
        if source != number
    )
    rows = islice(pairs, edges)
    while batch := list(islice(rows, _BATCH)):
        with write_section():
            _load_model(Derivation, _DERIVATION, batch)
        release_connection()


def _load_model(model: type[models.Model], columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Write rows of a model; a column that is not named gets its field's default, as it would from the ORM."""
    unnamed = [field for field in model._meta.concrete_fields if field.column not in columns and not field.primary_key]
    rest = {str(field.column): field.get_default() for field in unnamed if not (field.generated or field.null)}
    engine().load(Table(model._meta.db_table, [*columns, *rest]), ((*row, *rest.values()) for row in rows))


def _index(names: Iterable[Name]) -> None:
    if index := engine().names:
        index.add(names)
