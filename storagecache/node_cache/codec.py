"""Values as a tree plus raw buffers, and back: no pickle, nothing of the caller's memory kept or handed out. Pure.

The tree is MessagePack with the extensions of `plain_types`; long bytes and texts, arrays, images and tables are
buffers outside of it. The envelope around both is in `frames`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any, Final

import ormsgpack

from storagecache.node_cache import plain_types as plain
from storagecache.node_cache import rich_types
from storagecache.node_cache.canonical import asset_id_of
from storagecache.node_cache.errors import FrameError, NotCacheableError

RAW, BYTES, TEXT = 0, 1, 2  # what a buffer is when read: a view, an immutable bytes, an immutable text
LONG: Final = 1024  # texts (characters) and bytes from here on are buffers of their own

_UNCHANGED: Final = frozenset({type(None), bool, float})
_NUMBER: Final = struct.Struct(">I")
_DAMAGE: Final = (
    ArithmeticError,
    AttributeError,
    ImportError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)


@dataclass(frozen=True, slots=True)
class Buffer:
    """Some of a value's bytes. `shared` is the immutable object that readers get, for BYTES and TEXT."""

    kind: int
    data: bytes | memoryview
    shared: bytes | str | None = None


@dataclass(frozen=True, slots=True)
class Encoded:
    """A value that nobody can change any more, and the ids of the assets it names."""

    tree: bytes
    buffers: tuple[Buffer, ...] = ()
    assets: tuple[str, ...] = ()
    arrays: dict[bytes, Any] = field(default_factory=dict, compare=False, repr=False)  # read-only, as first decoded


def encode_value(value: Any) -> Encoded:
    """Take a snapshot of a value: later changes of it are not seen.

    Raises:
        NotCacheableError: a type that is not listed, or nesting beyond the encoder's limit.
    """
    encoder = _Encoder()
    try:
        tree = encoder.pack(value)
    except NotCacheableError:
        raise
    except (TypeError, ValueError, RecursionError) as error:
        raise NotCacheableError(f"Cannot be encoded: {error}.") from error
    return Encoded(tree, tuple(encoder.buffers), tuple(sorted(encoder.assets)))


def decode_value(encoded: Encoded, *, writable: bool = False) -> Any:
    """Make a value of its snapshot, of its own but for immutable parts; arrays are read-only views unless `writable`.

    Raises:
        FrameError: not what `encode_value` makes, or a library that it needs is not installed here.
    """
    try:
        return _Decoder(encoded, writable=writable).unpack(encoded.tree)
    except FrameError:
        raise
    except _DAMAGE as error:
        raise FrameError(f"A frame's tree cannot be read: {type(error).__name__}.") from error


class _Encoder:
    """One walk over a value, gathering its buffers and assets."""

    __slots__ = ("assets", "buffers")

    def __init__(self) -> None:
        self.buffers: list[Buffer] = []
        self.assets: set[str] = set()

    def pack(self, value: Any) -> bytes:
        return ormsgpack.packb(self._plain(value), None, plain.PACK_OPTIONS & ~ormsgpack.OPT_SORT_KEYS)

    def _plain(self, value: Any) -> Any:
        """Rebuild a value of what MessagePack holds; a list or dict is always a new one."""
        kind = type(value)
        if kind in _UNCHANGED:
            return value
        if kind is str:
            return self._text(value)
        if kind is dict:
            return self._dict(value)
        if kind is list:
            return [item if type(item) in _UNCHANGED else self._plain(item) for item in value]
        if kind is int and -(2**63) <= value < 2**64:
            return value
        if kind is bytes:
            return value if len(value) < LONG else self._buffer(BYTES, value, value)
        return plain.pack_plain(value, self.pack) or self._rich(value)

    def _text(self, value: str) -> Any:
        if value.startswith("asset://"):
            self.assets.add(asset_id_of(value))
        if len(value) < LONG:
            return value if value.isascii() or _is_utf8(value) else plain.pack_surrogates(value)
        if not _is_utf8(value):
            return plain.pack_surrogates(value)
        return self._buffer(TEXT, value.encode("utf-8"), value)

    def _dict(self, value: dict[Any, Any]) -> Any:
        asset_id = value.get("asset_id")
        if type(asset_id) is str and asset_id:
            self.assets.add(asset_id)
        if all(type(key) is str and (key.isascii() or _is_utf8(key)) for key in value):
            return {key: item if type(item) in _UNCHANGED else self._plain(item) for key, item in value.items()}
        return plain.pack_map(value, self.pack)

    def _rich(self, value: Any) -> ormsgpack.Ext:
        parts = rich_types.take_apart(value)
        if parts is None:
            name = f"{type(value).__module__}.{type(value).__qualname__}"
            raise NotCacheableError(f"A value of type {name} has no encoding.")
        first = len(self.buffers)
        self.buffers.extend(Buffer(RAW, data) for data in parts.buffers)
        return ormsgpack.Ext(plain.RICH, self.pack([parts.name, parts.description, first, len(parts.buffers)]))

    def _buffer(self, kind: int, data: bytes, shared: bytes | str) -> ormsgpack.Ext:
        self.buffers.append(Buffer(kind, data, shared))
        return ormsgpack.Ext(plain.BUFFER, _NUMBER.pack(len(self.buffers) - 1))


def _is_utf8(value: str) -> bool:
    """Tell whether a text is free of lone surrogates."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


class _Decoder:
    """One reading of a tree over its buffers."""

    __slots__ = ("_arrays", "_buffers", "_writable")

    def __init__(self, encoded: Encoded, *, writable: bool) -> None:
        self._arrays = encoded.arrays
        self._buffers = encoded.buffers
        self._writable = writable

    def unpack(self, packed: bytes) -> Any:
        return ormsgpack.unpackb(packed, ext_hook=self._extension)

    def _extension(self, tag: int, payload: bytes) -> Any:
        if tag == plain.BUFFER:
            return self._shared(*_NUMBER.unpack(payload))
        if tag == plain.RICH:
            array = self._arrays.get(payload)
            return self._rich(payload) if array is None else array.copy("K") if self._writable else array.view()
        return plain.unpack_plain(tag, payload, self.unpack)

    def _rich(self, payload: bytes) -> Any:
        """Make an array, image or table; an array is remembered, and each reader gets a view of its own."""
        name, description, first, count = self.unpack(payload)
        views = [memoryview(self._raw(number)) for number in range(first, first + count)]
        value = rich_types.put_together(name, description, views, writable=self._writable)
        if name != "ndarray" or self._writable:
            return value
        self._arrays[payload] = value
        return value.view()

    def _shared(self, number: int) -> bytes | str:
        shared = self._buffers[number].shared
        if shared is None:
            raise FrameError("A raw buffer is named as text or bytes.")
        return shared

    def _raw(self, number: int) -> bytes | memoryview:
        buffer = self._buffers[number]
        if number < 0 or buffer.kind != RAW:
            raise FrameError("A text buffer is named as raw.")
        return buffer.data
