"""The one byte text of a node's parts, equal in every process, hash seed and Python version. Pure.

MessagePack with sorted keys; every type beyond JSON is an extension with its own tag, so that 1, 1.0, True, "1", (1,)
and [1] all differ. Arrays enter as digests, asset references as the sha256 of their content. What is not listed raises:
nothing is ever repr()'d.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any, Final

import ormsgpack
from blake3 import blake3
from ormsgpack import packb

from storagecache.node_cache import plain_types as plain
from storagecache.node_cache import rich_types
from storagecache.node_cache.errors import NotCacheableError
from storagecache.node_cache.plain_types import PACK_OPTIONS
from storagecache.node_cache.references import asset_digest

INLINE_BYTES: Final = 65_536  # a longer encoding names its long texts and bytes by digest
LONG: Final = 1024  # texts (characters) and bytes from here on count as long there

_PARALLEL_BYTES: Final = 8 << 20  # below it, threads cost more than they bring
_NAN: Final = float("nan")
_ATOMS: Final = frozenset({type(None), bool, float, str, int, bytes})


def canonical_bytes(parts: Any) -> bytes:
    """Encode plain data, arrays, images, tables and asset references, each type by its own tag.

    Raises:
        NotCacheableError: an unknown object, a dict with keys that are not text, an asset that the catalog does not
            know, or nesting beyond the encoder's limit.
    """
    try:
        packed = packb(parts, _extension, PACK_OPTIONS)
    except (TypeError, ValueError, RecursionError, MemoryError):  # ormsgpack's are TypeErrors: perhaps a lone surrogate
        return _pack_with_care(parts)
    # A NaN's second byte is 7F or FF; one search for `asset` finds both the key `asset_id` and `asset://`. What
    # only looks like one is encoded the same, slower.
    if b"asset" in packed or 0x7F in packed or 0xFF in packed or len(packed) > INLINE_BYTES:
        return _pack_with_care(parts)
    return packed


def _pack_with_care(parts: Any) -> bytes:
    try:
        return _pack(_careful(parts))
    except (TypeError, ValueError, RecursionError, MemoryError) as error:
        raise _refused(error) from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what caused it: the encoder wraps what its callbacks raise."""
    while error is not None:
        yield error
        error = error.__cause__


def _refused(error: Exception) -> NotCacheableError:
    """Give our own refusal out of the encoder's, or a new one."""
    own = [cause for cause in _causes(error) if isinstance(cause, NotCacheableError)]
    return own[0] if own else NotCacheableError(f"Cannot be encoded: {error}.")


def _pack(parts: Any) -> bytes:
    return packb(parts, _extension, PACK_OPTIONS)


def _extension(value: Any) -> ormsgpack.Ext:
    """Encode what MessagePack has no type for; called by the encoder."""
    extension = plain.pack_plain(value, _pack) or _enum(value) or _array(value) or _rich(value)
    if extension is None:
        raise NotCacheableError(f"A value of type {type(value).__module__}.{type(value).__qualname__} has no encoding.")
    return extension


def _enum(value: Any) -> ormsgpack.Ext | None:
    if not isinstance(value, enum.Enum):
        return None
    return ormsgpack.Ext(plain.ENUM, _pack_careful([type(value).__qualname__, value.name, value.value]))


def _array(value: Any) -> ormsgpack.Ext | None:
    described = rich_types.digest_view(value)
    if described is None:
        return None
    description, view = described
    return ormsgpack.Ext(plain.RICH_DIGEST, _pack(["ndarray", description, content_digest(view)]))


def _rich(value: Any) -> ormsgpack.Ext | None:
    parts = rich_types.take_apart(value)
    if parts is None:
        return None
    if parts.name == "scalar" and value != value:  # one NaN, as of floats
        return ormsgpack.Ext(plain.RICH_DIGEST, _pack([parts.name, parts.description, _NAN]))
    digests = [content_digest(buffer) for buffer in parts.buffers]
    return ormsgpack.Ext(plain.RICH_DIGEST, _pack([parts.name, parts.description, *digests]))


def content_digest(data: bytes | memoryview) -> bytes:
    """Give the blake3 of some bytes."""
    threads = blake3.AUTO if len(data) >= _PARALLEL_BYTES else 1
    return blake3(data, max_threads=threads).digest()


def _careful(value: Any) -> Any:
    """Rebuild data with one NaN, long texts and bytes as digests, and references by content; else the same."""
    kind = type(value)
    if kind is dict:
        return _careful_dict(value)
    if kind is list:
        return [_careful(item) for item in value]
    if kind is str:
        return _careful_text(value)
    if kind is bytes:
        return value if len(value) < LONG else ormsgpack.Ext(plain.BYTES_DIGEST, content_digest(value))
    if kind is float:
        return _NAN if value != value else value
    if kind is complex:
        return plain.pack_plain(complex(_careful(value.real), _careful(value.imag)), _pack)
    if kind in _ATOMS or kind is ormsgpack.Ext:
        return value
    return plain.pack_plain(value, _pack_careful) or value


def _pack_careful(value: Any) -> bytes:
    return _pack(_careful(value))


def _careful_dict(value: dict[Any, Any]) -> Any:
    if "asset_id" in value:
        reference = _reference(value)
        if reference is not None:
            return reference
    return {_careful_key(key): _careful(item) for key, item in value.items()}


def _careful_key(key: Any) -> str:
    if type(key) is not str:
        raise NotCacheableError(f"A dict key of type {type(key).__name__} has no encoding; keys must be text.")
    return key


def _careful_text(value: str) -> Any:
    if value.startswith("asset://"):
        return _by_content(value, asset_id_of(value), [])
    if len(value) >= LONG:
        return ormsgpack.Ext(plain.TEXT_DIGEST, content_digest(value.encode("utf-8", "surrogatepass")))
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return plain.pack_surrogates(value)
    return value


def _reference(value: dict[Any, Any]) -> ormsgpack.Ext | None:
    """Encode NodeTool's asset reference by its content; None when it points to nothing of ours."""
    asset_id, uri = value.get("asset_id"), value.get("uri")
    rest = {key: item for key, item in value.items() if key not in {"asset_id", "uri"}}
    if type(asset_id) is str and asset_id:
        return _by_content(asset_id, asset_id, rest)
    if type(uri) is not str or not uri or value.get("data") is not None:
        return None
    if uri.startswith("memory://"):
        raise NotCacheableError("A memory:// reference means nothing in another process.")
    if uri.startswith("asset://"):
        return _by_content(uri, asset_id_of(uri), rest)
    return _by_content(uri, uri, rest) if "/storage/" in uri else None


def _by_content(reference: str, lookup: str, rest: Any) -> ormsgpack.Ext:
    sha256 = asset_digest(lookup)
    if sha256 is None:
        raise NotCacheableError(f"No asset is known for the reference {reference[:80]!r}.")
    return ormsgpack.Ext(plain.ASSET, _pack([sha256, _careful(rest)]))


def asset_id_of(uri: str) -> str:
    """Give the id in `asset://<id>[.<extension>]`."""
    return uri.removeprefix("asset://").partition("?")[0].partition("/")[0].partition(".")[0]
