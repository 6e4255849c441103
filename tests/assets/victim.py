"""A program that kills itself at a chosen line of our code, and another that looks at what it left. Run by test_faults.

    python -m tests.assets.victim OPERATION POINTS     one JSON line for each kill; exit 0 when all is well

    python -m tests.assets.victim OPERATION charge     one kill, once the quota is charged and before that is committed

Each kill is a real process (a fork) that ends by SIGKILL before the chosen line of `assets` or `storagecache` runs:
`sys.settrace` counts the lines, so production code knows nothing of this. POINTS kills are spread over the shortest of
three rehearsals; 0 means every line. This parent never opens a connection: a fresh process judges what the victim left.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import django

ROOT = Path(__file__).resolve().parents[2]
OURS = tuple(f"{ROOT / name}{os.sep}" for name in ("assets", "storagecache"))
SIZE = 70_000


class ChargeKiller:
    """Kills the process when the first `charge` returns, inside the section that has yet to commit."""

    lines = -1

    def __call__(self, frame: FrameType, event: str, arg: Any) -> Any:
        code = frame.f_code
        return self._return if (code.co_name, Path(code.co_filename).name) == ("charge", "quota.py") else None

    def _return(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "return":
            os.write(REPORT, b"charge has returned")
            os.kill(os.getpid(), signal.SIGKILL)
        return self._return


class Killer:
    """Counts the lines of our code in this thread, and kills the process before line number `at`."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.lines = 0
        self.where = ""

    def __call__(self, frame: FrameType, event: str, arg: Any) -> Any:
        return self._line if frame.f_code.co_filename.startswith(OURS) else None

    def _line(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "line":
            self.lines += 1
            if self.lines == self.at:
                place = Path(frame.f_code.co_filename).relative_to(ROOT)
                os.write(REPORT, f"{place}:{frame.f_lineno} {frame.f_code.co_name}".encode())
                os.kill(os.getpid(), signal.SIGKILL)
        return self._line


REPORT = 2


def in_child(work: Callable[[], Any]) -> tuple[int, str]:
    """Run `work` in a forked process; returns its wait status and what it wrote to the report."""
    global REPORT
    reading, REPORT = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _finish(work)
    os.close(REPORT)
    with os.fdopen(reading, "rb") as stream:
        text = stream.read().decode()
    return os.waitpid(pid, 0)[1], text


def _finish(work: Callable[[], Any]) -> None:
    code = 0
    try:
        os.write(REPORT, str(work() or "").encode())
    except BaseException:  # noqa: BLE001  # told to the parent
        os.write(REPORT, traceback.format_exc().encode())
        code = 1
    os._exit(code)


def content(text: str) -> bytes:
    """Make recognisable bytes."""
    return (text.encode() + b" ") * (SIZE // (len(text) + 1))


def put(key: str, text: str, **options: Any) -> None:
    """Put bytes as the one owner."""
    from django.contrib.auth.models import User

    from assets.services import put_content

    source = io.BytesIO(content(text))
    put_content(owner=User.objects.get(), bucket=options.pop("bucket", "assets"), key=key, content=source, **options)


def operate(operation: str, number: int) -> None:
    """Do what is to be killed."""
    from django.contrib.auth.models import User

    from assets.services import delete_at, purge

    {
        "create": lambda: put(f"new-{number}", f"new-{number}"),
        "replace": lambda: put("k", f"new-{number}"),
        "dedupe": lambda: put(f"twin-{number}", f"old-{number}"),
        "delete": lambda: delete_at(User.objects.get().pk, "assets", "k"),
        "purge": lambda: purge(grace=timedelta(0)),
    }[operation]()


def prepare(operation: str, number: int) -> None:
    """Lay the old content, and what a purge is to take."""
    put("k", f"old-{number}")
    if operation == "purge":
        put("t", f"temp-{number}", bucket="temp", expires_in=0)


CHARGED = -2  # instead of a line: when the quota is charged


def victim(operation: str, number: int, at: int) -> str:
    """Operate and die at line `at`, or CHARGED; returns the number of lines when it lives."""
    prepare(operation, number)
    killer = ChargeKiller() if at == CHARGED else Killer(at)
    sys.settrace(killer)
    operate(operation, number)
    sys.settrace(None)
    return str(killer.lines)


def judge(operation: str, number: int) -> None:
    """Assert that nothing half-made is visible, and that one purge makes both sides equal."""
    from assets.models import StoredObject
    from assets.services import purge

    seen = _visible()
    assert_accounts()
    old, new = content(f"old-{number}"), content(f"new-{number}")
    allowed = {"replace": (old, new), "delete": (old, None)}.get(operation, (old,))
    assert seen.get("k") in allowed, f"k is {seen.get('k', b'')[:40]!r}"
    assert seen.get(f"new-{number}") in (None, new)
    assert seen.get(f"twin-{number}") in (None, old)
    report = purge(grace=timedelta(0))
    assert not report.failures, report.failures
    assert _visible() == seen, "the purge changed what is visible"
    assert_accounts()
    rows = {(row.bucket, row.key) for row in StoredObject.objects.all()}
    assert rows == listed(), f"{len(rows)} rows, {len(listed())} objects"
    assert set(StoredObject.objects.values_list("state", flat=True)) <= {"ready"}
    assert _staged() == []


def assert_accounts() -> None:
    """Assert that the owner's account is exact, and that bytes which nobody sees are on nobody's account."""
    from assets.models import Account, Asset

    used = sum(size or 0 for size in Asset.objects.values_list("size", flat=True))
    assert Account.objects.get().used_bytes == used, "the account is wrong"


def _visible() -> dict[str, bytes]:
    """Read every live asset whole and hold it against its digest."""
    import hashlib

    from assets.models import Asset
    from assets.services import find_asset_at, open_asset

    found = {}
    for asset in Asset.objects.filter(bucket="assets"):
        live = find_asset_at("assets", asset.key or "")
        with open_asset(live) as stream:
            data = stream.read()
        assert live.object is not None
        assert hashlib.sha256(data).hexdigest() == live.object.sha256, f"{live.key} is torn"
        found[live.key or ""] = data
    return found


def listed() -> set[tuple[str, str]]:
    """List the objects of both buckets."""
    from django.core.files.storage import storages

    return {
        (storages[alias].bucket, info.key)
        for alias in ("assets", "temp")
        for info in storages[alias].list_objects(skip_prefixes=("cache/",))
    }


def _staged() -> list[str]:
    from storagecache.environment import Environment

    folder = Environment.current().staging_folder
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def set_up() -> None:
    """Make the catalog and its one owner."""
    from django.contrib.auth.models import User
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    User.objects.create_user("owner")


def one_kill(operation: str, number: int, at: int) -> bool:
    """Kill once and judge; prints a line; tells whether all is well."""
    status, where = in_child(lambda: victim(operation, number, at))
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    code, told = in_child(lambda: judge(operation, number))
    print(json.dumps({"at": at, "where": where, "killed": killed, "told": told}), flush=True)  # noqa: T201
    return code == 0 and (killed or status == 0)  # it lives when it had fewer lines to go: a folder was there already


def rehearse(operation: str, number: int) -> int:
    """Operate unharmed; returns how many lines it took. Making a folder that is not there yet takes more."""
    code, told = in_child(lambda: victim(operation, number, -1))
    if code:
        raise RuntimeError(told)
    return int(told)


def main(operation: str, points: int) -> int:
    """Spread the kills over the operation; 0 when each one left a whole catalog."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "nodetool_site.settings")
    django.setup()
    code, told = in_child(set_up)
    if code:
        print(told)  # noqa: T201
        return 2
    if points == CHARGED:
        return 0 if one_kill(operation, 1, CHARGED) else 1
    lines = [rehearse(operation, number) for number in (0, -1, -2)]
    kills = range(1, max(lines) + 1) if not points else [1 + min(lines) * i // points for i in range(points)]
    well = [one_kill(operation, number, at) for number, at in enumerate(kills, start=1)]
    return 0 if all(well) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], CHARGED if sys.argv[2] == "charge" else int(sys.argv[2])))
