"""The first rows of Parquet files, read in a process of their own; broken and hostile ones give none."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow.parquet import write_table

from assets.media.kinds import COLUMNS, ROWS
from assets.media.sandbox import CELL, NoPreviewError, Table, table_of


def parquet(columns: dict[str, Any], **options: Any) -> bytes:
    out = io.BytesIO()
    write_table(pa.table(columns), out, **options)
    return out.getvalue()


def read(tmp_path: Path, data: bytes) -> Table:
    path = tmp_path / "table.parquet"
    path.write_bytes(data)
    with path.open("rb") as source:
        return table_of(source, seconds=60)


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
def test_first_rows_are_text(tmp_path: Path, compression: str) -> None:
    data = parquet({"n": list(range(200)), "a.b": [None, "é" * 500] * 100}, compression=compression)
    table = read(tmp_path, data)
    assert (table.count, table.columns, len(table.rows)) == (200, 2, ROWS + 1)
    assert table.rows[:3] == (("n", "a.b"), ("0", ""), ("1", "é" * CELL))


def test_wide_nested_and_empty_tables_are_bounded(tmp_path: Path) -> None:
    wide = read(tmp_path, parquet({f"c{n}": [[{"x": n}]] for n in range(COLUMNS + 20)}))
    assert (len(wide.rows[0]), wide.columns) == (COLUMNS, COLUMNS + 20)
    assert wide.rows[1][1] == "[{'x': 1}]"
    empty = read(tmp_path, parquet({"n": pa.array([], pa.int64())}))
    assert (empty.count, empty.rows) == (0, (("n",),))


def test_broken_tables_give_a_reason(tmp_path: Path) -> None:
    whole = parquet({"n": list(range(1000))})
    for data in (b"PAR1", whole[:-20], whole[:200] + bytes(200) + whole[400:], b"PAR1" + bytes(1000) + b"PAR1"):
        with pytest.raises(NoPreviewError):
            read(tmp_path, data)


def test_table_that_would_fill_the_memory_is_given_up(tmp_path: Path) -> None:
    """One row that unpacks to more than the process may hold: a bomb of a few hundred kilobytes."""
    data = parquet({"n": pa.array([b"x" * (900 << 20)], pa.large_binary())}, compression="zstd", use_dictionary=False)
    assert len(data) < 1 << 20
    with pytest.raises(NoPreviewError):
        read(tmp_path, data)
