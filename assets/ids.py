"""Ids of rows: version 7 UUIDs, which sort by the time they were made (RFC 9562 5.7); and those derived from them."""

from __future__ import annotations

import os
import threading
import time
from datetime import datetime
from typing import Final
from uuid import UUID

HOME_PREFIX: Final = "00000000000080008"  # 17 hex digits: version and variant of a custom UUID (RFC 9562 5.8)
_HOME_DIGITS: Final = 32 - len(HOME_PREFIX)

_lock = threading.Lock()
_last = 0


def uuid7(milliseconds: int, fraction: int, tail: int) -> UUID:
    """Build the id: 48 bits of time, 12 bits of `fraction`, 62 bits of `tail`. Pure."""
    value = (milliseconds & (1 << 48) - 1) << 80 | 0x7 << 76 | (fraction & 0xFFF) << 64
    return UUID(int=value | 0b10 << 62 | tail & (1 << 62) - 1)


def new_id() -> UUID:
    """Make an id that sorts behind every id this process made before, even when the clock steps back.

    The 12 bits after the milliseconds hold their fraction (RFC 9562 6.2, method 3).
    """
    global _last  # noqa: PLW0603  # one counter for the process, under its lock
    with _lock:
        _last = max(time.time_ns() * 4096 // 1_000_000, _last + 1)
        ticks = _last
    return uuid7(ticks >> 12, ticks & 0xFFF, int.from_bytes(os.urandom(8)))


def last_id_at(moment: datetime) -> UUID:
    """Give the greatest id that can have been made in the millisecond of a time. Pure."""
    return uuid7(int(moment.timestamp() * 1000), 0xFFF, (1 << 62) - 1)


def home_folder(user_id: int) -> UUID:
    """Give the folder that stands for a user's home: no row has this id. Pure; `models.HomeFolder` says it in SQL."""
    return UUID(hex=f"{HOME_PREFIX}{user_id:0{_HOME_DIGITS}x}")


def search_row(asset_id: UUID) -> int:
    """Give the row of an asset in the search index of SQLite: 63 bits that sort as the ids do. Pure.

    They are the time, its fraction and three bits of the tail. Ids are made one after the other inside sections that
    queue, so no two of them share a fraction of a microsecond.
    """
    value = asset_id.int
    return value >> 80 << 15 | (value >> 64 & 0xFFF) << 3 | value >> 59 & 0b111
