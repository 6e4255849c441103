"""What a node hands over to become an asset: checked, as a stream, and left in the workspace where no catalog is."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias, cast

from assets.content_types import OCTET_STREAM
from assets.models import Asset
from assets.staging import Source
from assets.workflows.binding import Binding
from assets.workflows.workspace import leave_file, open_regular, resolve_inside
from storagecache.storages.durable import disk_errors

MAX_NAME: Final = 1024  # characters
OUTPUTS: Final = "outputs"  # folder of the workspace whose files become assets when a job ends

ContentLike: TypeAlias = bytes | bytearray | memoryview | Source | os.PathLike[str] | str

_TEXT_STREAM: Final[type] = io.TextIOBase
_MOST_UNITS: Final = 2**31 - 1  # seconds or pixels: what a column of the catalog holds


def check_name(name: str) -> None:
    """Refuse what is no name of an asset.

    Raises:
        ValueError
    """
    is_text = isinstance(name, str) and not any(letter < " " or letter == "\x7f" for letter in name)
    if not is_text or not 0 < len(name) <= MAX_NAME or name.encode("utf-8", "replace").decode() != name:
        raise ValueError(f"An asset's name has 1 to {MAX_NAME} characters, and no control characters.")


def check_measures(**measures: float | None) -> None:
    """Refuse what no column of the catalog holds as seconds or pixels.

    Raises:
        ValueError
    """
    for name, given in measures.items():
        if given is not None and not 0 <= given <= _MOST_UNITS:
            raise ValueError(f"The {name} of an asset is a number from 0 on, not {given}.")


@contextmanager
def opened_content(content: ContentLike, binding: Binding) -> Iterator[Source]:
    """Give content as a stream. A `Path` names any file, a `str` one of the workspace; a stream stays open behind it.

    Raises:
        ValueError: there is no such file, or it lies outside of the workspace.
        TypeError: it is no content.
    """
    if isinstance(content, str):
        root = Path(os.path.realpath(binding.workspace()))
        with open_regular(root, resolve_inside(binding.workspace(), content)) as file:
            yield cast("Source", file)
    elif isinstance(content, os.PathLike):
        path = Path(content)
        if not path.is_file():
            raise ValueError(f"{path.name} is no file.")
        with path.open("rb") as file:
            yield cast("Source", file)
    else:
        yield _stream_of(content)


def leave_in_outputs(name: str, content_type: str, source: Source, binding: Binding) -> Asset:
    """Write the file that becomes an asset when the job ends; nobody else's file is replaced.

    Raises:
        ValueError: there is no workspace.
    """
    with disk_errors("Cannot leave an output"):
        path, size = leave_file(binding.workspace() / OUTPUTS, name, source)
    kind = content_type or OCTET_STREAM
    return Asset(owner_id=binding.user_id, name=name, key=path.name, content_type=kind, size=size)


def _stream_of(content: bytes | bytearray | memoryview | Source) -> Source:
    if isinstance(content, bytes | bytearray | memoryview):
        return io.BytesIO(content)
    if isinstance(content, _TEXT_STREAM) or not hasattr(content, "read"):
        raise TypeError(f"Content is bytes, a binary stream or a path, not {type(content).__name__}.")
    return content
