"""Assets as answers tell them: a row and its object as plain values, read only.

Making instances of models, with the columns that no answer holds, was half of what a long list cost.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from assets.models import Asset, StoredObject


class ShownObject(NamedTuple):
    """What answers tell of an asset's object; fields as StoredObject has them."""

    pk: UUID
    storage: str
    bucket: str
    key: str
    size: int
    sha256: str
    content_type: str
    preview: str
    color: str

    @property
    def etag(self) -> str:
        """The strong ETag of the bytes (RFC 9110 8.8.3)."""
        return f'"{self.sha256}"'


class Shown(NamedTuple):
    """What answers tell of an asset; fields as Asset has them, `object` is None for a folder."""

    pk: UUID
    owner_id: int
    parent_id: UUID | None
    is_folder: bool
    name: str
    name_key: str
    bucket: str
    key: str | None
    content_type: str
    size: int | None
    metadata: dict[str, object]
    tags: list[str]
    is_public: bool
    workflow_id: str
    job_id: str
    node_id: str
    duration: float | None
    width: int | None
    height: int | None
    expires_at: datetime | None
    created_at: datetime
    updated_at: datetime
    revision: int
    object: ShownObject | None


AnyAsset = Asset | Shown
AnyObject = StoredObject | ShownObject
_OWN: Final = Shown._fields[:-1]
COLUMNS: Final = (*_OWN, *(f"object__{name}" for name in ShownObject._fields))  # of `values_list`


def shown(row: tuple[Any, ...]) -> Shown:
    """Make the value of a row of COLUMNS."""
    of_object = row[len(_OWN) :]
    return Shown._make((*row[: len(_OWN)], None if of_object[0] is None else ShownObject._make(of_object)))
