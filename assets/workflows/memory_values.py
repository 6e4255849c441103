"""What lies under `memory://` as a file: images as PNG, tables as Parquet, arrays as NPY, text as UTF-8."""

from __future__ import annotations

import io
import sys
from typing import Any

from assets.content_types import OCTET_STREAM, resolve_content_type
from assets.workflows.tables import PARQUET, write_parquet


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
