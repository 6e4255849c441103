"""Decide how a browser may treat an object: safe content type, inline or attachment, CSP, file name.

Pure. An upload is a stranger's file under our origin: whatever is not on the short list of types that cannot
script is an attachment, and every answer carries nosniff and a policy (DESIGN.md 8.9).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import quote

OCTET_STREAM: Final = "application/octet-stream"
MAX_NAME: Final = 180  # characters; even as emoji, percent-encoded, a header line below nginx's 4 KiB buffer

_IMAGES: Final = ("png", "jpeg", "gif", "webp", "avif", "bmp")
_AUDIO: Final = ("mpeg", "mp4", "aac", "ogg", "opus", "wav", "x-wav", "vnd.wave", "webm", "flac", "x-flac", "x-m4a")
_VIDEO: Final = ("mp4", "webm", "ogg", "quicktime", "x-m4v")
_MEDIA_TYPES: Final = frozenset((*(f"audio/{kind}" for kind in _AUDIO), *(f"video/{kind}" for kind in _VIDEO)))
INLINE_TYPES: Final = frozenset(
    (*(f"image/{kind}" for kind in _IMAGES), "text/plain", "application/json", "application/pdf", *_MEDIA_TYPES)
)

# Every type is in a sandbox without scripts. Chromium's page around a film or a sound fetches the file a second time;
# from the opaque origin of a plain sandbox that is a cross-site CORS request without the session's SameSite cookie,
# and fails. So media keep their origin, which is no use to a page that cannot script. PDF needs nothing (tried on
# Chromium 156: at top level and in a frame).
_DIRECTIVES: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; media-src 'self'"
_POLICY: Final = f"sandbox; {_DIRECTIVES}"
_MEDIA_POLICY: Final = f"sandbox allow-same-origin; {_DIRECTIVES}"

_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_MEDIA_TYPE: Final = re.compile(
    rf'({_WORD}/{_WORD})((?:[ \t]*;[ \t]*{_WORD}=(?:{_WORD}|"[\x20\x21\x23-\x5b\x5d-\x7e]*"))*)', re.ASCII
)
# Controls, line and paragraph separators, bidi marks and overrides, BOM, lone surrogates, path separators.
_UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff/\\]")
_NOT_IN_FALLBACK: Final = re.compile(r'[^\x20-\x7e]|["%\\]')
_ATTR_CHARS: Final = "!#$&+-.^_`|~"  # RFC 8187 3.2.1, beside letters and digits


@dataclass(frozen=True, slots=True)
class Treatment:
    """What a content type means for an answer; `disposition` is `inline` or `attachment`."""

    content_type: str
    disposition: str
    policy: str


@lru_cache(maxsize=256)
def treatment(content_type: str) -> Treatment:
    """Return the treatment of a content type of the catalog; text that is no media type is octet-stream."""
    found = _MEDIA_TYPE.fullmatch(content_type) if len(content_type) <= 255 else None
    if found is None:
        return Treatment(OCTET_STREAM, "attachment", _POLICY)
    essence = found[1].lower()
    if essence == "text/plain" and "charset=" not in found[2].lower():
        content_type += "; charset=utf-8"
    disposition = "inline" if essence in INLINE_TYPES else "attachment"
    return Treatment(content_type, disposition, _MEDIA_POLICY if essence in _MEDIA_TYPES else _POLICY)


@lru_cache(maxsize=1024)
def content_disposition(disposition: str, name: str) -> str:
    """Write a Content-Disposition that saves under `name` (RFC 6266 4, RFC 8187 3.2).

    `filename` is plain ASCII without quotes, backslashes and percent signs, which browsers read in different
    ways (RFC 6266 D); `filename*` has the whole name when that lost something.
    """
    name = safe_name(name)
    fallback = _NOT_IN_FALLBACK.sub("_", name)
    header = f'{disposition}; filename="{fallback}"'
    return header if fallback == name else f"{header}; filename*=UTF-8''{quote(name, safe=_ATTR_CHARS)}"


def safe_name(name: str) -> str:
    """Return `name` as a file name: one segment, nothing invisible that lies about it, never empty or dots only."""
    name = _UNSAFE.sub("_", name)
    if len(name) > MAX_NAME:
        stem, dot, extension = name.rpartition(".")
        ending = dot + extension if dot and len(extension) <= 16 else ""
        name = (stem if ending else name)[: MAX_NAME - len(ending)] + ending
    return name if name.strip(" .") else "download"
