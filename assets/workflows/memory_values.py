"""Objects of this process under `memory://`: kept for a while, found again, and each as the file that it would be.

Images are PNG, tables Parquet, arrays NPY, text UTF-8.
"""

from __future__ import annotations

import io
import sys
from typing import Any, Final
from uuid import uuid4

from assets.content_types import OCTET_STREAM, resolve_content_type
from assets.workflows.tables import PARQUET, write_parquet
from storagecache.environment import Environment
from storagecache.errors import ObjectNotFoundError

MEMORY_TTL: Final = 3600.0  # seconds that a value is kept, unless newer ones need its room

_MISSING: Final = object()


def keep_value(value: Any) -> str | None:
    """Keep an object under a new memory:// URI; None when it is too large for that."""
    uri = f"memory://{uuid4().hex}"
    return uri if Environment.get_memory_uri_cache().set(uri, value, ttl=MEMORY_TTL) else None


def kept_value(uri: str) -> Any:
    """Give the very object under a memory:// URI.

    Raises:
        ObjectNotFoundError: it was dropped meanwhile, or is another process's.
    """
    value = Environment.get_memory_uri_cache().get(uri, _MISSING)
    if value is _MISSING:
        raise ObjectNotFoundError("This memory:// value is of another process, or was dropped: make it again.")
    return value


def value_content(value: Any) -> tuple[bytes, str]:
    """Give the bytes and content type of a value.

    Raises:
        ValueError: it has no form as a file.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        data = bytes(value)
        return data, resolve_content_type("", "", data[:4096])
    if isinstance(value, str):
        return value.encode(), "text/plain"
    library = type(value).__module__.partition(".")[0]
    if library == "PIL":
        return _png(value), "image/png"
    if library == "pandas":
        return write_parquet(value), PARQUET
    if library == "numpy":
        return _npy(value), OCTET_STREAM
    raise ValueError(f"A memory:// value of type {type(value).__name__} is no file.")


def _png(image: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    sys.modules["numpy"].save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
