"""Sample files of every kind, made from nothing: for `make demo` and for tests.

The same bytes at each call, but for x264, which does not promise that.
"""

from __future__ import annotations

import colorsys
import csv
import io
import json
import math
import struct
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import av
from av.video.stream import VideoStream
from PIL import Image, ImageDraw

_SIZES: Final = ((1024, 768), (768, 1024), (1200, 675), (640, 640), (900, 300))
_RATE: Final = 16_000  # samples a second
_FRAMES: Final = 50
_FRAMES_A_SECOND: Final = 25


@dataclass(frozen=True, slots=True)
class Sample:
    """A file as somebody might upload it, and the node that might have made it, out of the sample named `source`.

    `folder` is the name of the folder that it lies in; "" is home.
    """

    name: str
    content: bytes
    node: str
    metadata: dict[str, int | str]
    folder: str = ""
    source: str = ""


def samples() -> Iterator[Sample]:
    """Yield samples of every kind: pictures, sounds, films, texts, tables, documents and models."""
    yield from _pictures()
    yield from _sounds()
    for number in range(3):
        yield _sample(f"wave {number + 1}.mp4", film("mp4", "libx264", hue=number / 3), "demo.Video", number)
    yield _sample("wave.webm", film("webm", "libvpx", hue=0.8), "demo.Video", 3, source="wave 3.mp4")
    yield from _texts()
    yield from _documents()


def picture(number: int) -> Image.Image:
    """Draw rings in two colours, in one of several shapes of canvas."""
    size = _SIZES[number % len(_SIZES)]
    light, dark = _colour(number / 11, 0.9), _colour(number / 11 + 0.4, 0.35)
    canvas = Image.composite(
        Image.new("RGB", size, dark), Image.new("RGB", size, light), Image.radial_gradient("L").resize(size)
    )
    draw = ImageDraw.Draw(canvas)
    for ring in range(3 + number % 5):
        centre = (size[0] * (ring + 1) // (4 + number % 5), size[1] * (1 + (ring * 7 + number) % 5) // 6)
        draw.circle(centre, min(size) // (5 + ring), outline=_colour(number / 11 + ring / 9, 1.0), width=9)
    return canvas


def film(container: str, codec: str, *, hue: float = 0.3, frames: int = _FRAMES) -> bytes:
    """Film a ball that crosses the sky: 320 x 180, 25 frames a second, without sound."""
    out = io.BytesIO()
    with av.open(out, "w", format=container, options={"fflags": "bitexact"}) as muxer:  # no random ids
        stream = muxer.add_stream(codec, rate=_FRAMES_A_SECOND)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        stream.codec_context.thread_count = 1
        for number in range(frames):
            frame = av.VideoFrame.from_image(_still(number / frames, hue))  # type: ignore[no-untyped-call]
            muxer.mux(stream.encode(frame))
        muxer.mux(stream.encode())
    return out.getvalue()


def tone(pitch: float, seconds: float = 1.0) -> bytes:
    """Play a sine, 16 bits mono, as WAV."""
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(_RATE)
        steps = range(int(_RATE * seconds))
        sound.writeframes(
            b"".join(struct.pack("<h", int(9000 * math.sin(2 * math.pi * pitch * i / _RATE))) for i in steps)
        )
    return out.getvalue()


def pdf(text: str) -> bytes:
    """Write a page with one line of ASCII (ISO 32000-1 7.5)."""
    page = f"BT /F1 24 Tf 72 720 Td ({text}) Tj ET".encode("ascii")
    parts = (
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources "
        b"<< /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(page), page),
    )
    out, places = bytearray(b"%PDF-1.4\n"), []
    for number, part in enumerate(parts, start=1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, part)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    end = b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(parts) + 1, len(out))
    return bytes(out) + b"xref\n0 %d\n0000000000 65535 f \n" % (len(parts) + 1) + table + end


def _pictures() -> Iterator[Sample]:
    for number in range(36):
        form = ("PNG", "JPEG", "WEBP")[number % 3]
        name = f"rings {number + 1:02d}.{form.lower().replace('jpeg', 'jpg')}"
        yield _sample(name, _encoded(picture(number), form), "demo.Image", number)
    frames = [_still(step / 8, 0.6) for step in range(8)]
    moving = _encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=80, loop=0)
    yield _sample("ball.gif", moving, "demo.Animation", 0, source="rings 01.png")
    glass = picture(3).convert("RGBA")
    glass.putalpha(Image.linear_gradient("L").resize(glass.size))
    yield _sample("glass.png", _encoded(glass, "PNG"), "demo.Image", 99, source="rings 04.png")
    logo = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><circle cx="4" cy="4" r="4"/></svg>'
    yield _sample("logo.svg", logo, "demo.Vector", 0)


def _sounds() -> Iterator[Sample]:
    for number, pitch in enumerate((220.0, 277.2, 329.6, 440.0), start=1):
        yield _sample(f"tone {number}.wav", tone(pitch), "demo.Audio", number, folder="Sounds")


def _texts() -> Iterator[Sample]:
    yield _sample(
        "notes.md", "# Notes\n\nMade by `make demo`. Grüße, 你好, 🎨.\n".encode(), "demo.Text", 1, folder="Texts"
    )
    yield _sample("log.txt", "".join(f"step {i}: ok\n" for i in range(200)).encode(), "demo.Text", 2, folder="Texts")
    nodes = {"nodes": [{"id": i, "type": "demo.Node"} for i in range(5)]}
    yield _sample("workflow.json", json.dumps(nodes, indent=2).encode(), "demo.Text", 3, folder="Texts")
    yield _sample("sample.py", b'"""A program."""\n\nprint("hello")\n', "demo.Text", 4, folder="Texts")


def _documents() -> Iterator[Sample]:
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["seed", "prompt", "score"])
    table.writerows([i, f"a house by the sea, version {i}", round(math.cos(i) ** 2, 4)] for i in range(100))
    yield _sample("prompts.csv", text.getvalue().encode(), "demo.Table", 1, folder="Data")
    yield _sample("scores.parquet", _parquet(), "demo.Table", 2, folder="Data", source="prompts.csv")
    yield _sample("report.pdf", pdf("Made by make demo"), "demo.Document", 1, folder="Data", source="scores.parquet")
    yield _sample("triangle.gltf", _gltf(), "demo.Model", 1, folder="Models")
    yield _sample("weights.safetensors", _safetensors(), "demo.Model", 2, folder="Models")


def _parquet() -> bytes:
    """Keep a table with texts, numbers and gaps."""
    import pyarrow as pa
    from pyarrow.parquet import write_table

    table = pa.table(
        {
            "seed": list(range(500)),
            "prompt": [f"a lighthouse in the fog, version {i}" for i in range(500)],
            "score": [None if i % 7 == 0 else round(math.sin(i) ** 2, 4) for i in range(500)],
            "model": [f"model-{i % 3}" for i in range(500)],
        }
    )
    out = io.BytesIO()
    write_table(table, out, compression="zstd")
    return out.getvalue()


def _sample(name: str, content: bytes, node: str, seed: int, *, folder: str = "", source: str = "") -> Sample:
    metadata: dict[str, int | str] = {"seed": seed, "prompt": f"{node.partition('.')[2].lower()} number {seed}"}
    return Sample(name, content, node, metadata, folder, source)


def _colour(hue: float, value: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, 0.7, value)
    return int(red * 255), int(green * 255), int(blue * 255)


def _still(at: float, hue: float) -> Image.Image:
    """Paint a ball over hills, under a sky that changes with the time."""
    size = (320, 180)
    sky = Image.new("RGB", size, _colour(hue, 0.35 + 0.4 * at)), Image.new("RGB", size, _colour(hue + 0.12, 0.9))
    still = Image.composite(sky[1], sky[0], Image.linear_gradient("L").resize(size))
    draw = ImageDraw.Draw(still)
    draw.circle((20 + 280 * at, 80 + 50 * math.sin(at * 6)), 22, fill=_colour(hue + 0.5, 1.0))
    draw.ellipse((-60, 130, 190, 290), fill=_colour(hue + 0.3, 0.4))
    draw.ellipse((120, 140, 400, 300), fill=_colour(hue + 0.3, 0.3))
    return still


def _encoded(image: Image.Image, form: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def _gltf() -> bytes:
    """Describe a triangle (glTF 2.0) with its three corners inside."""
    corners = "data:application/octet-stream;base64,AAAAAAAAAAAAAAAAAACAPwAAAAAAAAAAAAAAAAAAgD8AAAAA"
    bounds = {"min": [0, 0, 0], "max": [1, 1, 0]}
    model = {
        "asset": {"version": "2.0"},
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "buffers": [{"uri": corners, "byteLength": 36}],
        "bufferViews": [{"buffer": 0, "byteLength": 36}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3", **bounds}],
    }
    return json.dumps(model).encode()


def _safetensors() -> bytes:
    """Hold one tensor of 256 floats (safetensors: length of the header, header, data)."""
    header = json.dumps({"layer.weight": {"dtype": "F32", "shape": [16, 16], "data_offsets": [0, 1024]}}).encode()
    return struct.pack("<Q", len(header)) + header + struct.pack("<256f", *(math.sin(i) for i in range(256)))
