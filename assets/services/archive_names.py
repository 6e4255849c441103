"""Names inside an archive: safe on every system that may unpack it, and no two alike in one folder. Pure.

An archive meets Windows, macOS and old unpackers. So a name there is one segment without what any of them takes for
something else, and two names that differ only in case or in Unicode form count as one.
"""

from __future__ import annotations

import re
from typing import Final

from assets.models import fold_name

SEGMENT_BYTES: Final = 240  # of UTF-8; with a number behind it still a name of 255 bytes, what file systems take
PATH_BYTES: Final = 2048  # of a folder's path; below what Linux takes (4096) with a place to unpack in

# Controls, marks and overrides of direction, separators of lines, BOM, lone surrogates; then what Windows refuses
# (learn.microsoft.com/windows/win32/fileio/naming-a-file) and separators of paths.
_UNSAFE: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]|[<>:\"|?*/\\]"
)
_DEVICE: Final = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³]) *(?:\.|\Z)", re.IGNORECASE)
_LONGEST_ENDING: Final = 16  # characters of an extension that a cut name keeps


def safe_segment(name: str) -> str:
    """Give one path segment that every system takes as it is: never empty, "." or "..", never a device of Windows."""
    cleaned = _shortened(_UNSAFE.sub("_", name)).strip(" ").rstrip(" .")  # Windows drops dots and spaces at the end
    return f"_{cleaned}" if not cleaned or _DEVICE.match(cleaned) else cleaned


class Names:
    """The names of one folder of an archive; memory grows with their number."""

    def __init__(self, *reserved: str) -> None:
        self._next = {fold_name(name): 2 for name in reserved}

    def take(self, name: str) -> str:
        """Give a safe name that this folder does not have yet: `a.png`, then `a (2).png`."""
        segment = safe_segment(name)
        folded = fold_name(segment)
        number = self._next.get(folded)
        if number is None:
            self._next[folded] = 2
            return segment
        while fold_name(candidate := _numbered(segment, number)) in self._next:
            number += 1
        self._next[folded] = number + 1
        self._next[fold_name(candidate)] = 2
        return candidate


def _numbered(segment: str, number: int) -> str:
    stem, ending = _split(segment)
    return f"{stem} ({number}){ending}"


def _split(name: str) -> tuple[str, str]:
    """Split off a short extension; a name that only begins with a dot has none."""
    stem, dot, extension = name.rpartition(".")
    return (stem, dot + extension) if stem and len(extension) < _LONGEST_ENDING else (name, "")


def _shortened(name: str) -> str:
    """Cut a name to its bytes, between characters, and keep its extension."""
    if len(name.encode()) <= SEGMENT_BYTES:
        return name
    stem, ending = _split(name)
    room = SEGMENT_BYTES - len(ending.encode())
    return stem.encode()[:room].decode(errors="ignore").rstrip(" .") + ending
