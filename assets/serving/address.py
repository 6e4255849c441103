"""Which bucket and key a path names: /storage/<bucket>/<key>, and NodeTool's two older addresses. Pure."""

from __future__ import annotations

from typing import Final

from storagecache.keys import decode_key

PREFIXES: Final = (
    (b"/storage/assets/", "assets"),
    (b"/storage/temp/", "temp"),
    (b"/api/storage/temp/", "temp"),
    (b"/api/storage/", "assets"),
)


def split_path(path: bytes) -> tuple[str, str] | None:
    """Give bucket and key of a path whose percent-encoding is undone; None for any other address.

    Raises:
        InvalidKeyError: what the grammar of keys refuses.
    """
    for prefix, bucket in PREFIXES:
        if path.startswith(prefix):
            return bucket, decode_key(path[len(prefix) :])
    return None
