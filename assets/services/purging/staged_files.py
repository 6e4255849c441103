"""Staged files that dead processes left in the staging folders of this machine."""

from __future__ import annotations

import contextlib
import os
from datetime import datetime

from django.core.files.storage import storages

from assets.services.purging.report import PurgeReport
from storagecache.capabilities import FolderStaging
from storagecache.environment import Environment
from storagecache.errors import StorageError
from storagecache.storages.durable import STAGED_PREFIX


def sweep_staging(cutoff: datetime) -> PurgeReport:
    """Remove staged files that a dead process left on this machine, by their name and age; others are not ours."""
    swept, failures = 0, []
    for place in ("assets", "temp", ""):
        try:
            swept += _sweep_folder(_staging_folder(place), cutoff.timestamp())
        except (StorageError, OSError) as error:
            failures.append(f"staging folder of {place or 'the service'}: {error}")
    return PurgeReport(staged_files=swept, failures=tuple(failures))


def _staging_folder(alias: str) -> str:
    storage = storages[alias] if alias else None
    return storage.staging_folder() if isinstance(storage, FolderStaging) else str(Environment.current().staging_folder)


def _sweep_folder(folder: str, before: float) -> int:
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        return sum(_sweep(entry, before) for entry in entries if entry.name.startswith(STAGED_PREFIX))
    return 0


def _sweep(entry: os.DirEntry[str], before: float) -> bool:
    with contextlib.suppress(FileNotFoundError):
        if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_mtime <= before:
            os.unlink(entry.path)
            return True
    return False
