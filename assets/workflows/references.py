"""References: the small values that nodes hand on instead of bytes. Pure.

They are written and read as NodeTool's JSON: `type`, `uri`, `asset_id`, `data`. What they point to is found by
`assets.workflows.context`.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Final, TypeAlias

Data: TypeAlias = bytes | str | list[Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetRef:
    """A file of any kind: inline (`data`), an asset (`asset_id`) or an address (`uri`), looked at in this order."""

    type: ClassVar[str] = "asset"

    uri: str = ""
    asset_id: str | None = None
    data: Data = None

    def is_empty(self) -> bool:
        """Tell whether it points to nothing."""
        return not self.uri and not self.asset_id and self.data is None

    def is_set(self) -> bool:
        """Tell whether it points to something."""
        return not self.is_empty()

    def model_dump(self) -> dict[str, Any]:
        """Write NodeTool's JSON; inline bytes become base64, and of a text or a table the text that they are."""
        return {"type": self.type, "uri": self.uri, "asset_id": self.asset_id, "data": self._json_data()}

    def _json_data(self) -> str | list[Any] | None:
        return base64.b64encode(self.data).decode() if isinstance(self.data, bytes) else self.data


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRef(AssetRef):
    """An image file."""

    type: ClassVar[str] = "image"


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioRef(AssetRef):
    """An audio file."""

    type: ClassVar[str] = "audio"


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoRef(AssetRef):
    """A video file."""

    type: ClassVar[str] = "video"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRef(AssetRef):
    """A text file; inline data is the text itself, or its UTF-8 bytes."""

    type: ClassVar[str] = "text"

    def _json_data(self) -> str | list[Any] | None:
        return _text_or_numbers(self.data)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataframeRef(AssetRef):
    """A table: a file, or inline rows (`data`, lists of cells) under the names in `columns`."""

    type: ClassVar[str] = "dataframe"

    columns: tuple[str, ...] = ()

    def model_dump(self) -> dict[str, Any]:
        """Write NodeTool's JSON; columns appear where there are any."""
        dumped = AssetRef.model_dump(self)
        return {**dumped, "columns": [{"name": name} for name in self.columns]} if self.columns else dumped

    def has_rows(self) -> bool:
        """Tell whether its data is rows; else it is the bytes of a file, or nothing."""
        return isinstance(self.data, list) and not _is_numbers(self.data)

    def _json_data(self) -> str | list[Any] | None:
        return _text_or_numbers(self.data)


_TYPES: Final[dict[str, type[AssetRef]]] = {
    reference.type: reference for reference in (AssetRef, ImageRef, AudioRef, VideoRef, TextRef, DataframeRef)
}
_MARKS: Final = frozenset({"uri", "asset_id", "data"})
_ALLOWED: Final[dict[str, tuple[type, ...]]] = {
    "uri": (str,), "asset_id": (str,), "data": (bytes, str, list), "columns": (list, tuple),
}  # fmt: skip


def is_reference(value: object) -> bool:
    """Tell whether a dict is NodeTool's JSON of a reference; one whose fields are of other types is any other dict."""
    if not isinstance(value, dict) or str(value.get("type")) not in _TYPES or _MARKS.isdisjoint(value):
        return False
    return all(value.get(name) is None or isinstance(value[name], types) for name, types in _ALLOWED.items())


def reference_from(value: Mapping[str, Any]) -> AssetRef:
    """Read NodeTool's JSON of a reference; what it says beyond our fields is left aside.

    Raises:
        ValueError: it is none, or a field is of a wrong type.
    """
    kind = _TYPES.get(str(value.get("type")))
    if kind is None:
        raise ValueError(f"No reference has the type {value.get('type')!r}.")
    known = {field.name: value[field.name] for field in fields(kind) if value.get(field.name) is not None}
    for name, given in known.items():
        if not isinstance(given, _ALLOWED[name]):
            raise ValueError(f"The {name} of a reference cannot be of type {type(given).__name__}.")
    if "columns" in known:
        known["columns"] = tuple(_column_name(column) for column in known["columns"])
    return kind(**known)


def reference_type(content_type: str) -> type[AssetRef]:
    """Choose the kind of reference by the content type of what it points to."""
    major = content_type.partition("/")[0]
    return _TYPES[major] if major in {"image", "audio", "video", "text"} else AssetRef


def inline_bytes(reference: AssetRef) -> bytes | None:
    """Give the bytes that a reference carries itself; None when it carries none.

    Raises:
        ValueError: its data is no base64, or no list of bytes.
    """
    data = reference.data
    if data is None or isinstance(data, bytes):
        return data
    if isinstance(reference, DataframeRef) and reference.has_rows():
        return json.dumps(inline_records(reference)).encode()
    if isinstance(data, str):
        return data.encode() if isinstance(reference, TextRef | DataframeRef) else decode_base64(data)
    return bytes(data)  # a list of numbers, as NodeTool's JSON may write bytes


def inline_records(reference: DataframeRef) -> list[dict[str, Any]]:
    """Give the inline rows of a table as one dict each."""
    rows = reference.data if isinstance(reference.data, list) else []
    return [row if isinstance(row, dict) else dict(zip(reference.columns, row, strict=True)) for row in rows]


def map_references(value: Any, change: Callable[[AssetRef], AssetRef]) -> Any:
    """Rebuild nested dicts, lists and tuples with each reference changed; all else is the same object.

    A reference written as JSON stays JSON and keeps its other fields.

    Raises:
        ValueError: a container holds itself, or hundreds within each other.
    """
    try:
        return _mapped(value, change, ())
    except RecursionError as error:
        raise ValueError("A value that is nested this deep cannot be searched for references.") from error


def references_in(value: Any) -> list[AssetRef]:
    """List the references in nested dicts, lists and tuples."""
    found: list[AssetRef] = []

    def note(reference: AssetRef) -> AssetRef:
        found.append(reference)
        return reference

    map_references(value, note)
    return found


def _mapped(value: Any, change: Callable[[AssetRef], AssetRef], above: tuple[int, ...]) -> Any:
    if isinstance(value, AssetRef):
        return change(value)
    if not isinstance(value, dict | list | tuple):
        return value
    if id(value) in above:
        raise ValueError("A value that contains itself cannot be searched for references.")
    within = (*above, id(value))
    if isinstance(value, dict):
        if is_reference(value):
            return _mapped_json(value, change)
        return {key: _mapped(item, change, within) for key, item in value.items()}
    items = [_mapped(item, change, within) for item in value]
    if isinstance(value, list):
        return items
    return type(value)(*items) if hasattr(value, "_fields") else tuple(items)


def _mapped_json(value: dict[str, Any], change: Callable[[AssetRef], AssetRef]) -> dict[str, Any]:
    before = reference_from(value)
    after = change(before)
    return value if after is before else {**value, **after.model_dump()}


def _column_name(column: object) -> str:
    return str(column.get("name", "")) if isinstance(column, dict) else str(column)


def _text_or_numbers(data: Data) -> str | list[Any] | None:
    """Write bytes of a kind whose inline str is text; what is no UTF-8 as numbers, which are no rows of a table."""
    if not isinstance(data, bytes):
        return data
    try:
        return data.decode()
    except UnicodeDecodeError:
        return list(data)


def _is_numbers(data: list[Any]) -> bool:
    return bool(data) and all(type(item) is int for item in data)


def decode_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("The data of a reference is not base64.") from error
