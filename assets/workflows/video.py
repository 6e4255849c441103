"""Frames to a video file, one at a time: memory does not grow with the length."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from assets.workflows.images import array_of, image_of
from assets.workflows.libraries import need

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image


def write_video(frames: Iterable[Image.Image | np.ndarray[Any, Any]], fps: float, path: Path) -> tuple[int, int, int]:
    """Encode frames of one size as MP4 (H.264, else MPEG-4); gives their number, width and height in pixels.

    Odd sizes lose their last row or column, which 4:2:0 cannot hold.

    Raises:
        ValueError: there is no frame, one has another size than the first, or the rate is not positive.
        MissingLibraryError: av or pillow is not installed.
    """
    av = need("av", "Writing a video")
    if not 0 < fps <= 1000:
        raise ValueError(f"A video has up to 1000 frames a second, not {fps}.")
    number, track, size = 0, None, (0, 0)
    with av.open(str(path), "w", format="mp4") as container:
        for frame in frames:
            pixels = _pixels(frame)
            if track is None:
                size = (pixels.shape[1], pixels.shape[0])
                track = _track(av, container, fps, size)
            if (pixels.shape[1], pixels.shape[0]) != size:
                raise ValueError(f"Frame {number} has another size than the first, {size[0]} x {size[1]}.")
            for packet in track.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
            number += 1
        if track is None:
            raise ValueError("A video has at least one frame.")
        for packet in track.encode(None):
            container.mux(packet)
    return number, *size


def _track(av: Any, container: Any, fps: float, size: tuple[int, int]) -> Any:
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    track = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
    track.width, track.height, track.pix_fmt = *size, "yuv420p"
    return track


def _pixels(frame: Image.Image | np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Give a frame as contiguous RGB bytes with even sides."""
    numpy_ = need("numpy", "Writing a video")
    image = image_of(cast("Any", frame)) if hasattr(frame, "ndim") else frame
    pixels = array_of(image.convert("RGB"))
    height, width = pixels.shape[0] // 2 * 2, pixels.shape[1] // 2 * 2
    if not height or not width:
        raise ValueError("A video's frames have at least 2 x 2 pixels.")
    even: np.ndarray[Any, Any] = numpy_.ascontiguousarray(pixels[:height, :width])
    return even
