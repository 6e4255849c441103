"""What nodes ask for by kind: images, sound, text, tables and video, as objects in and references out.

Without a name a result stays in this process (`memory://`), or becomes a temporary asset when it is too large for that;
with one it becomes an asset.
"""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from assets.workflows import audio, images, tables, video
from assets.workflows.core import CoreContext
from assets.workflows.finding import AssetLike
from assets.workflows.libraries import need
from assets.workflows.making import ContentLike
from assets.workflows.memory_values import value_content
from assets.workflows.references import AssetRef, AudioRef, DataframeRef, ImageRef, TextRef, VideoRef, decode_base64
from assets.workflows.resolving import content_of
from assets.workflows.threads import anywhere, twin

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from PIL import Image

R = TypeVar("R", bound=AssetRef)


class MediaContext(CoreContext):
    """The typed helpers: ValueError for what is no image, sound or table; MissingLibraryError names a package."""

    # --- images --------------------------------------------------------------------------------

    @anywhere
    def image_to_pil(self, image: AssetLike) -> Image.Image:
        """Decode an image; of a memory:// reference a copy is given."""
        kept = self.memory_value(image) if isinstance(image, ImageRef) else None
        if kept is not None and hasattr(kept, "getbands"):
            return cast("Image.Image", kept.copy())
        with self.asset_to_io(image) as stream:
            return images.read_image(stream)

    @anywhere
    def image_to_numpy(self, image: AssetLike) -> np.ndarray[Any, Any]:
        """Decode an image to an array of shape (height, width[, channels]), uint8 for usual images."""
        return images.array_of(self.image_to_pil(image))

    @anywhere
    def image_from_pil(self, image: Image.Image, name: str | None = None, parent_id: str | None = None) -> ImageRef:
        """Keep an image, or store it under a name: as PNG unless the name says .jpg or .webp."""
        if name is None:
            return self._kept(image.copy(), ImageRef)
        data, content_type = images.write_image(image, name)
        asset = self.create_asset(name, content_type, data, parent_id, width=image.width, height=image.height)
        return self._reference(asset, ImageRef)

    @anywhere
    def image_from_numpy(
        self, array: np.ndarray[Any, Any], name: str | None = None, parent_id: str | None = None
    ) -> ImageRef:
        """Keep or store an array of shape (height, width[, channels]): uint8, bool, or floats from 0 to 1."""
        return self.image_from_pil(images.image_of(array), name, parent_id)

    @anywhere
    def image_from_bytes(self, data: bytes, name: str | None = None, parent_id: str | None = None) -> ImageRef:
        """Keep or store the bytes of an image file."""
        return self._file(data, name, parent_id, "", ImageRef)

    @anywhere
    def image_from_base64(self, text: str, name: str | None = None, parent_id: str | None = None) -> ImageRef:
        """Keep or store the bytes of an image file, given as base64."""
        return self._file(decode_base64(text), name, parent_id, "", ImageRef)

    @anywhere
    def image_from_io(self, stream: ContentLike, name: str | None = None, parent_id: str | None = None) -> ImageRef:
        """Keep or store the image file in a stream."""
        return self._file(stream, name, parent_id, "", ImageRef)

    @anywhere
    def image_from_url(self, url: str, name: str | None = None, parent_id: str | None = None) -> ImageRef:
        """Download an image (see `download_file`) and keep or store it."""
        with self.download_file(url) as stream:
            return self._file(stream, name, parent_id, "", ImageRef)

    @anywhere
    def image_to_base64(self, image: AssetLike) -> str:
        """Give an image as the base64 of a PNG file."""
        return base64.b64encode(value_content(self.image_to_pil(image))[0]).decode("ascii")

    # --- sound ---------------------------------------------------------------------------------

    @anywhere
    def audio_to_numpy(
        self, sound: AssetLike, sample_rate: int | None = None, mono: bool = True
    ) -> tuple[np.ndarray[Any, Any], int, float]:
        """Decode sound: float32 samples (frames[, channels]) from -1 to 1, the rate (None: the file's), seconds."""
        with self.asset_to_io(sound) as stream:
            return audio.read_audio(stream, sample_rate=sample_rate, mono=mono)

    @anywhere
    def audio_duration(self, sound: AssetLike) -> float:
        """Give the length of sound in seconds, by decoding it piece by piece."""
        with self.asset_to_io(sound) as stream:
            return audio.read_duration(stream)

    @anywhere
    def audio_from_numpy(
        self,
        samples: np.ndarray[Any, Any],
        sample_rate: int,
        num_channels: int = 1,
        name: str | None = None,
        parent_id: str | None = None,
    ) -> AudioRef:
        """Keep or store samples as 16-bit WAV: int16 or floats, (frames,), interleaved or (frames, channels)."""
        data = audio.write_wav(samples, sample_rate, num_channels)
        if name is None:
            return self._kept(data, AudioRef)
        seconds = samples.size / (samples.shape[1] if samples.ndim == 2 else num_channels) / sample_rate
        return self._reference(self.create_asset(name, "audio/wav", data, parent_id, duration=seconds), AudioRef)

    @anywhere
    def audio_from_bytes(self, data: bytes, name: str | None = None, parent_id: str | None = None) -> AudioRef:
        """Keep or store the bytes of a sound file."""
        return self._file(data, name, parent_id, "", AudioRef)

    @anywhere
    def audio_from_io(self, stream: ContentLike, name: str | None = None, parent_id: str | None = None) -> AudioRef:
        """Keep or store the sound file in a stream."""
        return self._file(stream, name, parent_id, "", AudioRef)

    # --- text ----------------------------------------------------------------------------------

    @anywhere
    def text_to_str(self, text: AssetLike) -> str:
        """Read a text as UTF-8; a plain str is no address and is given back.

        Raises:
            ValueError: it is not UTF-8.
        """
        return text if isinstance(text, str) else self.asset_to_bytes(text).decode("utf-8-sig")

    @anywhere
    def text_from_str(
        self, text: str, name: str | None = None, content_type: str = "text/plain", parent_id: str | None = None
    ) -> TextRef:
        """Keep a text, or store it under a name."""
        if name is None:
            return TextRef(data=text)
        return self._file(text.encode(), name, parent_id, content_type, TextRef)

    # --- tables --------------------------------------------------------------------------------

    @anywhere
    def dataframe_to_pandas(self, table: AssetLike) -> pd.DataFrame:
        """Read a table: inline rows, Parquet, CSV, JSON rows or JSON lines; of a memory:// reference a copy."""
        if isinstance(table, DataframeRef):
            kept = self.memory_value(table)
            if hasattr(kept, "iloc"):
                return cast("pd.DataFrame", kept.copy())
            if table.has_rows():
                made = need("pandas", "Making a table").DataFrame(table.data, columns=list(table.columns) or None)
                return cast("pd.DataFrame", made)
        found = content_of(table, self._finder)
        with found.open_whole() as stream:
            return tables.read_table(stream, found.content_type)

    @anywhere
    def dataframe_from_pandas(
        self, frame: pd.DataFrame, name: str | None = None, parent_id: str | None = None
    ) -> DataframeRef:
        """Keep a table, or store it under a name: as Parquet unless the name says .csv, .json or .jsonl."""
        if name is None:
            return self._kept(frame.copy(), DataframeRef)
        data, content_type = tables.write_table(frame, name)
        return self._file(data, name, parent_id, content_type, DataframeRef)

    # --- video ---------------------------------------------------------------------------------

    @anywhere
    def video_from_frames(
        self,
        frames: Iterable[Image.Image | np.ndarray[Any, Any]],
        fps: float = 30.0,
        name: str | None = None,
        parent_id: str | None = None,
    ) -> VideoRef:
        """Encode frames of one size as an MP4 file and store it: as an asset under a name, else as a temporary one.

        Frames are taken one at a time, so that a generator of any length needs the memory of a few.
        """
        with tempfile.TemporaryDirectory(prefix="nodetool-video-") as folder:
            path = Path(folder, "video.mp4")
            number, width, height = video.write_video(frames, fps, path)
            asset = self.create_asset(
                name or "video.mp4", "video/mp4", path, parent_id,
                duration=number / fps, width=width, height=height, temporary=name is None,
            )  # fmt: skip
        return self._reference(asset, VideoRef)

    @anywhere
    def video_from_bytes(self, data: bytes, name: str | None = None, parent_id: str | None = None) -> VideoRef:
        """Keep or store the bytes of a video file."""
        return self._file(data, name, parent_id, "", VideoRef)

    @anywhere
    def video_from_io(self, stream: ContentLike, name: str | None = None, parent_id: str | None = None) -> VideoRef:
        """Keep or store the video file in a stream."""
        return self._file(stream, name, parent_id, "", VideoRef)

    aimage_to_pil = twin(image_to_pil)
    aimage_to_numpy = twin(image_to_numpy)
    aimage_to_base64 = twin(image_to_base64)
    aimage_from_pil = twin(image_from_pil)
    aimage_from_numpy = twin(image_from_numpy)
    aimage_from_bytes = twin(image_from_bytes)
    aimage_from_base64 = twin(image_from_base64)
    aimage_from_io = twin(image_from_io)
    aimage_from_url = twin(image_from_url)
    aaudio_to_numpy = twin(audio_to_numpy)
    aaudio_duration = twin(audio_duration)
    aaudio_from_numpy = twin(audio_from_numpy)
    aaudio_from_bytes = twin(audio_from_bytes)
    aaudio_from_io = twin(audio_from_io)
    atext_to_str = twin(text_to_str)
    atext_from_str = twin(text_from_str)
    adataframe_to_pandas = twin(dataframe_to_pandas)
    adataframe_from_pandas = twin(dataframe_from_pandas)
    avideo_from_frames = twin(video_from_frames)
    avideo_from_bytes = twin(video_from_bytes)
    avideo_from_io = twin(video_from_io)

    # --- keeping and storing -------------------------------------------------------------------

    def _file(
        self, content: ContentLike, name: str | None, parent_id: str | None, content_type: str, kind: type[R]
    ) -> R:
        """Store a file under a name; without one keep bytes here, and a stream as a temporary asset."""
        if name is None and isinstance(content, bytes):
            return self._kept(content, kind)
        asset = self.create_asset(name or f"{kind.type}", content_type, content, parent_id, temporary=name is None)
        return self._reference(asset, kind)

    def _kept(self, value: Any, kind: type[R]) -> R:
        uri = self.keep_in_memory(value)
        if uri is not None:
            return kind(uri=uri)
        data, content_type = value_content(value)
        return self._reference(self.create_asset(kind.type, content_type, data, temporary=True), kind)

    def _reference(self, asset: Any, kind: type[R]) -> R:
        return cast("R", self.reference_to(asset, kind))
