"""The first rows of a Parquet file, by pyarrow. Runs in `assets.media.child` only: never in a process that serves."""

from __future__ import annotations

import os
from itertools import islice
from typing import Any, BinaryIO, Final

from assets.media.kinds import COLUMNS, ROWS

_CELL: Final = 200  # characters
_STRINGS: Final = 8 << 20  # bytes of one text of the file's own description
_ITEMS: Final = 200_000  # entries of one of its lists


def parquet_head(source: BinaryIO) -> dict[str, Any]:
    """Give the names of the columns and the first rows as text, and how many of both there are.

    Raises:
        Exception: whatever pyarrow raises for what is no such file.
    """
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"  # others reserve memory that is counted
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    file = ParquetFile(
        source, pre_buffer=False, thrift_string_size_limit=_STRINGS, thrift_container_size_limit=_ITEMS
    )  # fmt: skip
    names = file.schema_arrow.names
    rows = [[_text(name) for name in names[:COLUMNS]], *_rows(file, names[:COLUMNS])]
    return {"rows": rows, "count": file.metadata.num_rows, "columns": len(names)}


def _rows(file: Any, names: list[str]) -> list[list[str]]:
    batches = file.iter_batches(batch_size=ROWS, columns=names, use_threads=False)
    batch = next(iter(batches), None)
    if batch is None:
        return []
    columns = [[_text(value.as_py()) for value in islice(column, ROWS)] for column in batch.columns[:COLUMNS]]
    return [list(row) for row in zip(*columns, strict=True)]


def _text(value: object) -> str:
    return "" if value is None else str(value)[:_CELL]
