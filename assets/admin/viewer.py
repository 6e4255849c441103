"""What the page of an asset shows of its bytes, by their kind.

Only a bounded head of the bytes is read, and it is text or a table on the page, never markup. What browsers show by
themselves (images, films, sounds, PDF) they fetch from the preview's address, sandboxed.
"""

from __future__ import annotations

import csv
import json
import logging
import threading
from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal

from django.core.files.storage import storages

from assets.admin.display import PREVIEW_BYTES, essence, is_shown_inline
from assets.media.kinds import COLUMNS, ROWS
from assets.media.sandbox import CELL, NoPreviewError, table_of
from assets.media.source import local_file
from assets.models import Asset, StoredObject
from assets.services import open_asset, release_connection
from assets.staging import staging_folder
from storagecache.errors import StorageError

logger = logging.getLogger(__name__)

Kind = Literal["image", "video", "audio", "pdf", "text", "table", "hex", "none"]

HEAD: Final = 64 << 10  # bytes that are read of texts and tables
_PARQUET: Final = b"PAR1"  # its first four bytes
_READERS: Final = threading.BoundedSemaphore(2)  # tables that are decoded at once for pages of this process
_PATIENCE: Final = 10.0  # seconds to wait for one of them
_HEX: Final = 256  # bytes
_TABLES: Final = {"text/csv": ",", "text/tab-separated-values": "\t"}


@dataclass(frozen=True, slots=True)
class View:
    """What is shown: `text` of texts, hex heads and reasons why there is nothing; `rows` of tables."""

    kind: Kind
    text: str = ""
    rows: tuple[tuple[str, ...], ...] = ()
    is_cut: bool = False
    note: str = ""


def view_of(asset: Asset) -> View:
    """Choose how an asset is shown; reads at most `HEAD` bytes, and holds no connection meanwhile."""
    if asset.object is None:
        return View("none")
    if is_shown_inline(asset) and (asset.size or 0) <= _longest(asset):
        return View(_inline_kind(essence(asset)))
    release_connection()
    try:
        with open_asset(asset, start=0, length=min(HEAD, asset.object.size)) as stream:
            head = stream.read(HEAD)
    except StorageError as error:
        return View("none", str(error))
    if head.startswith(_PARQUET):
        return _parquet_view(head, asset, asset.object)
    return _read_view(head, asset, is_cut=asset.object.size > len(head))


def _longest(asset: Asset) -> int:
    """Give how many bytes a page shows at once: films and sounds are fetched by parts."""
    return PREVIEW_BYTES if essence(asset).startswith("image/") else 1 << 62


def _inline_kind(content_type: str) -> Kind:
    main = content_type.partition("/")[0]
    kinds: dict[str, Kind] = {"image": "image", "video": "video", "audio": "audio"}
    return kinds.get(main, "pdf")


def _parquet_view(head: bytes, asset: Asset, stored: StoredObject) -> View:
    """Show the first rows of a Parquet file, which are read in a process of their own; else the first bytes."""
    storage = storages[stored.storage]
    table = None
    if _READERS.acquire(timeout=_PATIENCE):
        try:
            folder = staging_folder(storage)
            with local_file(storage, stored.key, size=stored.size, kind="table", folder=folder) as stream:
                table = table_of(stream)
        except (NoPreviewError, StorageError) as error:
            logger.info("no rows asset=%s reason=%s", asset.pk, error)
        finally:
            _READERS.release()
    if table is None:
        return View("hex", hex_lines(head[:_HEX]), note="This table could not be read. These are its first bytes.")
    shown = f"the first {len(table.rows) - 1:,} are shown" if table.count > ROWS else "all are shown"
    return View("table", rows=table.rows, note=f"{table.count:,} rows, {table.columns:,} columns; {shown}.")


def _read_view(head: bytes, asset: Asset, *, is_cut: bool) -> View:
    text = _text(head, is_cut=is_cut)
    if text is None or not head:
        return View("hex", hex_lines(head[:_HEX]), is_cut=is_cut or len(head) > _HEX)
    delimiter = _TABLES.get(essence(asset))
    if delimiter and (rows := _rows(text, delimiter)):
        return View("table", rows=rows, is_cut=is_cut or len(rows) > ROWS)
    if essence(asset) == "application/json" and not is_cut:
        text = _indented(text)
    return View("text", text, is_cut=is_cut)


def _text(head: bytes, *, is_cut: bool) -> str | None:
    """Read UTF-8, of which the last character may be cut; None when it is no text."""
    if b"\x00" in head:
        return None
    for lost in range(4 if is_cut else 1):
        try:
            return head[: len(head) - lost].decode("utf-8-sig")
        except UnicodeDecodeError:
            continue
    return None


def _rows(text: str, delimiter: str) -> tuple[tuple[str, ...], ...]:
    try:
        rows = list(islice(csv.reader(text.splitlines(keepends=True), delimiter=delimiter), ROWS + 1))
    except csv.Error:
        return ()
    return tuple(tuple(cell[:CELL] for cell in row[:COLUMNS]) for row in rows)


def _indented(text: str) -> str:
    try:
        return json.dumps(json.loads(text), ensure_ascii=False, indent=2)
    except (ValueError, RecursionError):
        return text


def hex_lines(data: bytes) -> str:
    """Write bytes as sixteen to a line: offset, hex, and the printable ASCII among them."""
    lines = []
    for start in range(0, len(data), 16):
        part = data[start : start + 16]
        printable = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in part)
        lines.append(f"{start:08x}  {part.hex(' '):<47}  {printable}")
    return "\n".join(lines)
