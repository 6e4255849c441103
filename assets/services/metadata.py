"""What JSON may hold: bounds on its depth and size, and one meaning for every text. Pure; nothing is read or written.

Whatever takes JSON from outside parses it here, so that the catalog and every client agree on what it says.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, Final, NoReturn

from storagecache.errors import StorageError

MAX_DEPTH: Final = 32  # arrays and objects inside each other, the outermost included
MAX_METADATA_BYTES: Final = 256 << 10  # of its JSON in UTF-8, without spaces
MAX_BODY_DEPTH: Final = MAX_DEPTH + 8  # a body that carries metadata
MAX_DIGITS: Final = 1000  # of one whole number

Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None

# Outside strings only brackets matter. An unfinished string runs to the end, so that no quote is looked at twice.
_TOKEN: Final = re.compile(r'"[^"\\]*+(?:\\.?[^"\\]*+)*+(?:"|\Z)|[\[{]|[\]}]', re.DOTALL)


class InvalidJsonError(StorageError, ValueError):
    """A text that is no JSON, or that two readers would read in two ways."""

    status = 400


class InvalidMetadataError(StorageError, ValueError):
    """Metadata that the catalog does not take; the text names the field."""

    status = 422


def parse_json(text: str | bytes, *, max_depth: int = MAX_BODY_DEPTH) -> Json:
    """Read JSON as RFC 8259 means it to be exchanged; the depth is looked at before anything is built.

    Refused beside what is no JSON: NaN and infinities, names given twice (4), halves of surrogate pairs (8.2), and
    numbers beyond what a double or `MAX_DIGITS` digits hold.

    Raises:
        InvalidJsonError
    """
    decoded = _decoded(text) if isinstance(text, bytes) else text
    if _depth(decoded) > max_depth:
        raise InvalidJsonError(f"The JSON nests deeper than {max_depth} levels.")
    try:
        value: Json = json.loads(
            decoded, object_pairs_hook=_object, parse_constant=_constant, parse_float=_float, parse_int=_int
        )
    except json.JSONDecodeError as error:
        raise InvalidJsonError(f"The JSON cannot be read: {error.msg} at character {error.pos}.") from error
    if "\\ud" in decoded or "\\uD" in decoded or not _is_text(decoded):
        _refuse_halves(value)
    return value


def check_metadata(value: object, *, field: str = "metadata") -> dict[str, Any]:
    """Give metadata back when the catalog takes it: an object of plain JSON, within depth and size.

    NUL is refused because PostgreSQL cannot store it, and what is no JSON because it would not come back as it was.

    Raises:
        InvalidMetadataError: naming `field`.
    """
    if not isinstance(value, dict):
        raise InvalidMetadataError(f"{field}: must be an object.")
    for part, depth in _walk(value):
        if depth > MAX_DEPTH:
            raise InvalidMetadataError(f"{field}: nests deeper than {MAX_DEPTH} levels.")
        _check_part(part, field)
    size = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
    if size > MAX_METADATA_BYTES:
        raise InvalidMetadataError(f"{field}: has {size} bytes as JSON; {MAX_METADATA_BYTES} are the most.")
    return value


def _walk(value: object) -> Iterator[tuple[object, int]]:
    """Give every value and every name inside, with its depth; never deeper than one level beyond the limit."""
    waiting = [(value, 1)]
    while waiting:
        part, depth = waiting.pop()
        yield part, depth if isinstance(part, dict | list | tuple) else 0
        if isinstance(part, dict):
            yield from ((name, 0) for name in part)
            waiting += [(child, depth + 1) for child in part.values()]
        elif isinstance(part, list | tuple):
            waiting += [(child, depth + 1) for child in part]


def _check_part(part: object, field: str) -> None:
    if isinstance(part, str):
        if "\0" in part or not _is_text(part):
            raise InvalidMetadataError(f"{field}: holds a NUL, or half of a surrogate pair.")
        return
    if isinstance(part, dict) and not all(isinstance(name, str) for name in part):
        raise InvalidMetadataError(f"{field}: holds a name that is no text.")
    if isinstance(part, float) and not math.isfinite(part):
        raise InvalidMetadataError(f"{field}: holds a number that JSON has not (NaN or infinity).")
    if isinstance(part, int) and abs(part) >= 10**MAX_DIGITS:
        raise InvalidMetadataError(f"{field}: holds a number of more than {MAX_DIGITS} digits.")
    if part is not None and not isinstance(part, dict | list | tuple | int | float):
        raise InvalidMetadataError(f"{field}: holds a {type(part).__name__}, which is no JSON.")


def _depth(text: str) -> int:
    depth = deepest = 0
    for found in _TOKEN.finditer(text):
        first = found[0][0]
        if first in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif first != '"':
            depth -= 1
    return deepest


def _decoded(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise InvalidJsonError("The JSON is not UTF-8.") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise InvalidJsonError("The JSON gives one name twice in an object.")
    return found


def _constant(text: str) -> NoReturn:
    raise InvalidJsonError(f"The JSON holds {text}, which is no number of JSON.")


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise InvalidJsonError("The JSON holds a number that is too large.")
    return number


def _int(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise InvalidJsonError(f"The JSON holds a number of more than {MAX_DIGITS} digits.")
    return int(text)


def _refuse_halves(value: object) -> None:
    for part, _ in _walk(value):
        if isinstance(part, str) and not _is_text(part):
            raise InvalidJsonError("The JSON holds half of a surrogate pair, which is no character.")


def _is_text(text: str) -> bool:
    """Tell whether a text has a UTF-8 form."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
