"""Which content types can be looked into, and as what. Pure."""

from __future__ import annotations

from typing import Final, Literal

Kind = Literal["image", "video", "audio", "table"]

SIZES: Final = (128, 256, 512)  # pixels of the longer side
ROWS: Final = 50  # of a table, at most
COLUMNS: Final = 30
PICTURE_TYPE: Final = "image/webp"

IMAGES: Final = frozenset(
    f"image/{name}"
    for name in (
        "apng", "avif", "avif-sequence", "bmp", "gif", "jpeg", "jpg", "pjpeg", "png", "tiff", "vnd.microsoft.icon",
        "vnd.mozilla.apng", "webp", "x-bmp", "x-icon", "x-ms-bmp",
    )
)  # fmt: skip


def kind_of(content_type: str) -> Kind | None:
    """Tell what to look for in bytes of this type; None for what has no picture and no duration.

    SVG is a program and HEIC has no free decoder here: neither is looked into.
    """
    bare = content_type.partition(";")[0].strip().lower()
    if bare in IMAGES:
        return "image"
    if bare.startswith("video/"):
        return "video"
    return "audio" if bare.startswith("audio/") else None
