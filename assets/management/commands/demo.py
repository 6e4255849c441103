"""`manage.py demo`: fill the library with sample files, made here from nothing but Python's own library."""

from __future__ import annotations

import csv
import io
import json
import math
import struct
import wave
import zlib
from collections.abc import Iterator
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from assets.access import LOCAL_USER_ID
from assets.models import Asset
from assets.services import AssetDetails, create_asset
from storagecache.environment import Environment
from storagecache.errors import StorageError

WORKFLOW: Final = "demo"
_SIDE: Final = 256  # pixels
_RATE: Final = 16_000  # samples a second


class Command(BaseCommand):
    """Make sample assets for the local user, once."""

    help = "Fills the library of the local user with sample images, sounds, tables and texts."

    def handle(self, *_args: Any, **_options: Any) -> None:
        """Store every sample that is not there yet."""
        if Environment.current().storage_kind == "memory":
            raise CommandError("ASSET_STORAGE=memory: the objects would end with this command.")
        call_command("prepare", stdout=self.stdout)
        owner = get_user_model().objects.get(pk=LOCAL_USER_ID)
        there = set(Asset.objects.filter(owner=owner, workflow_id=WORKFLOW).values_list("name", flat=True))
        details = AssetDetails(workflow_id=WORKFLOW, tags=("demo",))
        made = 0
        for name, content in samples():
            if name in there:
                continue
            try:
                create_asset(owner=owner, name=name, content=io.BytesIO(content), details=details)
            except StorageError as error:
                raise CommandError(f"{name}: {error}") from error
            made += 1
        self.stdout.write(f"{made} sample assets made, {len(there)} were there.")


def samples() -> Iterator[tuple[str, bytes]]:
    """Yield (name, bytes) of every sample; the same at each call."""
    for hue in range(12):
        yield f"plasma {hue + 1:02d}.png", _png(hue)
    for number, pitch in enumerate((220.0, 277.2, 329.6, 440.0), start=1):
        yield f"tone {number}.wav", _wav(pitch)
    yield "prompts.csv", _csv()
    yield "workflow.json", json.dumps({"nodes": [{"id": i, "type": "demo.Node"} for i in range(5)]}, indent=2).encode()
    yield "notes.md", "# Notes\n\nMade by `make demo`. Grüße, 你好, 🎨.\n".encode()
    yield "log.txt", "".join(f"step {i}: ok\n" for i in range(200)).encode()
    yield "logo.svg", b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><circle cx="4" cy="4" r="4"/></svg>'


def _png(hue: int) -> bytes:
    """Draw a plasma as an RGB image (PNG specification, third edition)."""
    rows = b"".join(b"\0" + bytes(_pixel(x, y, hue, c) for x in range(_SIDE) for c in range(3)) for y in range(_SIDE))
    header = struct.pack(">IIBBBBB", _SIDE, _SIDE, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 6)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _pixel(x: int, y: int, hue: int, channel: int) -> int:
    wave_of = math.sin(x / (11 + hue)) + math.sin(y / 17 + hue) + math.sin((x + y) / 23 + channel * 2)
    return int((wave_of + 3) / 6 * 255)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _wav(pitch: float) -> bytes:
    """Play one second of a sine, 16 bits mono."""
    stream = io.BytesIO()
    with wave.open(stream, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(_RATE)
        out.writeframes(
            b"".join(struct.pack("<h", int(9000 * math.sin(2 * math.pi * pitch * i / _RATE))) for i in range(_RATE))
        )
    return stream.getvalue()


def _csv() -> bytes:
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["seed", "prompt", "score"])
    table.writerows([i, f"a house by the sea, version {i}", round(math.cos(i) ** 2, 4)] for i in range(100))
    return text.getvalue().encode()
