"""Rows deleted many at a time, without being loaded: what Django's own deletion costs most of a purge."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from django.db.models import CASCADE, ForeignObjectRel, Model


def delete_rows(model: type[Model], ids: Collection[UUID]) -> None:
    """Delete rows and what cascades from them, inside a section; one statement for each table.

    What refers to them by a protecting key makes the database itself refuse at the end of the section.
    """
    for relation in _cascading(model):
        related: type[Model] = relation.related_model
        rows = related._base_manager.filter(**{f"{relation.field.name}__in": ids})
        if _cascading(related):
            rows.delete()
        else:
            rows._raw_delete(rows.db)
    rows = model._base_manager.filter(pk__in=ids)
    rows._raw_delete(rows.db)


def _cascading(model: type[Model]) -> list[ForeignObjectRel]:
    return [relation for relation in model._meta.related_objects if relation.on_delete is CASCADE]
