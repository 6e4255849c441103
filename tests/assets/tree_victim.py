"""A program that kills itself while it deletes a tree, and one that carries the deletion on. Run by test_tree_kills.

    python -m tests.assets.tree_victim WAY POINTS    one JSON line for each kill; exit 0 when all is well

As `tests.assets.victim` does it: each kill is a real process that ends by SIGKILL before a line of our code, and a
fresh one judges what it left. By turns the deletion is asked for again, left to the purge, and undone.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from uuid import UUID

import django

from tests.assets.victim import Killer, assert_accounts, in_child, listed, set_up

FOLDERS, FILES = 4, 20
BATCH = 6  # of a tree this small, so that there are several
HOW = ("again", "purge", "restore")


def plant(number: int) -> UUID:
    """Make a tree: folders inside each other, with files in each."""
    from django.contrib.auth.models import User

    from assets.services import AssetDetails, create_asset
    from assets.services.folders import create_folder

    owner, folder = User.objects.get(), None
    folders = []
    for depth in range(FOLDERS):
        folder = create_folder(owner_id=owner.pk, name=f"{number}/{depth}", parent=folder)
        folders.append(folder)
    for file in range(FILES):
        details, data = AssetDetails(parent=folders[file % FOLDERS]), io.BytesIO(b"%d %d" % (number, file))
        create_asset(owner=owner, name=f"{number}/file {file}", content=data, details=details)
    return folders[0].pk


def way_of(name: str) -> Callable[[int, UUID], Iterator[list[UUID]]]:
    """Give the deletion of this name, in small batches."""
    from assets.services import trash

    trash.BATCH = BATCH  # type: ignore[misc]
    return {"trash": trash.trash_tree, "for-good": trash.delete_tree}[name]


def victim(way: str, number: int, at: int) -> str:
    """Delete a tree and die at line `at`; returns the number of lines when it lives."""
    top, delete, owner = plant(number), way_of(way), _owner()
    killer = Killer(at)
    sys.settrace(killer)
    for _ in delete(owner, top):
        pass
    sys.settrace(None)
    return str(killer.lines)


def judge(way: str, number: int) -> str:
    """Assert that the tree is as it may be, carry the deletion on and assert that it is whole; tells how."""
    from assets.models import Asset, StoredObject
    from assets.services import purge
    from assets.services.trash import restore

    tree = Asset.objects.filter(name__startswith=f"{number}/")
    live = tree.filter(trashed_at=None)
    top = tree.filter(name=f"{number}/0").first()
    assert not live.filter(parent__trashed_at__isnull=False).exists(), "live in a trashed folder"
    assert_accounts()
    begun = top is None or top.trashed_root is not None
    assert begun or live.count() == FOLDERS + FILES, "gone without a deletion"
    how = HOW[number % len(HOW)] if begun else "not begun"
    if top is None:
        assert not tree.exists(), "left without its root"
    elif how == "restore":
        restore(_owner(), top.pk)
        assert way == "for-good" or live.count() == FOLDERS + FILES, "not all came back"
        assert not live.filter(trashed_root__isnull=False).exists(), "still being deleted"
    elif how == "purge":
        assert not purge(grace=timedelta(0)).failures
    if how != "purge" and live.exists():
        for _ in way_of(way)(_owner(), tree.get(name=f"{number}/0").pk):
            pass
    assert not live.exists(), "not carried on"
    rest = {"trash": {FOLDERS + FILES}, "for-good": {0}}[way]
    if (way, how) == (
        "for-good",
        "purge",
    ):  # it does not know that it was for good, and takes what was left to the trash
        rest = set(range(1, FOLDERS + FILES + 1)) if top else {0}
    assert tree.count() in rest, "taken from the trash, or left in it"
    assert_accounts()
    assert not purge(grace=timedelta(0)).failures
    assert {(row.bucket, row.key) for row in StoredObject.objects.all()} == listed(), "rows and objects differ"
    return how


def _owner() -> int:
    from django.contrib.auth.models import User

    return User.objects.get().pk


def one_kill(way: str, number: int, at: int) -> bool:
    """Kill once and judge; prints a line; tells whether all is well."""
    status, where = in_child(lambda: victim(way, number, at))
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    code, told = in_child(lambda: judge(way, number))
    print(json.dumps({"at": at, "where": where, "killed": killed, "well": not code, "told": told}), flush=True)  # noqa: T201
    return code == 0 and killed


def main(way: str, points: int) -> int:
    """Spread the kills over the deletion; 0 when each one left what can be carried on."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "nodetool_site.settings")
    django.setup()
    for work in (set_up, lambda: victim(way, 0, -1)):
        code, told = in_child(work)
        if code:
            print(told)  # noqa: T201
            return 2
    lines = int(told)
    kills = [1 + lines * number // points for number in range(points)]
    well = [one_kill(way, number, at) for number, at in enumerate(kills, start=1)]
    return 0 if all(well) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
