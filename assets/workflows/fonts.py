"""Where fonts are: FONT_PATH first, then the system's own folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_SYSTEM: Final = (
    "~/.local/share/fonts", "~/.fonts", "/usr/local/share/fonts", "/usr/share/fonts",
    "~/Library/Fonts", "/Library/Fonts", "/System/Library/Fonts", "C:/Windows/Fonts",
)  # fmt: skip
_EXTENSIONS: Final = (".ttf", ".otf", ".ttc", ".woff", ".woff2")


def find_font(name: str, font_path: Path | None) -> Path:
    """Find a font file by its name, in any case, with or without its extension.

    Only names are compared, so that no name leads out of the folders of fonts.

    Raises:
        FileNotFoundError: no folder has it.
    """
    wanted = name.casefold()
    for folder in _folders(font_path):
        for path in _fonts_in(folder):
            if wanted in {path.name.casefold(), path.stem.casefold()}:
                return path
    raise FileNotFoundError(f"Font {name[:80]!r} not found. Install it, or set FONT_PATH to a folder that has it.")


def _folders(font_path: Path | None) -> Iterator[Path]:
    if font_path is not None:
        yield font_path
    yield from (Path(folder).expanduser() for folder in _SYSTEM)


def _fonts_in(folder: Path) -> Iterator[Path]:
    if folder.is_file():  # FONT_PATH may name a font itself
        yield folder
    for parent, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(parent, name) for name in sorted(names) if name.lower().endswith(_EXTENSIONS))
