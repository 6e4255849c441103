"""What can be wrong between catalog and buckets, and how it is told."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What can be wrong; docs/operations.md says what each one means."""

    OBJECT_WITHOUT_ROW = "object_without_row"
    ROW_WITHOUT_OBJECT = "row_without_object"
    THUMBNAIL_MISSING = "thumbnail_missing"
    WRONG_SIZE = "wrong_size"
    WRONG_DIGEST = "wrong_digest"
    ASSET_NOT_READY = "asset_not_ready"
    REFERENCE_NOT_READY = "reference_not_ready"  # as before, by a thumbnail or another record
    STUCK = "stuck"
    COUNTER_DIFFERS = "counter_differs"
    UNREADABLE = "unreadable"  # not a finding: it could not be told


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong. `id` is the object's, or that of the asset, record or account; "" without a row."""

    kind: Kind
    bucket: str
    key: str
    id: str = ""
    detail: str = ""


def printable(key: str) -> str:
    """Give a key that any terminal and any JSON can hold; bytes that are not UTF-8 become escapes."""
    return os.fsencode(key).decode("utf-8", "backslashreplace")
