"""Images between PIL, numpy and the bytes of a file."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from assets.content_types import guess_content_type
from assets.workflows.libraries import need

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

_FORMATS: Final = {"image/jpeg": "JPEG", "image/webp": "WEBP"}  # whatever else a name says becomes PNG
_JPEG_MODES: Final = frozenset({"L", "RGB", "CMYK"})


def read_image(stream: BinaryIO) -> Image.Image:
    """Decode an image whole.

    Raises:
        ValueError: it is no image, or too large a one (Pillow's bound against decompression bombs).
        MissingLibraryError: pillow is not installed.
    """
    image_module = need("PIL.Image", "Reading an image")
    try:
        image: Image.Image = image_module.open(stream)
        image.load()
    except (OSError, SyntaxError, image_module.DecompressionBombError) as error:
        raise ValueError(f"Not an image that can be read: {error}") from error
    return image


def write_image(image: Image.Image, name: str) -> tuple[bytes, str]:
    """Encode an image in the form that its name asks for (.jpg, .webp), else as PNG; gives the content type."""
    content_type = guess_content_type(name)
    buffer = io.BytesIO()
    if content_type not in _FORMATS:
        _as_png(image).save(buffer, "PNG")
        return buffer.getvalue(), "image/png"
    flat = image.convert("RGB") if content_type == "image/jpeg" and image.mode not in _JPEG_MODES else image
    flat.save(buffer, _FORMATS[content_type])
    return buffer.getvalue(), content_type


def image_of(array: np.ndarray[Any, Any]) -> Image.Image:
    """Make an image of an array of shape (height, width[, 1, 2, 3 or 4]): bytes, truths, or floats from 0 to 1.

    Raises:
        ValueError: of another shape or type.
    """
    image_module, numpy_ = need("PIL.Image", "Making an image"), need("numpy", "Making an image")
    plain = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    if plain.ndim not in {2, 3} or (plain.ndim == 3 and plain.shape[2] not in {2, 3, 4}) or 0 in plain.shape:
        raise ValueError(f"An image has the shape (height, width[, channels]), not {array.shape}.")
    if plain.dtype.kind == "f":
        plain = numpy_.nan_to_num(plain).clip(0, 1) * 255 + 0.5
    elif plain.dtype.kind == "b":
        plain = plain.astype(numpy_.uint8) * 255
    elif plain.dtype != numpy_.uint8:
        raise ValueError(f"An image's values are uint8, bool or float, not {plain.dtype}.")
    made: Image.Image = image_module.fromarray(numpy_.ascontiguousarray(plain.astype(numpy_.uint8)))
    return made


def array_of(image: Image.Image) -> np.ndarray[Any, Any]:
    """Give the pixels as a writable array of shape (height, width[, channels]); palettes become colours."""
    numpy_ = need("numpy", "Turning an image into an array")
    pixels: np.ndarray[Any, Any] = numpy_.array(image.convert("RGBA") if image.mode in {"P", "PA"} else image)
    return pixels


def _as_png(image: Image.Image) -> Image.Image:
    return image if image.mode in {"1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA"} else image.convert("RGB")
