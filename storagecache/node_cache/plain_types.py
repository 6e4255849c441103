"""The exact Python types beyond JSON that keys and frames carry, as MessagePack extensions. Closed, pure.

Only these types themselves: of a subclass nobody can know what it adds, so it is not cacheable.
"""

from __future__ import annotations

import datetime as dt
import struct
import threading
import uuid
import zoneinfo
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

import ormsgpack

from storagecache.node_cache.errors import NotCacheableError

Packer = Callable[[Any], bytes]
Unpacker = Callable[[bytes], Any]

TUPLE, SET, FROZENSET, MAP, BIG_INT, SURROGATES, COMPLEX = 1, 2, 3, 4, 5, 6, 7
DATETIME, DATE, TIME, TIMEDELTA, UUID, DECIMAL, BYTEARRAY = 11, 12, 13, 14, 15, 16, 17
BUFFER, RICH = 30, 31  # of frames: a buffer by number; an array, image or table
ASSET, BYTES_DIGEST, TEXT_DIGEST, RICH_DIGEST, ENUM = 40, 41, 42, 43, 44  # of keys

PACK_OPTIONS: Final = (
    ormsgpack.OPT_SORT_KEYS
    | ormsgpack.OPT_PASSTHROUGH_TUPLE
    | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_UUID
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_BIG_INT
)
MAX_NESTING: Final = 100  # of extensions within extensions; each level takes some of a thread's C stack

_COMPLEX: Final = struct.Struct(">dd")
_MICROSECOND: Final = dt.timedelta(microseconds=1)


class _Nesting(threading.local):
    """How deep a thread is in extensions; lists and dicts between them are the encoder's own to count."""

    depth = 0

    def __enter__(self) -> None:
        self.depth += 1
        if self.depth > MAX_NESTING:
            self.depth -= 1
            raise NotCacheableError("Tuples, sets or the like are nested too deeply.")

    def __exit__(self, *_error: object) -> None:
        self.depth -= 1


_nesting: Final = _Nesting()


def pack_plain(value: Any, pack: Packer) -> ormsgpack.Ext | None:
    """Encode a value of one of these types, its items by `pack`; None for any other type.

    Raises:
        NotCacheableError: a time zone that is neither a fixed offset nor of the IANA database, or too deep nesting.
    """
    encoder = _ENCODERS.get(type(value))
    if encoder is None:
        return None
    with _nesting:
        return ormsgpack.Ext(encoder[0], encoder[1](value, pack))


def unpack_plain(tag: int, payload: bytes, unpack: Unpacker) -> Any:
    """Decode what `pack_plain`, `pack_map` or `pack_surrogates` made.

    Raises:
        ValueError, KeyError, TypeError, ArithmeticError, struct.error: they cannot have made it.
    """
    return _DECODERS[tag](payload, unpack)


def pack_map(value: dict[Any, Any], pack: Packer) -> ormsgpack.Ext:
    """Encode a dict whose keys are not all text, in its own order."""
    with _nesting:
        return ormsgpack.Ext(MAP, pack([part for item in value.items() for part in item]))


def pack_surrogates(value: str) -> ormsgpack.Ext:
    """Encode a text with lone surrogates, which UTF-8 has no place for."""
    return ormsgpack.Ext(SURROGATES, value.encode("utf-8", "surrogatepass"))


def _pack_set(value: Any, pack: Packer) -> bytes:
    """Pack each item once, then put them in order: equal sets, equal bytes.

    To pack an item as its sort key and once more would double the work with each set within a set.
    """
    items = sorted(map(pack, value))
    return _array_head(len(items)) + b"".join(items)


def _array_head(count: int) -> bytes:
    """Begin a MessagePack array whose items are packed already."""
    if count < 16:
        return bytes([0x90 | count])
    return struct.pack(">BH", 0xDC, count) if count < 65_536 else struct.pack(">BI", 0xDD, count)


def _pack_int(value: int, _pack: Packer) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


def _pack_datetime(value: dt.datetime, pack: Packer) -> bytes:
    parts = [value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond]
    return pack([*parts, value.fold, _zone(value.tzinfo)])


def _pack_time(value: dt.time, pack: Packer) -> bytes:
    return pack([value.hour, value.minute, value.second, value.microsecond, value.fold, _zone(value.tzinfo)])


def _zone(tzinfo: dt.tzinfo | None) -> list[Any] | None:
    if tzinfo is None:
        return None
    if type(tzinfo) is zoneinfo.ZoneInfo and tzinfo.key:
        return [tzinfo.key]
    if type(tzinfo) is not dt.timezone:
        raise NotCacheableError(f"A time zone of type {type(tzinfo).__name__} cannot be encoded.")
    offset, name = tzinfo.utcoffset(None), tzinfo.tzname(None)
    return [offset // _MICROSECOND, None if name == dt.timezone(offset).tzname(None) else name]


def _unzone(parts: list[Any] | None) -> dt.tzinfo | None:
    if parts is None:
        return None
    if len(parts) == 1:
        return zoneinfo.ZoneInfo(parts[0])
    offset, name = dt.timedelta(microseconds=parts[0]), parts[1]
    return dt.timezone(offset) if name is None else dt.timezone(offset, name)


def _unpack_map(payload: bytes, unpack: Unpacker) -> dict[Any, Any]:
    parts = unpack(payload)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def _unpack_datetime(payload: bytes, unpack: Unpacker) -> dt.datetime:
    year, month, day, hour, minute, second, microsecond, fold, zone = unpack(payload)
    return dt.datetime(year, month, day, hour, minute, second, microsecond, _unzone(zone), fold=fold)


def _unpack_time(payload: bytes, unpack: Unpacker) -> dt.time:
    hour, minute, second, microsecond, fold, zone = unpack(payload)
    return dt.time(hour, minute, second, microsecond, _unzone(zone), fold=fold)


_ENCODERS: Final[dict[type, tuple[int, Callable[[Any, Packer], bytes]]]] = {
    tuple: (TUPLE, lambda value, pack: pack(list(value))),
    set: (SET, _pack_set),
    frozenset: (FROZENSET, _pack_set),
    int: (BIG_INT, _pack_int),
    complex: (COMPLEX, lambda value, _: _COMPLEX.pack(value.real, value.imag)),
    dt.datetime: (DATETIME, _pack_datetime),
    dt.date: (DATE, lambda value, pack: pack([value.year, value.month, value.day])),
    dt.time: (TIME, _pack_time),
    dt.timedelta: (TIMEDELTA, lambda value, pack: pack([value.days, value.seconds, value.microseconds])),
    uuid.UUID: (UUID, lambda value, _: value.bytes),
    Decimal: (DECIMAL, lambda value, _: str(value).encode("ascii")),
    bytearray: (BYTEARRAY, lambda value, _: bytes(value)),
}
_DECODERS: Final[dict[int, Callable[[bytes, Unpacker], Any]]] = {
    TUPLE: lambda payload, unpack: tuple(unpack(payload)),
    SET: lambda payload, unpack: set(unpack(payload)),
    FROZENSET: lambda payload, unpack: frozenset(unpack(payload)),
    MAP: _unpack_map,
    BIG_INT: lambda payload, _: int.from_bytes(payload, "big", signed=True),
    SURROGATES: lambda payload, _: payload.decode("utf-8", "surrogatepass"),
    COMPLEX: lambda payload, _: complex(*_COMPLEX.unpack(payload)),
    DATETIME: _unpack_datetime,
    DATE: lambda payload, unpack: dt.date(*unpack(payload)),
    TIME: _unpack_time,
    TIMEDELTA: lambda payload, unpack: dt.timedelta(*unpack(payload)),
    UUID: lambda payload, _: uuid.UUID(bytes=payload),
    DECIMAL: lambda payload, _: Decimal(payload.decode("ascii")),
    BYTEARRAY: lambda payload, _: bytearray(payload),
}
