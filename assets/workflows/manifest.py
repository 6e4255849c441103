"""The manifest of a job: what lets a process without network or database find the files of its inputs. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from assets.workflows.mounts import Input


def render_manifest(inputs: Iterable[Input], paths: Mapping[str, str]) -> str:
    """Write the manifest: a JSON list of {id, name, path, sha256, type}; `path` is as the job sees it."""
    entries = [
        {"id": each.id, "name": each.name, "path": paths[each.id], "sha256": each.sha256, "type": each.content_type}
        for each in inputs
    ]
    return json.dumps(entries, ensure_ascii=False, indent=1)
