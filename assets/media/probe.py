"""Duration, dimensions and a poster of film and sound, by PyAV. Runs in `assets.media.child` only.

A file is a stranger's: playlists and references that would open other files or addresses are not among the formats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO, Final

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from assets.media.kinds import SIZES, Kind
from assets.media.thumbnails import MAX_PIXELS, Pictures, pictures

# Names of FFmpeg's demuxers. HLS, DASH, concat and image sequences would open what they name.
FORMATS: Final = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,ogg,flac,wav,w64,mp3,aac,aiff,asf,flv,amr,caf,au"
)
_OPTIONS: Final = {"format_whitelist": FORMATS, "protocol_whitelist": "none", "enable_drefs": "0"}
_PACKETS: Final = 2000  # looked at for a picture
_COUNTED: Final = 200_000  # packets counted for a duration that the file does not tell
_POSTER_AT: Final = 3.0  # seconds at most: what is further in may not be on this machine
_LARGEST: Final = max(SIZES)
_LONGEST: Final = 10.0**9  # seconds


@dataclass(frozen=True, slots=True)
class Film:
    """What a container tells: seconds, and a picture with the dimensions of the film."""

    duration: float | None
    pictures: Pictures | None


def film_file(source: BinaryIO, kind: Kind) -> Film:
    """Look into a film, or into a sound and its cover.

    Raises:
        Exception: whatever PyAV raises for what is no such file.
    """
    with av.open(source, mode="r", options=dict(_OPTIONS), metadata_errors="ignore") as container:
        if not (container.streams.video or container.streams.audio):
            raise ValueError("neither film nor sound")
        stream = _picture_stream(container, kind)
        duration = _duration(container)
        shown = _poster(container, stream, duration) if stream else None
        return Film(_counted(container) if duration is None else duration, shown)


def _picture_stream(container: InputContainer, kind: Kind) -> VideoStream | None:
    stream = next(iter(container.streams.video), None)
    if stream is None or stream.width * stream.height > MAX_PIXELS:
        return None
    stream.codec_context.thread_count = 1  # each thread would reserve memory that is counted
    if kind == "video":
        stream.codec_context.skip_frame = "NONKEY"
    return stream


def _poster(container: InputContainer, stream: VideoStream, duration: float | None) -> Pictures | None:
    """Show a key frame a little behind the beginning, which is often black; else the first that there is."""
    for seconds in (min(_POSTER_AT, (duration or 0.0) / 10), 0.0):
        try:
            container.seek(int(seconds * av.time_base))
            frame = _first_frame(container, stream)
        except av.FFmpegError:
            continue
        if frame is not None:
            return _shown(frame, stream)
    return None


def _first_frame(container: InputContainer, stream: VideoStream) -> VideoFrame | None:
    for number, packet in enumerate(container.demux(stream)):
        for frame in packet.decode():
            return frame
        if number > _PACKETS:
            break
    return None


def _shown(frame: VideoFrame, stream: VideoStream) -> Pictures:
    """Scale before the colours are converted, and turn as the film says."""
    width, height = _with_square_pixels(frame, stream)
    scale = min(1.0, _LARGEST / max(width, height))
    scaled = frame.reformat(max(1, round(width * scale)), max(1, round(height * scale)), "rgb24")
    small: Image.Image = scaled.to_image()  # type: ignore[no-untyped-call]
    turn = round(frame.rotation) % 360
    if turn in (90, 180, 270):
        small = small.rotate(turn, expand=True)
    width, height = (height, width) if turn in (90, 270) else (width, height)
    return pictures(small, width, height)


def _with_square_pixels(frame: VideoFrame, stream: VideoStream) -> tuple[int, int]:
    """Give the size at which the film is shown: its pixels may be wider than high."""
    ratio = stream.sample_aspect_ratio
    if not ratio or not 0.1 < float(ratio) < 10:
        return frame.width, frame.height
    return max(1, round(frame.width * float(ratio))), frame.height


def _duration(container: InputContainer) -> float | None:
    """Give the seconds that the file tells, if it does."""
    told = container.duration
    return _sane(told / av.time_base) if told else None


def _counted(container: InputContainer) -> float | None:
    """Count the seconds of a file that does not tell them, as browsers record them; None when it goes on and on."""
    first, last = None, 0.0
    container.seek(0)
    for number, packet in enumerate(container.demux()):
        if number > _COUNTED:
            return None
        if packet.pts is not None and packet.time_base is not None:
            start = float(packet.pts * packet.time_base)
            first = start if first is None else min(first, start)
            last = max(last, start + float((packet.duration or 0) * packet.time_base))
    return None if first is None else _sane(last - first)


def _sane(seconds: float) -> float | None:
    return round(seconds, 3) if 0 < seconds < _LONGEST else None
