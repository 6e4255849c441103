"""What a purge tells of itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgeReport:
    """What a purge did: objects and bytes that went (or would go), expired assets, and what failed and why."""

    objects: int = 0
    bytes: int = 0
    expired: int = 0
    staged_files: int = 0
    failures: tuple[str, ...] = ()
    dry_run: bool = False
