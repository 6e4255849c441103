"""The cursors of lists and searches: where a page ended, authenticated for the one list that it goes on.

A cursor is bound to its owner, order and filters, so that garbage and one of another list are told from ours. It
grants nothing: each page is narrowed to its owner anyway.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Final
from uuid import UUID

import msgspec
from django.conf import settings

MAX_CURSOR: Final = 4096  # characters
_SALT: Final = b"nodetool-storage cursors of lists 1"
_MAC: Final = 16  # bytes

_Size = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class CursorError(ValueError):
    """The cursor is not one of this list."""


class Cursor(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where a page ended: the last asset's id, and what it was sorted by before its id."""

    id: UUID
    name: str = ""
    size: _Size | None = None


def scope(*parts: object) -> bytes:
    """Write what a cursor is bound to: texts, numbers, None and lists of them."""
    return json.dumps(parts, separators=(",", ":")).encode()


def encode_cursor(cursor: Cursor, bound_to: bytes) -> str:
    """Write a cursor."""
    raw = msgspec.json.encode(cursor)
    return base64.urlsafe_b64encode(_mac(_keys()[0], bound_to, raw) + raw).decode().rstrip("=")


def decode_cursor(text: str, bound_to: bytes) -> Cursor:
    """Read a cursor that `encode_cursor` wrote for the same scope.

    Raises:
        CursorError
    """
    try:
        packed = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (UnicodeError, binascii.Error) as error:
        raise _foreign() from error
    mac, raw = packed[:_MAC], packed[_MAC:]
    if len(text) > MAX_CURSOR or not any(hmac.compare_digest(_mac(key, bound_to, raw), mac) for key in _keys()):
        raise _foreign()
    try:
        return msgspec.json.decode(raw, type=Cursor)
    except msgspec.DecodeError as error:  # written by an earlier version
        raise _foreign() from error


def _foreign() -> CursorError:
    return CursorError("cursor: not one that this list gave. Ask for the first page again.")


def _mac(key: bytes, bound_to: bytes, raw: bytes) -> bytes:
    return hmac.digest(key, len(bound_to).to_bytes(8) + bound_to + raw, "sha256")[:_MAC]


def _keys() -> Sequence[bytes]:
    return _derived(settings.SECRET_KEY, tuple(settings.SECRET_KEY_FALLBACKS))


@lru_cache(maxsize=8)
def _derived(secret_key: str, fallbacks: tuple[str, ...]) -> tuple[bytes, ...]:
    """Derive the keys, of which the first one signs, with a salt of their own."""
    return tuple(hmac.digest(text.encode(), _SALT, "sha256") for text in (secret_key, *fallbacks))
