"""`manage.py demo` as a process: what it makes can be listed and read."""

from __future__ import annotations

import struct
import wave
import zlib
from io import BytesIO

from assets.content_types import resolve_content_type
from assets.management.commands.demo import samples


def test_samples_are_what_their_names_say() -> None:
    made = dict(samples())
    assert len(made) == 21
    assert {resolve_content_type("", name, content[:4096]) for name, content in made.items()} == {
        "image/png", "audio/wav", "text/csv", "application/json", "text/markdown", "text/plain", "image/svg+xml",
    }  # fmt: skip


def test_samples_are_whole_media() -> None:
    made = dict(samples())
    image = made["plasma 01.png"]
    width, height = struct.unpack(">II", image[16:24])
    start = image.index(b"IDAT") + 4
    (length,) = struct.unpack(">I", image[start - 8 : start - 4])
    assert len(zlib.decompress(image[start : start + length])) == height * (width * 3 + 1)
    with wave.open(BytesIO(made["tone 1.wav"])) as sound:
        assert sound.getnframes() == sound.getframerate()


def test_samples_are_the_same_at_each_call() -> None:
    assert dict(samples()) == dict(samples())
