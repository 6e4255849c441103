"""Read a Range header against the size of an object (RFC 9110 14.1 and 14.2).

Pure: no clock, no settings, no I/O. Whether Range applies at all (method, If-Range) is the plan's business.

Bounds against hostile range sets (RFC 9110 14.2 and 17.15 allow to ignore, coalesce or reject them):

- ranges that share a byte are coalesced (15.3.7.2), so that an answer never carries a byte twice and is never
  longer than the object plus the part headers, however the set is written;
- ranges that only touch stay apart: the client asked for them apart, and it costs a part header, not data;
- more than `MAX_RANGES` ranges, or more than `MAX_ELEMENTS` list elements counting empty ones, are ignored and the
  whole object is sent: correct for every client, one sequential read, and no work that grows with the set.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

MAX_RANGES: Final = 16
MAX_ELEMENTS: Final = 64
_ENDLESS: Final = 1 << 63  # stands for every number too long to be a size
_MAX_DIGITS: Final = 18  # 10**18 - 1 < _ENDLESS

# ASCII throughout: without it "s" under IGNORECASE also matches U+017F, and digits of other scripts match \d.
_SINGLE: Final = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})", re.ASCII | re.IGNORECASE)
_SET: Final = re.compile(r"bytes=(.*)", re.ASCII | re.IGNORECASE)
_SPEC: Final = re.compile(r"([0-9]*)-([0-9]*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A run of bytes that lies inside its object: `start` counts from 0, `length` is at least 1."""

    start: int
    length: int

    @property
    def stop(self) -> int:
        """The position behind the last byte."""
        return self.start + self.length

    def content_range(self, size: int) -> str:
        """Say this range in the words of Content-Range, where the last byte is inclusive (RFC 9110 14.4)."""
        return f"bytes {self.start}-{self.start + self.length - 1}/{size}"


def parse_range(field: str, size: int) -> tuple[ByteRange, ...] | None:
    """Return the ranges of `size` bytes that `field` asks for, in its order and without overlap.

    None: the field does not count and the whole object is the answer (another unit, bad syntax, a set above
    the bounds). An empty tuple: the field is valid and not one of its ranges can be satisfied (416).
    A suffix of an empty object can be satisfied (RFC 9110 14.1.2) yet no Content-Range can say so: None.
    """
    field = field.strip(" \t")
    single = _SINGLE.fullmatch(field)
    specs = [single] if single else _range_specs(field)
    if specs is None:
        return None
    ranges: list[ByteRange] = []
    for spec in specs:
        first, last = spec.groups()
        start, stop = _bounds(first, last, size)
        if stop is None:
            return None
        if 0 <= start < stop:
            ranges.append(ByteRange(start, stop - start))
    if not ranges and not size and any(_is_suffix(spec) for spec in specs):
        return None
    return tuple(ranges) if len(ranges) < 2 else _coalesce(ranges)


def _range_specs(field: str) -> list[re.Match[str]] | None:
    """Split a range set by the list rule, which allows empty elements (RFC 9110 5.6.1.2); None when malformed.

    Whitespace may surround the commas but nothing else: `bytes= 0-1` is outside the grammar, `bytes= ,0-1` is not.
    """
    found = _SET.fullmatch(field)
    if found is None or found[1].count(",") >= MAX_ELEMENTS:
        return None
    first, *others = found[1].split(",")
    elements = [first.rstrip(" \t") if first.strip(" \t") else "", *(other.strip(" \t") for other in others)]
    specs = [_SPEC.fullmatch(element) for element in elements if element]
    valid = [spec for spec in specs if spec]
    if len(valid) != len(specs) or not 0 < len(valid) <= MAX_RANGES:
        return None
    return valid


def _bounds(first: str, last: str, size: int) -> tuple[int, int | None]:
    """Return start and stop within `size`; an empty run when unsatisfiable, stop None when invalid (14.1.1)."""
    if not first:
        return (max(size - _number(last), 0), size) if last else (0, None)
    start = _number(first)
    if not last:
        return start, size
    end = _number(last)
    return start, None if end < start or (end == start and _is_less(last, first)) else min(end + 1, size)


def _number(digits: str) -> int:
    """Read ASCII digits; numbers longer than any size become one huge value (14.1.2: no conversion errors)."""
    if len(digits) > _MAX_DIGITS:
        digits = digits.lstrip("0") or "0"
    return int(digits) if len(digits) <= _MAX_DIGITS else _ENDLESS


def _is_less(left: str, right: str) -> bool:
    """Compare decimal numbers of any length without converting them; two huge ones look equal as int."""
    left, right = left.lstrip("0"), right.lstrip("0")
    return (len(left), left) < (len(right), right)


def _is_suffix(spec: re.Match[str]) -> bool:
    return not spec[1] and _number(spec[2]) > 0


def _coalesce(ranges: list[ByteRange]) -> tuple[ByteRange, ...]:
    """Unite ranges that share a byte; each union stands where its first member stood (RFC 9110 15.3.7.2)."""
    unions: list[tuple[int, ByteRange]] = []
    for position, current in sorted(enumerate(ranges), key=lambda item: item[1].start):
        if unions and current.start < unions[-1][1].stop:
            earlier, union = unions[-1]
            stop = max(union.stop, current.stop)
            unions[-1] = (min(earlier, position), ByteRange(union.start, stop - union.start))
        else:
            unions.append((position, current))
    return tuple(union for _, union in sorted(unions, key=lambda item: item[0]))
