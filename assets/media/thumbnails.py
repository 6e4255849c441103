"""Small pictures of one picture, by Pillow. Runs in `assets.media.child` only: never in a process that serves.

An image is scaled down before it is converted wherever its mode allows that, so that memory holds one full picture.
"""

from __future__ import annotations

import io
import struct
import warnings
from dataclasses import dataclass
from typing import BinaryIO, Final

from PIL import Image

from assets.media.kinds import SIZES

MAX_PIXELS: Final = 150_000_000  # 600 MB as RGBA; the process may have twice that
# The closed list of decoders that a stranger's file may reach. EPS would start Ghostscript, others are rarely tried.
FORMATS: Final = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "ICO", "AVIF")
_ORIENTATION: Final = 0x0112  # EXIF 2.32, 4.6.4 A
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
_SIDEWAYS: Final = frozenset({5, 6, 7, 8})
_LARGEST: Final = max(SIZES)
_ICC_BYTES: Final = 16 << 10  # larger profiles are not worth their bytes in a small picture
_QUALITY: Final = 80


@dataclass(frozen=True, slots=True)
class Pictures:
    """A picture as people see it: its width and height in pixels, its average colour, and WebP bytes by size."""

    width: int
    height: int
    color: str
    by_size: dict[int, bytes]


def picture_file(source: BinaryIO) -> Pictures:
    """Decode an image file: the first frame, turned as its EXIF says.

    Raises:
        Exception: whatever Pillow raises for what is no image, is cut short, or has more than MAX_PIXELS.
    """
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    with Image.open(source, formats=FORMATS) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:  # ICO and others come round Pillow's own check
            raise Image.DecompressionBombError("more pixels than allowed")
        turn = _orientation(image)
        profile = image.info.get("icc_profile") if image.mode in ("RGB", "RGBA") else None
        small = _turned(_shrunk(image), turn)
    width, height = (height, width) if turn in _SIDEWAYS else (width, height)
    return pictures(small, width, height, profile=profile)


def pictures(small: Image.Image, width: int, height: int, *, profile: bytes | None = None) -> Pictures:
    """Make every size of a picture that is RGB or RGBA and at most as large as the largest; never larger than it is."""
    by_size = {}
    for size in sorted(SIZES, reverse=True):
        small.thumbnail((size, size), Image.Resampling.LANCZOS)
        by_size[size] = _webp(small, profile)
    return Pictures(width, height, average(small), by_size)


def average(image: Image.Image) -> str:
    """Give the average colour as #rrggbb; what is transparent does not count."""
    one = image.convert("RGBA").convert("RGBa").resize((1, 1), Image.Resampling.BOX).convert("RGBA")
    pixel = one.getpixel((0, 0))
    assert isinstance(pixel, tuple)
    red, green, blue, alpha = (int(value) for value in pixel)
    return f"#{red:02x}{green:02x}{blue:02x}" if alpha else "#808080"


def _shrunk(image: Image.Image) -> Image.Image:
    """Give the picture as RGB or RGBA, at most as large as the largest size."""
    if image.mode in ("1", "P", "PA"):  # these cannot be blended: colours first
        has_alpha = image.mode == "PA" or "transparency" in image.info
        image = image.convert("RGBA" if has_alpha else "RGB")
    elif image.mode in ("RGB", "L") and "transparency" in image.info:  # one colour stands for nothing (PNG tRNS)
        image = image.convert("RGBA")
    image.thumbnail((_LARGEST, _LARGEST), Image.Resampling.LANCZOS, reducing_gap=2.0)
    if image.mode.startswith(("I", "F")):
        image = _flattened(image)
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _flattened(image: Image.Image) -> Image.Image:
    """Bring 16-bit, 32-bit and floating grey into 8 bits: 16-bit by its whole range, others by what is in it."""
    low, high = 0.0, 65535.0
    values = image.convert("F")
    if not image.mode.startswith("I;16"):
        found = values.getextrema()
        low, high = (float(value) for value in found)  # type: ignore[arg-type]  # one band
    scale = 255.0 / (high - low) if high > low else 0.0
    return values.point(lambda value: value * scale - low * scale).convert("L")


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except (ValueError, SyntaxError, OSError, KeyError, TypeError, struct.error):  # the picture may be whole
        return 1
    return found if isinstance(found, int) else 1


def _turned(image: Image.Image, turn: int) -> Image.Image:
    return image.transpose(_TURNS[turn]) if turn in _TURNS else image


def _webp(image: Image.Image, profile: bytes | None) -> bytes:
    """Encode without metadata; a colour profile is kept when it is small."""
    out = io.BytesIO()
    icc = profile if profile and len(profile) <= _ICC_BYTES else b""
    image.save(out, "WEBP", quality=_QUALITY, method=4, icc_profile=icc, exif=b"", xmp=b"")
    return out.getvalue()
