"""How far a purge goes: the moment it judges by, the grace time, and how much it takes at once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

BATCH: Final = 1000  # objects; what S3 deletes in one call
SECTION: Final = 200  # rows changed in one section: uploads wait for it on SQLite


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one purge may take; each of its steps asks here, so that all judge by the same moment."""

    now: datetime
    grace: timedelta
    batch: int
    limit: int | None

    @property
    def cutoff(self) -> datetime:
        """The time before which leftovers must have been left."""
        return self.now - self.grace

    def room(self, done: int) -> int:
        """Tell how many more objects this batch may take."""
        return self.batch if self.limit is None else min(self.batch, self.limit - done)
