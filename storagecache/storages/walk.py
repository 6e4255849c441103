"""The order in which S3 lists keys, for storages made of folders. Pure: the caller says what a folder holds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator


def walk(
    list_folder: Callable[[str], Iterable[str]],
    *,
    folder: str = "",
    start_after: str = "",
    skip_prefixes: tuple[str, ...] = (),
) -> Iterator[str]:
    """Yield the keys behind `start_after` in bytewise order, holding one folder's names per level.

    `list_folder("ab/")` gives the names in that folder, those of folders with a `/` at the end: with it they sort
    as their keys do (`a.x` before `a/x` before `a0`). A folder that cannot hold a wanted key is never asked for.
    """
    for name in sorted(list_folder(folder), key=os.fsencode):
        key = folder + name
        if key.startswith(skip_prefixes):
            continue
        if not key.endswith("/"):
            if _is_behind(key, start_after):
                yield key
        elif start_after.startswith(key) or _is_behind(key, start_after):
            yield from walk(list_folder, folder=key, start_after=start_after, skip_prefixes=skip_prefixes)


def _is_behind(key: str, other: str) -> bool:
    return os.fsencode(key) > os.fsencode(other)
