"""What a service left behind, looked at by a process that no fault touches; it speaks JSON, a line each way.

python -m tests.faults.judge     with the variables of the service
"""

from __future__ import annotations

import json
import subprocess
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tests.server.processes import PROJECT

STRAYS = {f"ab/stray{number}": b"stray %d" % number for number in range(3)}


class Judge:
    """A judge of one service; ask it between the faults."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.judge"],
            cwd=PROJECT,
            env=dict(variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, question: str, *arguments: object) -> Any:
        """Give the answer; a finding is an AssertionError."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([question, *arguments]) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert "failure" not in answer, answer["failure"]
        return answer["answer"]

    def close(self) -> None:
        """Send it home."""
        self._process.kill()
        self._process.communicate()


@dataclass(frozen=True, slots=True)
class _Side:
    """What there is besides live assets: rows and objects by state, staged files."""

    rows: set[tuple[str, str]]
    objects: set[tuple[str, str]]
    states: set[str]
    staged: list[str]


def assets() -> dict[str, list[str]]:
    """Give key, name and digest of every live asset of the bucket `assets`, by key."""
    from assets.models import Asset

    rows = Asset.objects.filter(bucket="assets", is_folder=False).select_related("object")
    return {asset.key or "": [asset.name, asset.object.sha256 if asset.object else ""] for asset in rows}


def settle() -> None:
    """Find nothing wrong now, and nothing at all behind a purge without grace."""
    _find_nothing()
    _purge()
    verification = _find_nothing()
    assert verification.leftovers == 0, f"{verification.leftovers} rows are left over"
    side = _side()
    assert side.rows == side.objects, f"rows and objects differ: {side.rows ^ side.objects}"
    assert side.states <= {"ready"}
    assert side.staged == []


def purge() -> None:
    """Purge without grace."""
    _purge()


def expire() -> None:
    """Lay what a purge is to take: expired temp, and objects without a reference."""
    import io

    from django.contrib.auth.models import User

    from assets.services import delete_at, put_content

    owner = User.objects.get()
    for number in range(2):
        put_content(owner=owner, bucket="temp", key=f"t{number}", content=io.BytesIO(b"t" * 5000), expires_in=0)
        put_content(owner=owner, bucket="assets", key="doomed", content=io.BytesIO(b"doomed %d" % number))
    delete_at(owner.pk, "assets", "doomed")


def plant_strays() -> None:
    """Put objects into the bucket that no row knows."""
    from django.core.files.base import ContentFile
    from django.core.files.storage import storages

    for key, data in STRAYS.items():
        if not storages["assets"].exists(key):
            storages["assets"].save(key, ContentFile(data))


def undo_repairs() -> None:
    """Undo every repair; all strays are back with their bytes, and are then taken away."""
    from django.core.files.storage import storages

    from assets.integrity.quarantine import undo
    from assets.models import IntegrityRun

    for run_id in IntegrityRun.objects.filter(kind="repair", undone_at=None).values_list("pk", flat=True):
        report = undo(run_id)
        assert (report.failures, report.deleted) == ((), 0), report
    for key, data in STRAYS.items():
        with storages["assets"].open(key) as stream:
            assert stream.read() == data, key
        storages["assets"].delete(key)


def lapse_leases() -> None:
    """Let the leases of dead workers end, as five minutes would."""
    from assets.models import StoredObject

    StoredObject.objects.filter(preview="wanted").update(preview_at=None)


def previews_wanted() -> int:
    """Tell how many looks are due or under way."""
    from assets.models import StoredObject

    return StoredObject.objects.filter(preview="wanted", state="ready").count()


def pending() -> int:
    """Tell how many uploads are not ready."""
    from assets.models import StoredObject

    return StoredObject.objects.filter(state="pending").count()


QUESTIONS = {
    call.__name__: call
    for call in (assets, settle, purge, expire, plant_strays, undo_repairs, lapse_leases, previews_wanted, pending)
}


def _find_nothing() -> Any:
    """Compare both sides deeply: no row without bytes, no bytes without a row, all bytes with their digest."""
    from assets.integrity.verify import Verification

    verification = Verification(deep=True)
    findings = list(verification.findings())
    assert not findings, findings
    return verification


def _purge() -> None:
    from assets.services import purge as purge_all

    report = purge_all(grace=timedelta(0))
    assert report.failures == (), report.failures


def _side() -> _Side:
    from django.core.files.storage import storages

    from assets.models import StoredObject
    from storagecache.environment import Environment

    rows = list(StoredObject.objects.values_list("bucket", "key", "state"))
    listed: set[tuple[str, str]] = set()
    for alias, skipped in (("assets", ("temp/", "cache/", "quarantine/")), ("temp", ("cache/",))):
        storage: Any = storages[alias]
        prefix = getattr(storage, "object_prefix", "")
        found = (info.key for info in storage.list_objects(skip_prefixes=skipped if not prefix else ()))
        listed |= {(storage.bucket, key) for key in found if key.startswith(prefix)}
    folder = Environment.current().staging_folder
    staged = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return _Side({(bucket, key) for bucket, key, _ in rows}, listed, {state for *_, state in rows}, staged)


def main() -> None:
    """Answer until nobody asks."""
    import os

    import django
    from django.db import connection

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "nodetool_site.settings")
    assert "pytest" not in sys.modules, "the product would take itself for tested, and keep bytes in memory"
    django.setup()
    for line in sys.stdin:
        question, *arguments = json.loads(line)
        try:
            answer = {"answer": QUESTIONS[question](*arguments)}
        except Exception:  # noqa: BLE001  # told to the test
            answer = {"failure": traceback.format_exc()}
        connection.close()
        print(json.dumps(answer), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
