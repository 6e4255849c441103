"""The list of a job's inputs that an execution leaves in the workspace, so that no network and no database is needed.

`.assets/manifest.json` is a list of `{"id", "name", "path", "sha256", "type"}`: the asset's id, its name, where its
bytes lie for this process (absolute, or relative to the workspace), their hex digest and their content type.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from storagecache.errors import BackendUnavailableError

logger = logging.getLogger(__name__)

MANIFEST: Final = Path(".assets", "manifest.json")
_MAX_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """One input: `path` is real, absolute and inside a folder that the job may read."""

    id: str
    name: str
    path: Path
    sha256: str
    type: str


def read_manifest(workspace: Path, roots: tuple[Path, ...]) -> dict[str, ManifestEntry]:
    """Read the manifest of a workspace by asset id; empty when there is none.

    What lies outside of the workspace and `roots` is left out: a job before may have written what it liked; so is what
    is no file any more.

    Raises:
        BackendUnavailableError: it is no manifest.
    """
    path = workspace / MANIFEST
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise BackendUnavailableError(f"{MANIFEST} is too large.")
        listed = json.loads(path.read_bytes())
        entries = [_entry(part, workspace) for part in listed]
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BackendUnavailableError(f"{MANIFEST} of the workspace cannot be read: {error!r}.") from error
    real_roots = [Path(os.path.realpath(root)) for root in (workspace, *roots)]
    trusted = [entry for entry in entries if any(entry.path.is_relative_to(root) for root in real_roots)]
    if len(trusted) < len(entries):
        logger.warning("manifest names paths elsewhere entries=%d", len(entries) - len(trusted))
    return {entry.id: entry for entry in trusted if entry.path.is_file()}


def _entry(part: Mapping[str, Any], workspace: Path) -> ManifestEntry:
    id_, name, sha256, type_ = (str(part[name]) for name in ("id", "name", "sha256", "type"))
    return ManifestEntry(id_, name, Path(os.path.realpath(workspace / str(part["path"]))), sha256, type_)
