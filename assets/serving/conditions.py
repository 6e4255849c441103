"""Judge conditional requests: entity tags, HTTP dates, and the order of preconditions (RFC 9110 5.6.7, 8.8, 13).

Pure: `now` and all dates are whole seconds since 1970. No header here ever raises because of what it holds.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from storagecache.errors import PreconditionFailedError

_WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)

_CLOCK: Final = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_DAY: Final = "(?:" + "|".join(_WEEKDAYS) + ")"
_MONTH: Final = "(?P<month>" + "|".join(_MONTHS) + ")"
_LONG_DAY: Final = "(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)"
_DATE_FORMATS: Final = tuple(
    re.compile(pattern, re.ASCII)
    for pattern in (
        rf"{_DAY}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_CLOCK} GMT",  # IMF-fixdate
        rf"{_LONG_DAY}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_CLOCK} GMT",  # RFC 850
        rf"{_DAY} {_MONTH} (?P<day>[0-9]{{2}}| [0-9]) {_CLOCK} (?P<year>[0-9]{{4}})",  # asctime
    )
)
# RFC 9110 8.8.3; the list rule allows empty elements (5.6.1.2). Possessive, so that no input backtracks.
_TAG: Final = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*+"'
_TAGS: Final = re.compile(_TAG)
_TAG_LIST: Final = re.compile(rf"[ \t,]*+{_TAG}[ \t]*+(?:,[ \t,]*+(?:{_TAG}[ \t]*+)?+)*+")
_STRONG_TAG: Final = re.compile(r'"[\x21\x23-\x7e\x80-\xff]*+"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """The request headers that decide about a representation, as they came; None = not sent."""

    if_match: str | None = None
    if_unmodified_since: str | None = None
    if_none_match: str | None = None
    if_modified_since: str | None = None
    if_range: str | None = None
    range: str | None = None

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Conditions:
        """Pick the headers out of a WSGI environ (`request.META` is one); UNCONDITIONAL where there is none."""
        if environ.keys().isdisjoint(_VARIABLES):
            return UNCONDITIONAL
        get = environ.get
        return cls(
            if_match=get("HTTP_IF_MATCH"),
            if_unmodified_since=get("HTTP_IF_UNMODIFIED_SINCE"),
            if_none_match=get("HTTP_IF_NONE_MATCH"),
            if_modified_since=get("HTTP_IF_MODIFIED_SINCE"),
            if_range=get("HTTP_IF_RANGE"),
            range=get("HTTP_RANGE"),
        )


UNCONDITIONAL: Final = Conditions()
_VARIABLES: Final = frozenset(
    f"HTTP_{name}"
    for name in ("IF_MATCH", "IF_UNMODIFIED_SINCE", "IF_NONE_MATCH", "IF_MODIFIED_SINCE", "IF_RANGE", "RANGE")
)


def judge_read(conditions: Conditions, *, etag: str, modified_at: int, now: int) -> int:
    """Return 412, 304, or 200 for "go on", in the order of RFC 9110 13.2.2, for GET and HEAD.

    A malformed If-Match lists no tag, so it matches nothing (412); a malformed If-None-Match likewise (go on).
    """
    if conditions.if_match is not None:
        if not matches_strongly(conditions.if_match, etag):
            return 412
    elif _is_modified_after(conditions.if_unmodified_since, modified_at, now) is True:
        return 412
    if conditions.if_none_match is not None:
        return 304 if matches_weakly(conditions.if_none_match, etag) else 200
    return 304 if _is_modified_after(conditions.if_modified_since, modified_at, now) is False else 200


def range_applies(if_range: str | None, *, etag: str, modified_at: int, now: int) -> bool:
    """Tell whether Range counts: no If-Range, or one that proves the client holds these bytes (RFC 9110 13.1.5).

    A tag must be the strong tag itself. A date must be exactly Last-Modified, and that at least a second old,
    else it may stand for two versions of the same second (8.8.2.2).
    """
    if if_range is None:
        return True
    field = if_range.strip(" \t")
    if field == etag:
        return True
    return now - modified_at >= 1 and parse_http_date(field, now=now) == modified_at


def check_write(
    method: str, conditions: Conditions, *, etag: str | None, modified_at: int | None = None, now: int = 0
) -> None:
    """Let a PUT or DELETE of the object with `etag` (None: there is none) go on, or refuse it.

    Nothing is let through on a guess: an If-Match or If-None-Match that is malformed or empty is refused too.
    An If-Unmodified-Since that is no HTTP date must be ignored (RFC 9110 13.1.4), as must all preconditions of a
    DELETE that would answer 404 without them (13.2.1). If-Modified-Since and If-Range mean nothing here (13.1.3).

    Raises:
        PreconditionFailedError: a precondition does not hold, or cannot be read.
    """
    if method == "DELETE" and etag is None:
        return
    if conditions.if_match is not None:
        if etag is None or not matches_strongly(conditions.if_match, etag):
            raise PreconditionFailedError("If-Match does not name the current ETag: read the object again, then retry.")
    elif modified_at is not None and _is_modified_after(conditions.if_unmodified_since, modified_at, now) is True:
        raise PreconditionFailedError("The object changed after If-Unmodified-Since: read it again, then retry.")
    if conditions.if_none_match is not None:
        _check_none_match(conditions.if_none_match, etag)


def matches_strongly(field: str, etag: str) -> bool:
    """Tell whether an If-Match field holds for the current strong `etag` (RFC 9110 13.1.1, 8.8.3.2)."""
    field = field.strip(" \t")
    return field in ("*", etag) or etag in (parse_etags(field) or ())


def matches_weakly(field: str, etag: str) -> bool:
    """Tell whether an If-None-Match field names the current `etag`, weak or strong (RFC 9110 13.1.2, 8.8.3.2)."""
    field = field.strip(" \t")
    return field in ("*", etag) or etag in (tag.removeprefix("W/") for tag in parse_etags(field) or ())


def parse_etags(field: str) -> list[str] | None:
    """Return the tags of a list as they are written, weak ones with `W/`; None when it is malformed or empty."""
    return _TAGS.findall(field) if _TAG_LIST.fullmatch(field) else None


def is_strong_etag(text: str) -> bool:
    """Tell whether `text` is a quoted strong entity tag, fit for a header (RFC 9110 8.8.3)."""
    return _STRONG_TAG.fullmatch(text) is not None


def parse_http_date(field: str, *, now: int) -> int | None:
    """Return the seconds of an HTTP date in any of its three formats (RFC 9110 5.6.7); None for all else.

    `now` gives a two-digit year its century: never more than 50 years ahead.
    """
    for pattern in _DATE_FORMATS:
        found = pattern.fullmatch(field.strip(" \t"))
        if found is not None:
            return _seconds(found, now)
    return None


@lru_cache(maxsize=1024)
def format_http_date(seconds: int) -> str:
    """Write seconds since 1970 as IMF-fixdate, in English whatever the locale (RFC 9110 5.6.7)."""
    year, month, day, hour, minute, second, weekday, _, _ = time.gmtime(seconds)
    return f"{_WEEKDAYS[weekday]}, {day:02} {_MONTHS[month - 1]} {year:04} {hour:02}:{minute:02}:{second:02} GMT"


def _check_none_match(field: str, etag: str | None) -> None:
    if field.strip(" \t") != "*" and parse_etags(field.strip(" \t")) is None:
        raise PreconditionFailedError('If-None-Match is not readable: send * or quoted tags, as in "abc", "def".')
    if etag is not None and matches_weakly(field, etag):
        raise PreconditionFailedError("If-None-Match forbids this: the object is already there.")


def _is_modified_after(field: str | None, modified_at: int, now: int) -> bool | None:
    """Compare with a date field; None when it was not sent or is no HTTP date, and so must be ignored."""
    if field is None:
        return None
    date = parse_http_date(field, now=now)
    return None if date is None else modified_at > date


def _seconds(found: re.Match[str], now: int) -> int | None:
    year = int(found["year"])
    if len(found["year"]) == 2:
        year = _full_year(year, time.gmtime(now).tm_year)
    second = "59" if found["second"] == "60" else found["second"]  # a leap second is legal, datetime knows none
    clock = int(found["hour"]), int(found["minute"]), int(second)
    try:
        moment = datetime(year, _MONTHS.index(found["month"]) + 1, int(found["day"]), *clock, tzinfo=UTC)
    except ValueError:  # 31 February, hour 25, year 0
        return None
    return (moment - _EPOCH) // _SECOND


def _full_year(two_digits: int, current: int) -> int:
    year = current - current % 100 + two_digits
    return year - 100 if year > current + 50 else year
