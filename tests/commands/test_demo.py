"""`manage.py demo`: the samples are what their names say, and whole."""

from __future__ import annotations

import io
import wave

import av
import pytest
from PIL import Image

from assets.content_types import resolve_content_type
from assets.media.samples import Sample, samples


@pytest.fixture(scope="module")
def made() -> dict[str, Sample]:
    return {sample.name: sample for sample in samples()}


def test_samples_are_what_their_names_say(made: dict[str, Sample]) -> None:
    types = {resolve_content_type("", name, sample.content[:4096]) for name, sample in made.items()}
    assert types == {
        "image/png", "image/jpeg", "image/webp", "image/gif", "image/svg+xml", "audio/wav", "video/mp4", "video/webm",
        "text/csv", "text/markdown", "text/plain", "text/x-python", "application/json", "application/pdf",
        "application/octet-stream", "application/vnd.apache.parquet",
    }  # fmt: skip


def test_samples_are_whole_media(made: dict[str, Sample]) -> None:
    for name, sample in made.items():
        if name.endswith((".png", ".jpg", ".webp", ".gif")):
            with Image.open(io.BytesIO(sample.content)) as image:
                image.load()
        elif name.endswith((".mp4", ".webm")):
            with av.open(io.BytesIO(sample.content)) as film:
                assert sum(1 for _ in film.decode(video=0)) == 50, name
    with wave.open(io.BytesIO(made["tone 1.wav"].content)) as sound:
        assert sound.getnframes() == sound.getframerate()


def test_samples_are_the_same_at_each_call(made: dict[str, Sample]) -> None:
    again = {sample.name: sample for sample in samples()}
    assert again.keys() == made.keys()
    assert [name for name in made if again[name] != made[name] and not name.endswith(".mp4")] == []
