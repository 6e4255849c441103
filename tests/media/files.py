"""Media of every kind, good and bad, made here."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import av
import numpy as np
from PIL import Image

from assets.media.samples import film, tone

RED = (200, 30, 30)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    """Write an image in a format of Pillow's."""
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def flat(mode: str = "RGB", size: tuple[int, int] = (640, 400)) -> Image.Image:
    """Give one red area in a mode of Pillow's."""
    return Image.new("RGB", size, RED).convert(mode)


def array(kind: str) -> Image.Image:
    """Give grey from dark to bright in 16 or 32 bits, or as floats."""
    values = np.linspace(0, 1 if kind == "float32" else 65535, 640 * 400).reshape(400, 640)
    return Image.fromarray(values.astype(kind))


def turned(orientation: int) -> bytes:
    """Give a JPEG that its EXIF turns; its left half is red, its right half blue as it is stored."""
    image = Image.new("RGB", (640, 400), (0, 0, 255))
    image.paste(RED, (0, 0, 320, 400))
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, "JPEG", exif=exif)


def animation(form: str) -> bytes:
    """Give a red frame, then black ones."""
    return encoded(flat(), form, save_all=True, append_images=[Image.new("RGB", (640, 400))] * 3)


def png_of(width: int, height: int, rows: bytes, *, text: bytes = b"") -> bytes:
    """Give a PNG that says it is this large, whatever its rows are."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    note = _chunk(b"zTXt", b"Comment\0\0" + zlib.compress(text, 9)) if text else b""
    body = _chunk(b"IHDR", header) + note + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_bomb() -> bytes:
    """Give 1.2 GB of black in a few megabytes at most."""
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(b"\0" * (20_000 * 3 + 1) * 100) for _ in range(200)) + packer.flush()
    return png_of(20_000, 20_000, rows)


def gif_bomb() -> bytes:
    """Give a GIF of 4 gigapixels in 40 bytes."""
    screen = b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\x80\0\0" + b"\0" * 6
    return screen + b"," + struct.pack("<HHHH", 0, 0, 65535, 65535) + b"\0\x02\x02\x44\x01\0;"


def tiff_bomb() -> bytes:
    """Give a TIFF that says it is 60,000 x 60,000."""
    data = bytearray(encoded(flat("L", (16, 16)), "TIFF"))
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    for number in range(count):
        place = start + 2 + number * 12
        if struct.unpack_from("<H", data, place)[0] in (256, 257):  # ImageWidth, ImageLength
            struct.pack_into("<HII", data, place + 2, 4, 1, 60_000)
    return bytes(data)


def sound(container: str, codec: str) -> bytes:
    """Give about a second of silence."""
    out = io.BytesIO()
    with av.open(out, "w", format=container) as muxer:
        stream = muxer.add_stream(codec, rate=48_000)
        for number in range(47):
            frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), "float32"), format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = 48_000, number * 1024
            muxer.mux(stream.encode(frame))
        muxer.mux(stream.encode(None))
    return out.getvalue()


MP4 = film("mp4", "libx264")
WAV = tone(440.0, 3.0)
PNG = encoded(flat(), "PNG")
