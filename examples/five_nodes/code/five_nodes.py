"""The five nodes: load an image, resize it, caption it, make a table of it, make a sound of the table.

Each is called inside its job, in a thread, a subprocess or a container, with its request and the job's view of the
world: input files by `job.inputs` or `job.asset_path(id)`, and a folder `job.outputs` for what it makes. Needs Pillow.
"""

from __future__ import annotations

import csv
import math
import wave
from pathlib import Path
from typing import Any

from PIL import Image

RATE = 8000  # samples a second


def load_image(request: dict[str, Any], job: Any) -> dict[str, int]:
    """Decode any image and leave it as PNG."""
    with Image.open(_only_input(job)) as image:
        image.convert("RGB").save(job.outputs / "image.png")
        job.log(f"loaded {image.width} x {image.height}")
        return {"width": image.width, "height": image.height}


def resize(request: dict[str, Any], job: Any) -> None:
    """Fit the image into a square of `size` pixels."""
    with Image.open(_only_input(job)) as image:
        image.thumbnail((request["size"], request["size"]))
        image.save(job.outputs / "small.png")


def caption(request: dict[str, Any], job: Any) -> str:
    """Describe the image in one sentence."""
    with Image.open(_only_input(job)) as image:
        red, green, blue = image.resize((1, 1)).getpixel((0, 0))
    name = max(("red", red), ("green", green), ("blue", blue), key=lambda pair: pair[1])[0]
    text = f"{request['greeting']}, a mostly {name} picture of {image.width} by {image.height} pixels."
    (job.outputs / "caption.txt").write_text(text, encoding="utf-8")
    return text


def table(request: dict[str, Any], job: Any) -> int:
    """Write one row for each column of pixels: its mean brightness, beside the caption in the first row."""
    files = {Path(entry["path"]).suffix or entry["type"]: entry["path"] for entry in job.inputs}
    text = Path(files[".txt"]).read_text(encoding="utf-8")
    with Image.open(files[".png"]) as image:
        row = image.convert("L").resize((image.width, 1)).tobytes()
    with (job.outputs / "columns.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["column", "brightness", "note"])
        writer.writerows([x, value, text if x == 0 else ""] for x, value in enumerate(row))
    return len(row)


def sound(request: dict[str, Any], job: Any) -> float:
    """Play each row of the table as a tone; returns the seconds."""
    with _only_input(job).open(newline="", encoding="utf-8") as file:
        levels = [int(row["brightness"]) for row in csv.DictReader(file)]
    length = round(RATE * request["seconds"])
    with wave.open(str(job.outputs / "columns.wav"), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(1)
        out.setframerate(RATE)
        for level in levels:
            pitch = 200 + 4 * level  # Hz
            out.writeframes(bytes(128 + round(90 * math.sin(2 * math.pi * pitch * n / RATE)) for n in range(length)))
    return len(levels) * length / RATE


def _only_input(job: Any) -> Path:
    (entry,) = job.inputs
    return Path(entry["path"])
