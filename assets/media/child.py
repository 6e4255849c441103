"""The process in which one stranger's file is decoded: the file is its standard input, the answer its output.

Started by `assets.media.sandbox`. It bounds itself before it looks at a byte, and imports nothing of the service.
The answer is one line of JSON and, behind it, the pictures that the line names with their lengths.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

from assets.media.kinds import Kind

if TYPE_CHECKING:
    from assets.media.thumbnails import Pictures

MEMORY: Final = 1280 << 20  # bytes of address space
CPU_SECONDS: Final = 20
OUTPUT: Final = 4 << 20  # bytes
_PR_SET_PDEATHSIG: Final = 1  # prctl(2)
_NICENESS: Final = 15
_LIMITS: Final = (
    (resource.RLIMIT_AS, MEMORY),
    (resource.RLIMIT_CPU, CPU_SECONDS),
    (resource.RLIMIT_FSIZE, OUTPUT),
    (resource.RLIMIT_NOFILE, 32),
    (resource.RLIMIT_CORE, 0),
)


def main() -> None:
    """Look at the file as the kind that the first argument names; the second is the process to end with."""
    kind, parent = cast("Kind", sys.argv[-2]), int(sys.argv[-1])
    confine(parent)
    with os.fdopen(0, "rb", closefd=False) as source:
        head, pictures = look(source, kind)
    with os.fdopen(1, "wb") as out:
        out.write(json.dumps(head).encode() + b"\n" + b"".join(pictures))


def confine(parent: int) -> None:
    """Bound memory, processor, files and output; stand back behind all else, and end with the parent."""
    for number, value in _LIMITS:
        with contextlib.suppress(ValueError, OSError):  # a lower limit is set already, or the system has none such
            resource.setrlimit(number, (value, value))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as score:
            score.write("1000")  # memory runs out: this process first
    if os.getppid() != parent:
        os._exit(1)
    os.nice(_NICENESS)


def look(source: BinaryIO, kind: Kind) -> tuple[dict[str, Any], list[bytes]]:
    """Give the head of the answer and its pictures; a file that cannot be decoded gives the reason."""
    try:
        return _looked(source, kind)
    except Exception as error:  # noqa: BLE001  # a decoder may raise whatever it likes
        # Its name only: the text may quote the file.
        return {"reason": type(error).__name__}, []


def _looked(source: BinaryIO, kind: Kind) -> tuple[dict[str, Any], list[bytes]]:
    if kind == "table":
        from assets.media.tables import parquet_head

        return parquet_head(source), []
    shown, duration = _seen(source, kind)
    head: dict[str, Any] = {"duration": duration, "sizes": {}}
    if shown is None:
        return head, []
    head["color"], head["sizes"] = shown.color, {size: len(data) for size, data in shown.by_size.items()}
    if kind != "audio":  # a cover's size is not the sound's
        head["width"], head["height"] = shown.width, shown.height
    return head, list(shown.by_size.values())


def _seen(source: BinaryIO, kind: Kind) -> tuple[Pictures | None, float | None]:
    """Give pictures and seconds; the decoders are imported here, under the limits."""
    if kind == "image":
        from assets.media.thumbnails import picture_file

        return picture_file(source), None
    from assets.media.probe import film_file

    film = film_file(source, kind)
    return film.pictures, film.duration
