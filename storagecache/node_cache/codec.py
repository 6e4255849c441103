"""Values as a tree plus raw buffers, and back: no pickle, nothing of the caller's memory kept or handed out. Pure.

The tree is MessagePack with the extensions of `plain_types`; long bytes and texts, arrays, images and tables are
buffers outside of it. The envelope around both is in `frames`.
"""

from __future__ import annotations

import gc
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, Final, NamedTuple

import ormsgpack

from storagecache.node_cache import plain_types as plain
from storagecache.node_cache import rich_types
from storagecache.node_cache.canonical import asset_id_of
from storagecache.node_cache.errors import FrameError, NotCacheableError

RAW, BYTES, TEXT = 0, 1, 2  # what a buffer is when read: a view, an immutable bytes, an immutable text
LONG: Final = 1024  # texts (characters) and bytes from here on are buffers of their own

_UNCHANGED: Final = frozenset({type(None), bool, float})
_ROWS: Final = frozenset({list, tuple, set, frozenset})
_HOLDERS: Final = _ROWS | {dict}
_SIZED: Final = frozenset({str, bytes})
_KNOWN: Final = _UNCHANGED | _HOLDERS | _SIZED | {int}
_MARKS_OF_BYTES: Final = (b"\xc4", b"\xc5", b"\xc6")  # in MessagePack
_MARKS: Final = (*_MARKS_OF_BYTES, b"\xda", b"\xdb")  # and of texts of 256 and more
_OPTIONS: Final = plain.PACK_OPTIONS & ~ormsgpack.OPT_SORT_KEYS
_MANY_BYTES: Final = 65_536  # a tree from here on is many objects
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


class Encoded(NamedTuple):
    """A value that nobody can change any more, and the ids of the assets it names; a tuple, as `frames.Frame` is."""

    tree: bytes
    buffers: tuple[Buffer, ...]
    assets: tuple[str, ...]
    arrays: dict[bytes, Any]  # read-only, as first decoded; empty at first


def encode_value(value: Any) -> Encoded:
    """Take a snapshot of a value: later changes of it are not seen.

    Raises:
        NotCacheableError: a type that is not listed, or nesting beyond the encoder's limit.
    """
    encoder = _Encoder()
    try:
        tree = encoder.encode(value)
    except NotCacheableError:
        raise
    except (TypeError, ValueError, RecursionError, MemoryError) as error:
        raise NotCacheableError(f"Cannot be encoded: {error}.") from error
    return Encoded(tree, tuple(encoder.buffers), tuple(sorted(encoder.assets)), {})


def decode_value(encoded: Encoded, *, writable: bool = False) -> Any:
    """Make a value of its snapshot, of its own but for immutable parts; arrays are read-only views unless `writable`.

    Raises:
        FrameError: not what `encode_value` makes, or a library that it needs is not installed here.
    """
    try:
        return _unpack(encoded.tree, encoded, writable)
    except FrameError:
        raise
    except _DAMAGE as error:
        raise FrameError(f"A frame's tree cannot be read: {type(error).__name__}.") from error


class _Encoder:
    """One walk over a value, gathering its buffers and assets.

    The encoder's own walk, in C, does for what names no assets and holds no long texts or bytes; the walk here tells
    everything else apart, and is twenty times slower.
    """

    __slots__ = ("_taken", "assets", "buffers")

    def __init__(self) -> None:
        self.buffers: list[Buffer] = []
        self.assets: set[str] = set()
        self._taken: dict[int, tuple[Any, ormsgpack.Ext]] = {}  # by id; holds the value, so that the id stays its own

    def encode(self, value: Any) -> bytes:
        try:
            packed = self._pack_directly(value)
        except (
            TypeError,
            ValueError,
            RecursionError,
            MemoryError,
        ):  # keys that are no texts, lone surrogates, not cacheable ..
            return self.pack(value)
        return self.pack(value) if b"asset" in packed or _needs_walk(value, packed) else packed

    def pack(self, value: Any) -> bytes:
        return ormsgpack.packb(self._plain(value), None, _OPTIONS)

    def _pack_directly(self, value: Any) -> bytes:
        return ormsgpack.packb(value, self._extension, _OPTIONS)

    def _extension(self, value: Any) -> ormsgpack.Ext:
        return plain.pack_plain(value, self._pack_directly) or self._rich(value)

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
        if id(value) not in self._taken:
            self._taken[id(value)] = value, self._take_apart(value)
        return self._taken[id(value)][1]

    def _take_apart(self, value: Any) -> ormsgpack.Ext:
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


def _needs_walk(value: Any, packed: bytes) -> bool:
    """Tell whether there is a long text or bytes, which is to be a buffer, or what ormsgpack took for bytes.

    Without a marker of such there is none; else it looks level by level, mostly in C.
    """
    if not any(mark in packed for mark in (_MARKS if len(packed) >= LONG else _MARKS_OF_BYTES)):
        return False
    level = [value]
    while level:
        kinds = set(map(type, level))
        if any(map(_is_like_bytes, kinds - _KNOWN)) or any(_longest(level, kind) >= LONG for kind in kinds & _SIZED):
            return True
        if kinds.isdisjoint(_HOLDERS):
            return False
        level = list(_items_of(level))
    return False


def _is_like_bytes(kind: type) -> bool:
    return issubclass(kind, bytes | bytearray | memoryview)


def _longest(items: list[Any], kind: type[Any]) -> int:
    return max(map(len, [item for item in items if type(item) is kind]))


def _items_of(level: list[Any]) -> Iterator[Any]:
    """Yield what the dicts and lists of a level hold, without an object for each of them."""
    yield from chain.from_iterable(map(dict.values, [item for item in level if type(item) is dict]))
    yield from chain.from_iterable([item for item in level if type(item) in _ROWS])


def _is_utf8(value: str) -> bool:
    """Tell whether a text is free of lone surrogates."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _unpack(packed: bytes, encoded: Encoded, writable: bool) -> Any:
    extension = partial(_extension_of, encoded, writable)
    if len(packed) < _MANY_BYTES:
        return ormsgpack.unpackb(packed, ext_hook=extension)
    return _unpack_many(packed, extension)


def _extension_of(encoded: Encoded, writable: bool, tag: int, payload: bytes) -> Any:
    """Make what a tree names by a tag; called by the decoder."""
    if tag == plain.BUFFER:
        return _shared(encoded, *_NUMBER.unpack(payload))
    if tag == plain.RICH:
        array = encoded.arrays.get(payload)
        return _rich(encoded, writable, payload) if array is None else array.copy("K") if writable else array.view()
    return plain.unpack_plain(tag, payload, lambda packed: _unpack(packed, encoded, writable))


def _rich(encoded: Encoded, writable: bool, payload: bytes) -> Any:
    """Make an array, image or table; an array is remembered, and each reader gets a view of its own."""
    name, description, first, count = _unpack(payload, encoded, writable)
    views = [memoryview(_raw(encoded, number)) for number in range(first, first + count)]
    value = rich_types.put_together(name, description, views, writable=writable)
    if name != "ndarray" or writable:
        return value
    encoded.arrays[payload] = value
    return value.view()


def _shared(encoded: Encoded, number: int) -> bytes | str:
    shared = encoded.buffers[number].shared
    if shared is None:
        raise FrameError("A raw buffer is named as text or bytes.")
    return shared


def _raw(encoded: Encoded, number: int) -> bytes | memoryview:
    buffer = encoded.buffers[number]
    if number < 0 or buffer.kind != RAW:
        raise FrameError("A text buffer is named as raw.")
    return buffer.data


def _unpack_many(packed: bytes, extension: Callable[[int, bytes], Any]) -> Any:
    """Unpack a big tree without the collections that so many new objects would start: they are all alive.

    Whoever finds the collector on turns it on again, so that it stays on however threads meet here.
    """
    is_on = gc.isenabled()
    gc.disable()
    try:
        return ormsgpack.unpackb(packed, ext_hook=extension)
    finally:
        if is_on:
            gc.enable()
