"""What a service is killed in: each operation once, on a stand; its number makes its names and bytes."""

from __future__ import annotations

import io
import signal
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from tests.faults.stand import Stand, body_of
from tests.server.processes import until

KILLED = -signal.SIGKILL
SIZE = 70_000
PARTS = 17 << 20  # three parts on S3


@dataclass(frozen=True, slots=True)
class Operation:
    """`do` runs it; `lay` prepares it, and `clear` ends it, unharmed. `role` is the process whose steps it makes."""

    name: str
    role: str
    do: Callable[[Stand, int], object]
    lay: Callable[[Stand, int], object] = lambda stand, number: None
    clear: Callable[[Stand, int], object] = lambda stand, number: None


def _put(stand: Stand, number: int) -> None:
    stand.put(f"put-{number}", body_of(f"put-{number}", SIZE))


def _put_parts(stand: Stand, number: int) -> None:
    stand.put("parts", body_of(f"parts-{number}", PARTS))


def _post(stand: Stand, number: int) -> None:
    stand.post(f"post-{number}", body_of(f"post-{number}", SIZE))


def _replace(stand: Stand, number: int) -> None:
    stand.put("replaced", body_of(f"replaced-{number}", SIZE))


def _lay_deleted(stand: Stand, number: int) -> None:
    stand.place("deleted", body_of(f"deleted-{number}", SIZE))


def _delete(stand: Stand, number: int) -> None:
    stand.delete("deleted")


def _lay_garbage(stand: Stand, number: int) -> None:
    stand.judge.ask("expire")


def _purge(stand: Stand, number: int) -> None:
    assert stand.command("purge_temp", "--older-than", "0s", "--json") in (0, KILLED)


def _lay_strays(stand: Stand, number: int) -> None:
    stand.judge.ask("plant_strays")


def _repair(stand: Stand, number: int) -> None:
    assert stand.command("verify_assets", "--repair", "--json") in (1, KILLED)  # 1: it found the strays


def _clear_strays(stand: Stand, number: int) -> None:
    stand.judge.ask("undo_repairs")


def _thumbnail(stand: Stand, number: int) -> None:
    data = io.BytesIO()
    Image.new("RGB", (600, 400), (number % 256, number // 256 % 256, 7)).save(data, "PNG")
    stand.put("picture.png", data.getvalue())
    until(lambda: stand.steps.has_killed() or not stand.judge.ask("previews_wanted"))


def _clear_thumbnail(stand: Stand, number: int) -> None:
    stand.await_previews()


OPERATIONS = (
    Operation("put", "web", _put),
    Operation("post", "web", _post),
    Operation("replace", "web", _replace),
    Operation("delete", "web", _delete, lay=_lay_deleted),
    Operation("purge", "command", _purge, lay=_lay_garbage),
    Operation("repair", "command", _repair, lay=_lay_strays, clear=_clear_strays),
    Operation("thumbnail", "worker", _thumbnail, clear=_clear_thumbnail),
)
IN_PARTS = Operation("put-parts", "web", _put_parts)
