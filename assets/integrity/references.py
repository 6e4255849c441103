"""Who refers to an object: every foreign key that keeps one alive, as the purge sees them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final
from uuid import UUID

from django.db.models import PROTECT, ForeignObjectRel, Model

from assets.integrity.findings import Finding, Kind
from assets.models import StoredObject
from assets.services.sections import release_connection

PAGE: Final = 1000  # rows in one SELECT
HOLDERS: Final = 5  # named in a finding
_FIRST: Final = "0" * 32  # an id before all others
_UNREADY: Final = (StoredObject.State.PENDING, StoredObject.State.DELETING)


def judge_references(after: str, since: datetime | None) -> Iterator[tuple[str, list[Finding]]]:
    """Report records whose object nobody may read: reference and state change in one transaction.

    Yields how far it has come, and the findings up to there; `after` is where to go on. It starts from the few
    objects that are not ready: each state has an index of its own.
    """
    begun, _, last_id = after.partition(" ")
    for state in _UNREADY[_UNREADY.index(begun) if begun else 0 :]:
        last = UUID(last_id if state == begun else _FIRST)
        while ids := _next_ids(state, last):
            findings = [finding for relation in _relations() for finding in _not_ready(relation, ids, since)]
            release_connection()
            last = ids[-1]
            yield f"{state} {last.hex}", findings


def holders_of(ids: list[UUID]) -> dict[UUID, list[str]]:
    """Name some records that refer to each of these objects."""
    found: dict[UUID, list[str]] = {}
    if not ids:
        return found
    for relation in _relations():
        column = relation.field.attname
        model: type[Model] = relation.related_model
        rows = model._base_manager.filter(**{f"{relation.field.name}__in": ids}).order_by().values_list(column, "pk")
        for object_id, pk in rows[: HOLDERS * len(ids)]:
            names = found.setdefault(object_id, [])
            if len(names) < HOLDERS:
                names.append(f"{model._meta.model_name} {pk.hex if isinstance(pk, UUID) else pk}")
    release_connection()
    return found


def _relations() -> list[ForeignObjectRel]:
    """Give every foreign key that keeps an object alive, as the purge sees them."""
    return [relation for relation in StoredObject._meta.related_objects if relation.on_delete is PROTECT]


def _not_ready(relation: ForeignObjectRel, ids: list[UUID], since: datetime | None) -> Iterator[Finding]:
    name = relation.field.name
    model: type[Model] = relation.related_model
    records = model._base_manager.filter(**{f"{name}__in": ids}).exclude(**{f"{name}__state": StoredObject.State.READY})
    if since is not None and hasattr(model, "created_at"):
        records = records.filter(created_at__gte=since)
    for record in records.select_related(name).order_by("pk").iterator(PAGE):
        yield _reference_finding(record, getattr(record, name))


def _next_ids(state: str, last: UUID) -> list[UUID]:
    objects = StoredObject.objects.filter(state=state, pk__gt=last).order_by("pk")
    return list(objects.values_list("pk", flat=True)[:PAGE])


def _reference_finding(record: Model, stored: StoredObject) -> Finding:
    name = record._meta.model_name
    pk = record.pk.hex if isinstance(record.pk, UUID) else str(record.pk)
    kind = Kind.ASSET_NOT_READY if name == "asset" else Kind.REFERENCE_NOT_READY
    detail = f"the object of {name} {pk} is {stored.state}"
    return Finding(kind=kind, bucket=stored.bucket, key=stored.key, id=pk, detail=detail)
