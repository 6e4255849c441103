"""Why did this re-run: the parts of a node type's last two keys, and the first place where they differ. Pure.

Records go through the shared tier as frames, so that nobody else can plant one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import ormsgpack

from storagecache.node_cache import plain_types as plain
from storagecache.node_cache.generations import scope_key
from storagecache.node_cache.keys import PART_NAMES, NodeCacheKey

_SHOWN: Final = 60  # characters of a value
_SECRET: Final = re.compile(r"key|token|secret|password|credential|authorization", re.IGNORECASE)
_ABSENT: Final = "(absent)"
_TAG_NAMES: Final = {
    plain.TUPLE: "tuple",
    plain.SET: "set",
    plain.FROZENSET: "frozenset",
    plain.ENUM: "enum",
    plain.DATETIME: "datetime",
    plain.UUID: "uuid",
    plain.BIG_INT: "int",
    plain.DECIMAL: "decimal",
    plain.ASSET: "asset content",
    plain.BYTES_DIGEST: "bytes",
    plain.TEXT_DIGEST: "text",
    plain.RICH_DIGEST: "array",
}


@dataclass(frozen=True, slots=True)
class Seen:
    """A key that was asked for: when (seconds since 1970), by its digest, with its parts."""

    digest: str
    parts: bytes
    at: float


@dataclass(frozen=True, slots=True)
class Difference:
    """The first field in which two keys differ, and both its values, shortened."""

    path: str
    before: str
    after: str


def record_keys(key: NodeCacheKey) -> Iterator[str]:
    """Name the records that a key is noted in: for each way in which `explain` can be asked."""
    for user in (None, key.user):
        for workflow in (None, key.workflow):
            yield record_key(key.node_type, user=user, workflow=workflow)


def record_key(node_type: str, *, user: str | None, workflow: str | None) -> str:
    """Name one record."""
    return "r-" + scope_key(user, workflow, node_type).removeprefix("g-")


def merged(older: list[Seen], newer: list[Seen]) -> list[Seen]:
    """Give the last two different keys of two histories."""
    kept: list[Seen] = []
    for seen in [*older, *newer]:
        kept = [*(other for other in kept if other.digest != seen.digest), seen]
    return kept[-2:]


def plain_record(history: list[Seen]) -> list[Any]:
    """Give a history as plain data."""
    return [[seen.digest, seen.parts, seen.at] for seen in history]


def history_of(record: Any) -> list[Seen]:
    """Give the history of plain data; none for anything that is no record."""
    try:
        return [Seen(str(digest), bytes(parts), float(at)) for digest, parts, at in record]
    except (TypeError, ValueError):
        return []


def first_difference(before: bytes, after: bytes) -> Difference | None:
    """Find the first differing field of two keys' parts; None when they are the same or were too long to keep."""
    if not before or not after:
        return None
    return next(_differences(_opened(before), _opened(after), ()), None)


def _opened(parts: bytes) -> Any:
    return dict(zip(PART_NAMES, ormsgpack.unpackb(parts, ext_hook=_extension), strict=False))


def _extension(tag: int, payload: bytes) -> Any:
    try:
        inner = ormsgpack.unpackb(payload, ext_hook=_extension)
    except ValueError:
        inner = payload
    return _Tagged(_TAG_NAMES.get(tag, f"type {tag}"), inner)


@dataclass(frozen=True, slots=True)
class _Tagged:
    """A value of a type beyond JSON, as far as a key keeps it."""

    name: str
    inner: Any


def _differences(before: Any, after: Any, path: tuple[str, ...]) -> Iterator[Difference]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in _in_order(before, after):
            yield from _differences(before.get(name, _ABSENT), after.get(name, _ABSENT), (*path, str(name)))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (left, right) in enumerate(zip(before, after, strict=True)):
            yield from _differences(left, right, (*path, f"[{number}]"))
    elif isinstance(before, _Tagged) and isinstance(after, _Tagged) and _are_walked(before, after):
        yield from _differences(before.inner, after.inner, path)
    elif _packed(before) != _packed(after):
        yield Difference(_text_of(path), _shown(before, path), _shown(after, path))


def _in_order(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Keep the order of a key's own parts; sorted dicts stay sorted."""
    return [*before, *sorted(name for name in after if name not in before)]


def _are_walked(before: _Tagged, after: _Tagged) -> bool:
    return before.name == after.name == "tuple"


def _packed(value: Any) -> bytes:
    """Give bytes that differ for 1, 1.0 and True, too."""
    return ormsgpack.packb(value, None, ormsgpack.OPT_SORT_KEYS)


def _text_of(path: tuple[str, ...]) -> str:
    return ".".join(path).replace(".[", "[")


def _shown(value: Any, path: tuple[str, ...]) -> str:
    if value is _ABSENT:
        return _ABSENT
    if path[:1] != ("key_version",) and any(_SECRET.search(name) for name in path[1:]):
        return "(hidden)"
    text = f"{value.name} {_short(value.inner)}" if isinstance(value, _Tagged) else _short(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def _short(value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex()[:16]
    if isinstance(value, list):
        return f"[{', '.join(_short(item) for item in value[:4])}{', ...' if len(value) > 4 else ''}] of {len(value)}"
    if isinstance(value, dict):
        return f"{{{', '.join(list(value)[:4])}}} of {len(value)}"
    return repr(value)
