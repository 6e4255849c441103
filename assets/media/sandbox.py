"""Has one file looked into by a process of its own, and believes nothing that it answers without a check.

The process bounds itself (`assets.media.child`); here it is started, timed, killed and read.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

from assets.media.child import OUTPUT
from assets.media.kinds import COLUMNS, ROWS, SIZES, Kind

SECONDS: Final = 30.0  # of wall clock
TABLE_SECONDS: Final = 10.0  # somebody waits for it
CELL: Final = 200  # characters
_PROJECT: Final = str(Path(__file__).resolve().parent.parent.parent)
_START: Final = "import sys; sys.path.insert(0, sys.argv[1]); from assets.media.child import main; main()"
# Nothing of our environment: it holds secrets. Fewer arenas, since their address space is counted.
_ENVIRONMENT: Final = {"MALLOC_ARENA_MAX": "2", "LC_ALL": "C.UTF-8"}
_COLOR: Final = re.compile(r"#[0-9a-f]{6}")
_LARGEST: Final = (1 << 31) - 1
_LONGEST: Final = 1e9  # seconds


class NoPreviewError(Exception):
    """The file shows nothing: it is broken, hostile or none of its kind. The text says why, in a few words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a look found: pixels, seconds, the average colour ("": no picture), and WebP pictures by size."""

    width: int | None = None
    height: int | None = None
    duration: float | None = None
    color: str = ""
    pictures: Mapping[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Table:
    """The names of a table's first columns, its first rows, and how many rows and columns there are."""

    rows: tuple[tuple[str, ...], ...]
    count: int
    columns: int


def table_of(source: BinaryIO, *, seconds: float = TABLE_SECONDS) -> Table:
    """Have the first rows of a Parquet file read; bounded as `look_into` is.

    Raises:
        NoPreviewError: it is none, or could not be read within these bounds.
        OSError: the process could not be started.
    """
    try:
        told = json.loads(_answer(source, "table", seconds))
        if "reason" in told:
            raise NoPreviewError(str(told["reason"])[:100])
        rows = tuple(tuple(str(cell)[:CELL] for cell in row[:COLUMNS]) for row in told["rows"][: ROWS + 1])
        return Table(rows, int(told["count"]), int(told["columns"]))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise NoPreviewError("the decoder's answer is not readable") from error


def look_into(source: BinaryIO, kind: Kind, *, seconds: float = SECONDS) -> Preview:
    """Have a file on this machine looked into; `source` is a real file, read from its beginning.

    Bounded: `seconds` of wall clock, and the memory and processor time that `assets.media.child` names.

    Raises:
        NoPreviewError: it shows nothing, or not within these bounds.
        OSError: the process could not be started.
    """
    return parse(_answer(source, kind, seconds))


def _answer(source: BinaryIO, kind: Kind, seconds: float) -> bytes:
    with tempfile.TemporaryFile() as answer:
        status = _run(source, answer, kind, seconds)
        if status:
            raise NoPreviewError(f"the decoder ended with status {status}")
        answer.seek(0)
        return answer.read(OUTPUT + 1)


def _run(source: BinaryIO, answer: BinaryIO, kind: Kind, seconds: float) -> int:
    source.seek(0)
    command = [sys.executable, "-I", "-c", _START, _PROJECT, kind, str(os.getpid())]
    with subprocess.Popen(  # noqa: S603  # our own words only
        command, stdin=source, stdout=answer, stderr=subprocess.DEVNULL, env=dict(_ENVIRONMENT), cwd="/"
    ) as process:
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise NoPreviewError(f"not done after {seconds:g} s") from error
        finally:
            process.kill()


def parse(answer: bytes) -> Preview:
    """Read the answer of a process that a stranger's file may have taken over.

    Raises:
        NoPreviewError: it gave a reason instead, or is not in the one form that it may have.
    """
    head, _, body = answer.partition(b"\n")
    try:
        told = json.loads(head)
        if "reason" in told:
            raise NoPreviewError(str(told["reason"])[:100])
        return Preview(
            width=_whole(told.get("width")),
            height=_whole(told.get("height")),
            duration=_seconds(told.get("duration")),
            color=_color(told.get("color", "")),
            pictures=_pictures(told["sizes"], body),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise NoPreviewError("the decoder's answer is not readable") from error


def _pictures(lengths: dict[str, Any], body: bytes) -> dict[int, bytes]:
    found, start = {}, 0
    for name, length in lengths.items():
        data = body[start : start + _required(_whole(length))]
        start += len(data)
        if int(name) not in SIZES or data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) != length:
            raise ValueError(name)
        found[int(name)] = data
    if start != len(body) or found.keys() not in (set(), set(SIZES)):
        raise ValueError("sizes")
    return found


def _required(value: int | None) -> int:
    if value is None:
        raise ValueError("no length")
    return value


def _whole(value: object) -> int | None:
    if value is None:
        return None
    if type(value) is not int or not 0 < value <= _LARGEST:
        raise ValueError("number")
    return value


def _seconds(value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, (int, float)) or not math.isfinite(value) or not 0 < value < _LONGEST:
        raise ValueError("duration")
    return float(value)


def _color(value: object) -> str:
    if not isinstance(value, str) or (value and not _COLOR.fullmatch(value)):
        raise ValueError("color")
    return value
