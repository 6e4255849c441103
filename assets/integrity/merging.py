"""The two sides of one bucket, objects and rows, joined in the order of their keys. Pure."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from assets.integrity.findings import printable
from assets.models import StoredObject
from storagecache.capabilities import ObjectInfo
from storagecache.errors import BackendUnavailableError

SUSPECTS: Final = 500  # judged together: one SELECT for all of them
STRIDE: Final = 10_000  # objects and rows between two steps, at most
STRIDE_BYTES: Final = 256 << 20  # hashed between two steps, more or less


@dataclass(frozen=True, slots=True)
class Row:
    """What the comparison needs of a StoredObject."""

    key: str
    id: UUID
    storage: str
    size: int
    sha256: str
    state: str
    state_changed_at: datetime = datetime.max.replace(tzinfo=UTC)
    preview: str = ""
    color: str = ""

    @property
    def has_pictures(self) -> bool:
        """Tell whether small pictures were made of it."""
        return self.is_ready and self.preview == StoredObject.Preview.MADE and bool(self.color)

    @property
    def is_ready(self) -> bool:
        return self.state == StoredObject.State.READY


Pair = tuple[ObjectInfo | None, Row | None]  # the two sides of one key; one of them may be missing


@dataclass(slots=True)
class Chunk:
    """A run of pairs that is judged together."""

    pairs: int = 0
    bytes: int = 0
    last: str = ""
    suspects: list[Pair] = field(default_factory=list)
    pictured: list[UUID] = field(default_factory=list)

    def add(self, pair: Pair, *, is_suspect: bool, deep: bool) -> None:
        """Take one more pair."""
        info, row = pair
        self.pairs += 1
        self.last = info.key if info is not None else row.key if row is not None else ""
        if row is not None and row.has_pictures:
            self.pictured.append(row.id)
        if is_suspect:
            self.suspects.append(pair)
            self.bytes += row.size if deep and row is not None else 0

    @property
    def is_full(self) -> bool:
        """Tell whether it is time to judge."""
        return len(self.suspects) >= SUSPECTS or self.pairs >= STRIDE or self.bytes >= STRIDE_BYTES


def merge(listed: Iterable[ObjectInfo], recorded: Iterable[Row]) -> Iterator[Pair]:
    """Join two sides that ascend bytewise by key. Pure.

    Raises:
        BackendUnavailableError: the listing is not in order, so nothing can be told.
    """
    objects, rows = _in_order(listed), iter(recorded)
    info, row = next(objects, None), next(rows, None)
    while info is not None or row is not None:
        order = _compare_keys(info, row)
        yield (info if order <= 0 else None), (row if order >= 0 else None)
        info = next(objects, None) if order <= 0 else info
        row = next(rows, None) if order >= 0 else row


def _compare_keys(info: ObjectInfo | None, row: Row | None) -> int:
    """Tell which side comes first: negative for the object, positive for the row, 0 for both."""
    if info is None or row is None:
        return 1 if info is None else -1
    left, right = os.fsencode(info.key), os.fsencode(row.key)
    return (left > right) - (left < right)


def _in_order(listed: Iterable[ObjectInfo]) -> Iterator[ObjectInfo]:
    last = b""
    for info in listed:
        key = os.fsencode(info.key)
        if key <= last:
            raise BackendUnavailableError(f"The bucket is not listed in order: {printable(info.key)} came too late.")
        last = key
        yield info
