"""Sound between numpy and the bytes of a file: any container that FFmpeg reads comes in, 16-bit WAV goes out."""

from __future__ import annotations

import io
import wave
from fractions import Fraction
from typing import TYPE_CHECKING, Any, BinaryIO

from assets.workflows.libraries import need

if TYPE_CHECKING:
    import numpy as np


def read_audio(
    stream: BinaryIO, *, sample_rate: int | None = None, mono: bool = True
) -> tuple[np.ndarray[Any, Any], int, float]:
    """Decode sound: float32 samples from -1 to 1, of shape (frames,) or (frames, channels); their rate; seconds.

    Raises:
        ValueError: it has no sound that can be read.
        MissingLibraryError: numpy or av is not installed.
    """
    numpy_, av = need("numpy", "Reading sound"), need("av", "Reading sound")
    try:
        with av.open(stream) as container:
            if not container.streams.audio:
                raise ValueError("There is no sound in this file.")
            track = container.streams.audio[0]
            rate = sample_rate or track.rate
            layout = "mono" if mono else track.layout.name
            blocks = _blocks(container, av.AudioResampler(format="flt", layout=layout, rate=rate))
            channels = 1 if mono else track.channels
            samples = numpy_.concatenate([block.reshape(-1) for block in blocks] or [numpy_.zeros(0, numpy_.float32)])
    except av.FFmpegError as error:
        raise ValueError(f"Not sound that can be read: {error}") from error
    shaped = samples if channels == 1 else samples.reshape(-1, channels)
    return shaped, rate, len(shaped) / rate


def read_duration(stream: BinaryIO) -> float:
    """Decode sound and count its seconds; memory does not grow with the length.

    Raises:
        ValueError: it has no sound that can be read.
        MissingLibraryError: av is not installed.
    """
    av = need("av", "Reading sound")
    try:
        with av.open(stream) as container:
            if not container.streams.audio:
                raise ValueError("There is no sound in this file.")
            return float(sum(Fraction(frame.samples, frame.sample_rate) for frame in container.decode(audio=0)))
    except av.FFmpegError as error:
        raise ValueError(f"Not sound that can be read: {error}") from error


def write_wav(samples: np.ndarray[Any, Any], sample_rate: int, channels: int = 1) -> bytes:
    """Encode samples as 16-bit WAV: int16 or floats from -1 to 1; (frames,), interleaved, or (frames, channels).

    Raises:
        ValueError: of another type or shape.
    """
    numpy_ = need("numpy", "Writing sound")
    count = samples.shape[1] if samples.ndim == 2 else channels
    if samples.ndim not in {1, 2} or count < 1 or samples.size % count or sample_rate < 1:
        raise ValueError(f"Sound has the shape (frames,) or (frames, channels), not {samples.shape}.")
    if samples.dtype.kind == "f":
        samples = (numpy_.nan_to_num(samples).clip(-1, 1) * 32767).round()
    elif samples.dtype != numpy_.int16:
        raise ValueError(f"Sound is int16 or float, not {samples.dtype}.")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(count)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(numpy_.ascontiguousarray(samples.astype("<i2")).tobytes())
    return buffer.getvalue()


def _blocks(container: Any, resampler: Any) -> list[Any]:
    """Decode all frames; the resampler gives its rest at the end."""
    blocks = [made.to_ndarray() for frame in container.decode(audio=0) for made in resampler.resample(frame)]
    return [*blocks, *(made.to_ndarray() for made in resampler.resample(None))]
