"""Grammar of the keys that clients choose, and the names of the objects that we choose. Pure.

A client's key is text in the catalog and never becomes a path on disk or in S3; an object key
is made here, from an id and an extension out of a closed table.
"""

from __future__ import annotations

import re
from typing import Final
from uuid import UUID

from storagecache.errors import InvalidKeyError

MAX_KEY_BYTES: Final = 1024  # of UTF-8, as S3's

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_EXTENSION: Final = re.compile(r"\A[a-z0-9]{1,8}\Z")
_OBJECT_KEY: Final = re.compile(r"(?:\A|/)[0-9a-f]{2}/[0-9a-f]{32}(?:\.[a-z0-9]{1,8})?\Z")
_SEGMENT: Final = r"[a-z0-9_-][a-z0-9._-]{0,127}"
_STORAGE_NAME: Final = re.compile(rf"\A{_SEGMENT}(?:/{_SEGMENT}){{0,7}}\Z")


def validate_key(key: str) -> str:
    """Return a client's key unchanged, or refuse it.

    Keys are byte-exact: no normalisation, no case folding; `/` is allowed inside.

    Raises:
        InvalidKeyError: empty, over 1024 bytes of UTF-8, not encodable, a control character,
            or a segment that is empty, `.` or `..` (a leading or trailing `/` makes one).
    """
    try:
        size = len(key.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise InvalidKeyError("The key is not valid UTF-8.") from error
    if not key:
        raise InvalidKeyError("The key is empty.")
    if size > MAX_KEY_BYTES:
        raise InvalidKeyError(f"The key has {size} bytes; at most {MAX_KEY_BYTES} are allowed.")
    if _CONTROL.search(key):
        raise InvalidKeyError("The key holds a control character.")
    if not {"", ".", ".."}.isdisjoint(key.split("/")):
        raise InvalidKeyError("The key holds an empty, '.' or '..' segment.")
    return key


def decode_key(raw: bytes) -> str:
    """Decode the percent-decoded bytes of a URL path into a valid key.

    Raises:
        InvalidKeyError: invalid UTF-8, or what `validate_key` refuses.
    """
    try:
        return validate_key(raw.decode("utf-8", errors="strict"))
    except UnicodeDecodeError as error:
        raise InvalidKeyError("The key is not valid UTF-8.") from error


def new_object_key(object_id: UUID, extension: str = "", *, prefix: str = "") -> str:
    """Name the object `object_id`: `<prefix><last two hex digits>/<id>[.<extension>]`.

    The last digits of a uuid7 are random, so 256 folders fill evenly.

    Raises:
        ValueError: the extension is not 1 to 8 ASCII letters or digits (it comes from a closed table).
    """
    name = object_id.hex
    if extension and not _EXTENSION.match(extension):
        raise ValueError(f"not an extension of ours: {extension!r}")
    return f"{prefix}{name[-2:]}/{name}{'.' + extension if extension else ''}"


def is_object_key(name: str) -> bool:
    """Tell whether `new_object_key` may have made this name, under whatever prefix."""
    return bool(_OBJECT_KEY.search(name))


def validate_storage_name(name: str) -> str:
    """Return a storage name unchanged if it is one that this house makes: lower-case ASCII segments, none hidden.

    Storages call this before they touch a disk or a bucket: the last line against traversal.

    Raises:
        InvalidKeyError: anything else.
    """
    if not _STORAGE_NAME.match(name):
        raise InvalidKeyError("Not an object key of this service.")
    return name
