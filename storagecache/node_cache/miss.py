"""The value of "not there", which no node can compute: a cached None is a hit."""

from __future__ import annotations

import enum
from typing import Final


class Miss(enum.Enum):
    """The type of MISS."""

    MISS = "MISS"

    def __repr__(self) -> str:
        return "MISS"

    def __bool__(self) -> bool:
        return False


MISS: Final = Miss.MISS
