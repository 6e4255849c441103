"""Decide what to answer to a GET or HEAD of one object: status, headers and which bytes (RFC 9110).

Pure, and knows no framework: the Django view and the layer below Django both ask here and only send what comes
back. `now` is an argument; who may read, 404 and the JSON of errors are the callers' business.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from assets.serving.conditions import (
    Conditions,
    check_write,
    format_http_date,
    is_strong_etag,
    judge_read,
    range_applies,
)
from assets.serving.disposition import OCTET_STREAM, Treatment, content_disposition, treatment
from assets.serving.ranges import ByteRange, parse_range

__all__ = [
    "STATUS_LINES",
    "Body",
    "Conditions",
    "Part",
    "Plan",
    "ResponseOverrides",
    "ServedObject",
    "check_write",
    "plan_get",
    "response_overrides",
]

Header = tuple[str, str]

STATUS_LINES: Final = {
    200: "200 OK",
    206: "206 Partial Content",
    304: "304 Not Modified",
    412: "412 Precondition Failed",
    416: "416 Range Not Satisfiable",
}
_ACCEPT_RANGES: Final = ("Accept-Ranges", "bytes")
_NOSNIFF: Final = ("X-Content-Type-Options", "nosniff")
_NO_STORE: Final = ("Cache-Control", "no-store")
_CRLF: Final = "\r\n"
_NOT_IN_BOUNDARY: Final = re.compile(r"[^0-9A-Za-z]")


class Body(Enum):
    """What follows the headers: nothing, one run of bytes, several as multipart, or the caller's JSON error."""

    NONE = "none"
    RUN = "run"
    MULTIPART = "multipart"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedObject:
    """What the catalog knows of an object: `etag` quoted and strong, `modified_at` whole seconds since 1970."""

    size: int
    etag: str
    content_type: str
    modified_at: int
    name: str

    def __post_init__(self) -> None:
        """Raise ValueError for a size or ETag that no answer could carry."""
        if self.size < 0 or not is_strong_etag(self.etag):
            raise ValueError(f"An object is served with its size and a quoted strong ETag, not {self.etag!r}.")


@dataclass(frozen=True, slots=True)
class Part:
    """A run of the object's bytes and what is sent before it (nothing, unless multipart)."""

    start: int
    length: int
    preamble: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A whole answer but for its bytes: send each part's preamble and bytes, then `closing`.

    Content-Length is among the headers except for 304 and errors, whose body the caller writes (`detail`, and
    for HEAD no body at all). A HEAD carries the Content-Length of its GET and no parts.
    """

    status: int
    headers: tuple[Header, ...]
    body: Body
    parts: tuple[Part, ...] = ()
    closing: bytes = b""
    detail: str = ""

    @property
    def status_line(self) -> str:
        """Code and phrase, as WSGI's start_response wants them."""
        return STATUS_LINES[self.status]


class ResponseOverrides(NamedTuple):
    """The response-content-type and response-content-disposition of a presigned URL."""

    content_type: str
    content_disposition: str


def plan_get(
    method: str,
    conditions: Conditions,
    served: ServedObject,
    *,
    now: int,
    cache_control: str,
    vary: str = "",
    download: bool = False,
) -> Plan:
    """Plan the answer to a GET or HEAD of `served`; never raises for what the request says.

    Preconditions come first, then If-Range, then Range (RFC 9110 13.2.2); HEAD has no ranges (14.2).
    `cache_control` and `vary` are sent as they are, except that an error is never stored.
    """
    verdict = judge_read(conditions, etag=served.etag, modified_at=served.modified_at, now=now)
    if verdict == 412:
        return _error(412, "A precondition of the request does not hold for the current object.", vary)
    kind = treatment(served.content_type)
    headers = _cache_headers(served, kind, cache_control, vary)
    if verdict == 304:
        return Plan(status=304, headers=tuple(headers), body=Body.NONE)
    headers += _content_headers(served, kind, now, download)
    if method != "GET":
        return _whole(headers, kind, served.size, Body.NONE)
    ranges = _wanted_ranges(conditions, served, now)
    if ranges is None:
        return _whole(headers, kind, served.size, Body.RUN)
    if not ranges:
        unsatisfied = ("Content-Range", f"bytes */{served.size}")
        return _error(416, f"No requested range lies within the {served.size} bytes.", vary, unsatisfied)
    return _single(headers, kind, served, ranges[0]) if len(ranges) == 1 else _multipart(headers, kind, served, ranges)


def response_overrides(served: ServedObject, *, download: bool = False) -> ResponseOverrides:
    """Return what a presigned URL must say of `served`, where no nosniff and no policy can be sent (DESIGN.md 8.21).

    Types off the inline list lose their name there: an attachment of octet-stream.
    """
    kind = treatment(served.content_type)
    content_type = kind.content_type if kind.disposition == "inline" else OCTET_STREAM
    return ResponseOverrides(content_type, _disposition(served, kind, download))


def _cache_headers(served: ServedObject, kind: Treatment, cache_control: str, vary: str) -> list[Header]:
    """What a 304 carries (RFC 9110 15.4.5): no Last-Modified beside an ETag, no description of a body.

    The policy goes along because a cache takes over the headers of a 304: one that some middleware adds to
    answers without a policy would replace ours.
    """
    headers = [
        ("ETag", served.etag),
        ("Cache-Control", cache_control),
        _ACCEPT_RANGES,
        _NOSNIFF,
        ("Content-Security-Policy", kind.policy),
    ]
    if vary:
        headers.append(("Vary", vary))
    return headers


def _content_headers(served: ServedObject, kind: Treatment, now: int, download: bool) -> tuple[Header, ...]:
    """What 200 and 206 add; a Last-Modified is never later than Date (RFC 9110 8.8.2.1).

    A 206 to an If-Range has them too, though 15.3.7 would spare them: without a Content-Type browsers guess.
    """
    return (
        ("Last-Modified", format_http_date(min(served.modified_at, now))),
        ("Content-Disposition", _disposition(served, kind, download)),
    )


def _disposition(served: ServedObject, kind: Treatment, download: bool) -> str:
    return content_disposition("attachment" if download else kind.disposition, served.name)


def _wanted_ranges(conditions: Conditions, served: ServedObject, now: int) -> tuple[ByteRange, ...] | None:
    if conditions.range is None:
        return None
    if not range_applies(conditions.if_range, etag=served.etag, modified_at=served.modified_at, now=now):
        return None
    return parse_range(conditions.range, served.size)


def _error(status: int, detail: str, vary: str, *others: Header) -> Plan:
    """An answer without the object's own headers: its Cache-Control would keep the error."""
    headers = (_ACCEPT_RANGES, _NOSNIFF, _NO_STORE, *others)
    return Plan(status=status, headers=(*headers, ("Vary", vary)) if vary else headers, body=Body.ERROR, detail=detail)


def _whole(headers: list[Header], kind: Treatment, size: int, body: Body) -> Plan:
    headers += (("Content-Type", kind.content_type), ("Content-Length", str(size)))
    return Plan(status=200, headers=tuple(headers), body=body, parts=(Part(0, size),) if body is Body.RUN else ())


def _single(headers: list[Header], kind: Treatment, served: ServedObject, wanted: ByteRange) -> Plan:
    """One part as it is; a multipart answer to a single range is forbidden (RFC 9110 15.3.7.1)."""
    headers += (
        ("Content-Type", kind.content_type),
        ("Content-Range", wanted.content_range(served.size)),
        ("Content-Length", str(wanted.length)),
    )
    return Plan(status=206, headers=tuple(headers), body=Body.RUN, parts=(Part(wanted.start, wanted.length),))


def _multipart(headers: list[Header], kind: Treatment, served: ServedObject, ranges: tuple[ByteRange, ...]) -> Plan:
    """Several parts (RFC 9110 14.6, 15.3.7.2): Content-Range stands in each part, never in the header section."""
    boundary = _boundary(served.etag)
    parts = tuple(_part(boundary, index, kind, wanted, served.size) for index, wanted in enumerate(ranges))
    closing = f"\r\n--{boundary}--\r\n".encode("ascii")
    length = sum(len(part.preamble) + part.length for part in parts) + len(closing)
    headers += (
        ("Content-Type", f"multipart/byteranges; boundary={boundary}"),
        ("Content-Length", str(length)),
    )
    return Plan(status=206, headers=tuple(headers), body=Body.MULTIPART, parts=parts, closing=closing)


def _part(boundary: str, index: int, kind: Treatment, wanted: ByteRange, size: int) -> Part:
    text = (
        f"{'' if index == 0 else _CRLF}--{boundary}\r\n"
        f"Content-Type: {kind.content_type}\r\nContent-Range: {wanted.content_range(size)}\r\n\r\n"
    )
    return Part(wanted.start, wanted.length, text.encode("ascii"))


def _boundary(etag: str) -> str:
    """Derive a boundary of at most 70 characters (RFC 2046 5.1.1).

    With the SHA-256 of the object in it no part can contain it: that would be content that holds its own hash.
    """
    return ("range-" + _NOT_IN_BOUNDARY.sub("", etag))[:70]
