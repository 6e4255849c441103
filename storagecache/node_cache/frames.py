"""The envelope of a cached value: header, keyed MAC, buffer table, assets, tree, aligned buffers. Pure.

docs/node-cache.md spells the format out. A frame is bound to its key and to this service's secret: damage, truncation,
another key's frame and anybody else's bytes are refused before a byte of the body is interpreted.
"""

from __future__ import annotations

import math
import os
import struct
import sys
from collections.abc import Iterator, Sequence
from hmac import compare_digest
from typing import Any, Final, NamedTuple

import ormsgpack
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from storagecache.node_cache.codec import BYTES, RAW, TEXT, Buffer, Encoded, decode_value, encode_value
from storagecache.node_cache.errors import FrameError

MAGIC: Final = b"NTNC"
VERSION: Final = 2
VALUE, POINTER, RECORD = 0, 1, 2  # kinds: a value, where a big value lies, a record for `explain`
CODEC: Final = 1  # a MessagePack tree with buffers
HEADER: Final = struct.Struct("<4sBBBBdddQIII12s")  # 64 bytes, then the MAC
MAC_BYTES: Final = 32
PREFIX_BYTES: Final = HEADER.size + MAC_BYTES
ALIGNMENT: Final = 64
NO_TTL: Final = -1.0

_HEADER_BYTES: Final = HEADER.size
_LENGTH: Final = struct.Struct("<I")
_unpack: Final = HEADER.unpack_from
_NO_ASSETS: Final = b"\x90"  # MessagePack's empty array
_LONG: Final = 65_536  # bytes; of longer frames the body has a tag of its own
_SALT_BYTES: Final = 12
_NO_SALT: Final = bytes(_SALT_BYTES)
_IV: Final = bytes(12)  # the same each time, for no key is used twice
_STEP: Final = 1 << 30  # bytes; AES takes less than 2 GiB at once
_KIND_SHIFT: Final = 56  # a table entry: the buffer's kind in the top byte, its length below
_LENGTH_MASK: Final = (1 << _KIND_SHIFT) - 1
_CONTEXT: Final = "nodetool-storage node cache frame MAC v1"
_OVERHEAD: Final = 600  # of the objects around a frame in memory, measured with tracemalloc
_PER_BUFFER: Final = 250


Pieces = Sequence[bytes | memoryview]


class Frame(NamedTuple):
    """A value with its times: made at `created` (seconds since 1970), good for `ttl` s, computed in `compute` s.

    A tuple, since one is made at each read: a frozen dataclass takes thrice the time.
    """

    encoded: Encoded
    created: float
    ttl: float = NO_TTL
    compute: float = 0.0
    kind: int = VALUE
    cost: int = 0  # bytes of memory it holds

    def is_expired(self, now: float) -> bool:
        """Tell whether its time is over."""
        return self.ttl != NO_TTL and now >= self.created + self.ttl

    def value(self, *, writable: bool = False) -> Any:
        """Decode it (see `codec.decode_value`)."""
        return decode_value(self.encoded, writable=writable)


def frame_of(value: Any, *, now: float, ttl: float | None, compute: float = 0.0, kind: int = VALUE) -> Frame:
    """Snapshot a value into a frame; a `ttl` of None never ends.

    Raises:
        NotCacheableError: see `codec.encode_value`.
    """
    encoded = encode_value(value)
    return Frame(encoded, now, NO_TTL if ttl is None else float(ttl), compute, kind, _own_cost(encoded))


def mac_key(secret: str) -> bytes:
    """Derive the MAC's key from the service's secret."""
    return blake3(secret.encode("utf-8", "surrogatepass"), derive_key_context=_CONTEXT).digest()


def namespace_of(secret: bytes) -> str:
    """Give a short public name of a MAC key: services with other secrets do not share entries."""
    return blake3(b"namespace", key=secret).hexdigest(4)


def write_frame(frame: Frame, key: str, secret: bytes) -> list[bytes | memoryview]:
    """Give the frame's bytes in pieces, for the wire key `key`; big buffers are not copied."""
    body = list(_body(frame.encoded))
    total = PREFIX_BYTES + sum(map(len, body))
    assets = ormsgpack.packb(list(frame.encoded.assets))
    header = HEADER.pack(
        *(MAGIC, VERSION, frame.kind, CODEC, 0, frame.created, frame.ttl, frame.compute, total),
        *(len(frame.encoded.buffers), len(assets), len(frame.encoded.tree)),
        os.urandom(_SALT_BYTES) if total > _LONG else _NO_SALT,
    )
    return [header, _mac(header, key, body, total, secret), *body]


def frame_bytes(frame: Frame, key: str, secret: bytes) -> bytes:
    """Give the whole frame as one bytes."""
    return b"".join(write_frame(frame, key, secret))


def read_frame(data: bytes | memoryview, key: str, secret: bytes) -> Frame:
    """Verify and open a frame; arrays will be views of `data`, which nobody may change.

    Raises:
        FrameError: anything but the untouched bytes that `write_frame` made for this key and secret.
    """
    size = len(data)
    if size < PREFIX_BYTES:
        raise FrameError("A frame is cut off in its header.")
    magic, version, kind, codec, flags, created, ttl, compute, total, buffers, assets, tree, _ = _unpack(data)
    if magic != MAGIC or version != VERSION or codec != CODEC or flags or total != size:
        raise FrameError("Not a whole frame of this version.")
    whole = data if type(data) is bytes and not buffers else memoryview(data).toreadonly()
    body = whole[PREFIX_BYTES:]
    mac = _mac(whole[:_HEADER_BYTES], key, (body,), size, secret)
    if not compare_digest(mac, whole[_HEADER_BYTES:PREFIX_BYTES]):
        raise FrameError("A frame's MAC does not fit: damaged, forged or another key's.")
    try:
        encoded = _read_body(body, buffers, assets, tree) if buffers else _read_tree(body, assets, tree)
    except (struct.error, TypeError, ValueError, LookupError) as error:
        raise FrameError("A frame's tables cannot be read.") from error
    return Frame(encoded, created, ttl, compute, kind, _received_cost(encoded, size))


def expiry_of(data: bytes | memoryview) -> float:
    """Give the time (seconds since 1970) when a frame is over by its own unverified header; 0 for what is no frame."""
    if len(data) < PREFIX_BYTES:
        return 0.0
    magic, version, _kind, _codec, _flags, created, ttl, *_ = HEADER.unpack_from(data)
    if (magic, version) != (MAGIC, VERSION):
        return 0.0
    return math.inf if ttl == NO_TTL else float(created + ttl)


def _mac(header: bytes | memoryview, key: str, body: Pieces, size: int, secret: bytes) -> bytes:
    """Give the MAC of header, key and body of a frame of `size` bytes.

    A long body enters by its tag: BLAKE3 over it takes three times as long, and more of the time of a read than all
    else but receiving it.
    """
    if size <= _LONG:
        return blake3(b"".join((header, *_named(key), *body)), key=secret).digest()
    hasher = blake3(b"".join((header, *_named(key))), key=secret)
    hasher.update(_tag(body, hasher.digest()))
    return hasher.digest()


def _tag(body: Pieces, key: bytes) -> bytes:
    """Give the 16 bytes of AES-256-GMAC (NIST SP 800-38D) over a body, under a key that is for this frame alone."""
    gmac = Cipher(algorithms.AES(key), modes.GCM(_IV)).encryptor()
    for piece in body:
        for at in range(0, len(piece), _STEP):
            gmac.authenticate_additional_data(piece[at : at + _STEP])
    gmac.finalize()
    return gmac.tag


def _named(key: str) -> tuple[bytes, bytes]:
    name = key.encode("utf-8", "surrogatepass")
    return _LENGTH.pack(len(name)), name


def _body(encoded: Encoded) -> Iterator[bytes | memoryview]:
    entries = [buffer.kind << _KIND_SHIFT | len(buffer.data) for buffer in encoded.buffers]
    head = b"".join((struct.pack(f"<{len(entries)}Q", *entries), ormsgpack.packb(list(encoded.assets)), encoded.tree))
    yield head + _padding(PREFIX_BYTES + len(head)) if entries else head
    for number, buffer in enumerate(encoded.buffers, 1):
        yield buffer.data
        if number < len(entries):
            yield _padding(len(buffer.data))


def _padding(length: int) -> bytes:
    return bytes(-length % ALIGNMENT)


def _read_body(body: bytes | memoryview, buffers: int, assets: int, tree: int) -> Encoded:
    tree_at = buffers * 8 + assets
    end = tree_at + tree
    if end > len(body):
        raise FrameError("A frame's tables are longer than the frame.")
    packed, ids = bytes(body[tree_at:end]), _asset_ids(body[buffers * 8 : tree_at])
    opened, end = _read_buffers(memoryview(body), end, struct.unpack_from(f"<{buffers}Q", body))
    if end != len(body):
        raise FrameError("A frame's sizes do not add up.")
    return Encoded(packed, opened, ids, {})


def _read_tree(body: bytes | memoryview, assets: int, tree: int) -> Encoded:
    """Read a body without buffers, as most small ones are."""
    if assets + tree != len(body):
        raise FrameError("A frame's sizes do not add up.")
    return Encoded(bytes(body[assets:]), (), _asset_ids(body[:assets]), {})


def _asset_ids(packed: bytes | memoryview) -> tuple[str, ...]:
    if packed == _NO_ASSETS:
        return ()
    ids = ormsgpack.unpackb(packed)
    if type(ids) is not list or any(type(asset_id) is not str for asset_id in ids):
        raise FrameError("A frame's assets are not ids.")
    return tuple(ids)


def _read_buffers(body: memoryview, at: int, entries: tuple[int, ...]) -> tuple[tuple[Buffer, ...], int]:
    opened: list[Buffer] = []
    for entry in entries:
        at += -(PREFIX_BYTES + at) % ALIGNMENT
        kind, length = entry >> _KIND_SHIFT, entry & _LENGTH_MASK
        if at + length > len(body):
            raise FrameError("A frame's buffer is longer than the frame.")
        opened.append(_open_buffer(kind, body[at : at + length]))
        at += length
    return tuple(opened), at


def _open_buffer(kind: int, data: memoryview) -> Buffer:
    if kind == RAW:
        return Buffer(RAW, data)
    own = bytes(data)
    if kind == BYTES:
        return Buffer(BYTES, own, own)
    if kind == TEXT:
        return Buffer(TEXT, own, own.decode("utf-8"))
    raise FrameError(f"No buffer of kind {kind} is known.")


def _own_cost(encoded: Encoded) -> int:
    cost = _OVERHEAD + len(encoded.tree) + sum(map(len, encoded.assets))
    return cost + sum(_PER_BUFFER + len(buffer.data) + _text_cost(buffer) for buffer in encoded.buffers)


def _received_cost(encoded: Encoded, length: int) -> int:
    """Count the received bytes once when a raw buffer keeps them alive, and what was copied out of them."""
    if not encoded.buffers:
        return _OVERHEAD + len(encoded.tree)
    copied = sum(_PER_BUFFER + len(b.data) + _text_cost(b) for b in encoded.buffers if b.kind != RAW)
    raw = [_PER_BUFFER for buffer in encoded.buffers if buffer.kind == RAW]
    return _OVERHEAD + len(encoded.tree) + copied + (length + sum(raw) if raw else 0)


def _text_cost(buffer: Buffer) -> int:
    return sys.getsizeof(buffer.shared) if isinstance(buffer.shared, str) else 0
