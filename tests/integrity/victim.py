"""Repairs and undos that are killed at a chosen line of our code, and what is left of them. Run by test_kills.

    python -m tests.integrity.victim OPERATION POINTS     one JSON line for each kill; exit 0 when all is well

See tests/assets/victim.py, whose way of killing this uses.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from uuid import UUID

import django

from tests.assets.victim import Killer, in_child

STRAYS = 3


def set_up() -> None:
    """Make the catalog and 40 assets."""
    import io

    from django.contrib.auth.models import User
    from django.core.management import call_command

    from assets.services import create_asset

    call_command("migrate", verbosity=0)
    owner = User.objects.create_user("owner")
    for number in range(40):
        create_asset(owner=owner, name="a", content=io.BytesIO(b"asset %d" % number))


def strays() -> dict[str, bytes]:
    """Give the objects that nobody knows, by key."""
    return {f"ab/stray{number}": b"stray %d" % number for number in range(STRAYS)}


def prepare(operation: str) -> None:
    """Lay strays; for an undo, set them aside."""
    from django.core.files.base import ContentFile
    from django.core.files.storage import storages

    from assets.integrity.repair import repair

    for key, data in strays().items():
        if not storages["assets"].exists(key):
            storages["assets"].save(key, ContentFile(data))
    if operation == "undo":
        repair()


def victim(operation: str, at: int) -> str:
    """Operate and die at line `at`; returns the number of lines when it lives."""
    from assets.integrity.quarantine import undo
    from assets.integrity.repair import repair

    prepare(operation)
    last = _last_repair()
    killer = Killer(at)
    sys.settrace(killer)
    if operation == "undo":
        assert last is not None
        undo(last)
    else:
        repair()
    sys.settrace(None)
    return str(killer.lines)


def judge() -> None:
    """Assert that nothing is lost: undo brings every stray back, and every asset reads."""
    import hashlib

    from django.core.files.storage import storages

    from assets.integrity.quarantine import undo
    from assets.integrity.verify import Verification
    from assets.models import IntegrityRun, StoredObject

    for run_id in IntegrityRun.objects.filter(kind="repair").values_list("pk", flat=True):
        report = undo(run_id)
        assert (report.failures, report.deleted) == ((), 0), report
    for key, data in strays().items():
        with storages["assets"].open(key) as stream:
            assert stream.read() == data, key
    for stored in StoredObject.objects.all():
        with storages["assets"].open(stored.key) as stream:
            assert hashlib.sha256(stream.read()).hexdigest() == stored.sha256
    found = {finding.key for finding in Verification(deep=True).findings()}
    assert found == set(strays()), found


def _last_repair() -> UUID | None:
    from assets.models import IntegrityRun

    return IntegrityRun.objects.filter(kind="repair").order_by("-pk").values_list("pk", flat=True).first()


def one_kill(operation: str, at: int) -> bool:
    """Kill once and judge; prints a line; tells whether all is well."""
    status, where = in_child(lambda: victim(operation, at))
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    code, told = in_child(judge)
    print(json.dumps({"at": at, "where": where, "killed": killed, "told": told}), flush=True)  # noqa: T201
    return code == 0 and (killed or (status == 0 and int(where) < at))


def main(operation: str, points: int) -> int:
    """Spread the kills over the operation; 0 when each one left everything in its place."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "nodetool_site.settings")
    django.setup()
    code, told = in_child(set_up)
    for _ in range(2):  # the first rehearsal makes folders
        code, told = (code, told) if code else in_child(lambda: victim(operation, -1))
        code, told = (code, told) if code else (in_child(judge)[0], told)
    if code:
        print(told)  # noqa: T201
        return 2
    lines = int(told)
    kills = range(1, lines + 1) if not points else sorted({1 + lines * i // points for i in range(points)})
    well = [one_kill(operation, at) for at in kills]
    return 0 if all(well) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
