"""Tables and files: Parquet, CSV, JSON rows and JSON lines, by pandas. Never pickles."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from assets.workflows.libraries import need

if TYPE_CHECKING:
    import pandas as pd

PARQUET: Final = "application/vnd.apache.parquet"


def read_table(stream: BinaryIO, content_type: str) -> pd.DataFrame:
    """Read a table; a type that says nothing is taken for Parquet or CSV by its first bytes.

    Raises:
        ValueError: it is no table.
        MissingLibraryError: pandas, or for Parquet pyarrow, is not installed.
    """
    pandas_ = need("pandas", "Reading a table")
    head = stream.read(4)
    stream.seek(0)
    kind = content_type.partition(";")[0]
    try:
        if head == b"PAR1":
            need("pyarrow", "Reading a Parquet table")
            return _frame(pandas_.read_parquet(stream))
        if kind in {"application/json", "application/jsonl"}:
            return _frame(pandas_.read_json(stream, orient="records", lines=kind.endswith("l")))
        return _frame(pandas_.read_csv(stream, sep="\t" if kind == "text/tab-separated-values" else ","))
    except (ValueError, UnicodeError, OSError) as error:  # pandas' and pyarrow's errors are ValueErrors
        raise ValueError(f"Not a table that can be read: {error}") from error


def write_table(frame: pd.DataFrame, name: str) -> tuple[bytes, str]:
    """Write a table in the form its name asks for (.csv, .json, .jsonl), else as Parquet; gives the content type."""
    extension = name.rpartition(".")[2].lower()
    if extension == "csv":
        return frame.to_csv(index=False).encode(), "text/csv"
    if extension in {"json", "jsonl"}:
        text = frame.to_json(orient="records", lines=extension == "jsonl", date_format="iso")
        return text.encode(), f"application/{extension}"
    return write_parquet(frame), PARQUET


def write_parquet(frame: Any) -> bytes:
    """Write a table as Parquet, which keeps the types of its columns.

    Raises:
        ValueError: a column has no form there.
        MissingLibraryError: pyarrow is not installed.
    """
    need("pyarrow", "Writing a table")
    buffer = io.BytesIO()
    try:
        frame.to_parquet(buffer)
    except (ValueError, TypeError) as error:
        raise ValueError(f"This table cannot be written as Parquet: {error}") from error
    return buffer.getvalue()


def _frame(frame: Any) -> pd.DataFrame:
    found: pd.DataFrame = frame
    return found
