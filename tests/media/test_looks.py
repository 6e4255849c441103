"""What a look finds in files of every kind, and what it costs when they are hostile."""

from __future__ import annotations

import io
import os
import tempfile
import time
from collections.abc import Callable

import pytest
from PIL import Image

from assets.media.child import MEMORY
from assets.media.kinds import Kind, kind_of
from assets.media.samples import film
from assets.media.sandbox import NoPreviewError, Preview, look_into, parse
from assets.media.thumbnails import MAX_PIXELS
from tests.media import files
from tests.media.files import MP4, PNG, WAV, array, encoded, flat


def look(data: bytes, kind: Kind = "image", *, seconds: float = 60) -> Preview:
    """Have bytes looked into."""
    with tempfile.TemporaryFile() as source:
        source.write(data)
        source.flush()
        return look_into(source, kind, seconds=seconds)


def shown(preview: Preview, size: int = 512) -> Image.Image:
    """Decode a picture that was made."""
    image = Image.open(io.BytesIO(preview.pictures[size]))
    assert image.format == "WEBP"
    return image


IMAGES = {
    **{form.lower(): lambda form=form: encoded(flat(), form) for form in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")},
    "avif": lambda: encoded(flat(), "AVIF"),
    "palette": lambda: encoded(flat().quantize(8), "PNG"),
    "cmyk jpeg": lambda: encoded(flat("CMYK"), "JPEG"),
    "cmyk tiff": lambda: encoded(flat("CMYK"), "TIFF"),
    "gif animation": lambda: files.animation("GIF"),
    "webp animation": lambda: files.animation("WEBP"),
    "png animation": lambda: files.animation("PNG"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_image_of_each_form_is_measured_and_shown(name: str) -> None:
    found = look(IMAGES[name]())
    assert (found.width, found.height, found.duration) == (640, 400, None)
    assert {size: shown(found, size).size for size in found.pictures} == {
        512: (512, 320), 256: (256, 160), 128: (128, 80),
    }  # fmt: skip
    red, green, blue = (int(found.color[i : i + 2], 16) for i in (1, 3, 5))
    assert max(abs(red - 200), abs(green - 30), abs(blue - 30)) < 9


@pytest.mark.parametrize("kind", ["uint16", "int32", "float32"])
def test_deep_grey_keeps_its_range(kind: str) -> None:
    found = shown(look(encoded(array(kind), "TIFF"))).convert("L")
    low, high = found.getextrema()
    assert (low < 8, high > 247) == (True, True), (low, high)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_image_stays_transparent(mode: str) -> None:
    image = flat("RGBA")
    image.putalpha(Image.new("L", image.size, 90))
    found = look(encoded(image.convert(mode), "PNG"))
    assert shown(found).getextrema()[3] == (90, 90)
    assert mode == "LA" or found.color in ("#c81e1e", "#c91f1f")  # what is transparent does not make it darker


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_photo_is_shown_upright(orientation: int) -> None:
    found = look(files.turned(orientation))
    sideways = orientation > 4
    assert (found.width, found.height) == ((400, 640) if sideways else (640, 400))
    picture = shown(found).convert("RGB")
    width, height = picture.size
    first = picture.getpixel((width // 8, height // 8))
    assert isinstance(first, tuple)
    assert (first[0] > first[2]) == (orientation in (1, 4, 5, 6))


@pytest.mark.parametrize(("width", "height"), [(3, 2), (1, 1), (9000, 1), (1, 9000)])
def test_tiny_and_thin_image_is_not_enlarged(width: int, height: int) -> None:
    found = look(encoded(flat(size=(width, height)), "PNG"))
    assert (found.width, found.height) == (width, height)
    assert shown(found).size == (min(width, 512), min(height, 512))


FILMS = {
    "mp4": lambda: MP4,
    "mov": lambda: film("mov", "mpeg4"),
    "webm": lambda: film("webm", "libvpx"),
    "mkv": lambda: film("matroska", "mpeg4"),
    "avi": lambda: film("avi", "mpeg4"),
    "mpeg": lambda: film("mpegts", "mpeg2video"),
}


@pytest.mark.parametrize("name", FILMS)
def test_film_of_each_form_is_measured_and_shown(name: str) -> None:
    found = look(FILMS[name](), "video")
    assert (found.width, found.height) == (320, 180)
    assert found.duration == pytest.approx(2.0, abs=0.1)
    assert shown(found).size == (320, 180)
    assert shown(found, 128).size == (128, 72)


@pytest.mark.parametrize(
    ("container", "codec"),
    [("mp3", "libmp3lame"), ("adts", "aac"), ("ogg", "libopus"), ("flac", "flac"), ("ipod", "aac"), ("wav", "")],
)
def test_sound_of_each_form_is_measured(container: str, codec: str) -> None:
    found = look(files.sound(container, codec) if codec else WAV, "audio")
    assert found.duration == pytest.approx(1.0 if codec else 3.0, abs=0.15)
    assert (found.width, found.color, dict(found.pictures)) == (None, "", {})


def test_film_without_pictures_is_measured_only() -> None:
    found = look(WAV, "video")
    assert (found.duration, found.color) == (3.0, "")


BAD: dict[str, tuple[Kind, Callable[[], bytes]]] = {
    "empty": ("image", lambda: b""),
    "junk": ("image", lambda: os.urandom(4000)),
    "100k x 100k": ("image", lambda: files.png_of(100_000, 100_000, b"")),
    "png bomb": ("image", files.png_bomb),
    "gif bomb": ("image", files.gif_bomb),
    "tiff bomb": ("image", files.tiff_bomb),
    "text bomb": ("image", lambda: files.png_of(8, 8, b"", text=b"a" * (200 << 20))),
    "cut png": ("image", lambda: encoded(Image.effect_noise((300, 300), 50), "PNG")[:9000]),
    "cut jpeg": ("image", lambda: encoded(Image.effect_noise((300, 300), 50), "JPEG")[:5000]),
    "html behind a jpeg's mark": ("image", lambda: b"\xff\xd8\xff\xe0<html><script>alert(1)</script>"),
    "postscript": ("image", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n"),
    "playlist": ("video", lambda: b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n"),
    "list of files": ("video", lambda: b"ffconcat version 1.0\nfile '/etc/passwd'\n"),
    "cut mp4": ("video", lambda: MP4[: len(MP4) // 2]),
    "boxes of zeros": ("video", lambda: b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + b"\0" * 5000),
    "image as film": ("video", lambda: PNG),
    "junk sound": ("audio", lambda: b"x" * 4000),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_file_is_refused_with_a_short_reason(name: str) -> None:
    kind, make = BAD[name]
    with pytest.raises(NoPreviewError) as refusal:
        look(make(), kind)
    assert str(refusal.value).isidentifier(), "the name of an error; nothing of the file"


def test_playlist_opens_no_file_that_it_names(tmp_path: object) -> None:
    """A playlist in a film's clothes must not read this machine's files (CVE-2016-1897)."""
    path = f"{tmp_path}/secret.ts"
    with open(path, "wb") as secret:
        secret.write(film("mpegts", "mpeg2video"))
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{path}\n#EXT-X-ENDLIST\n".encode()
    with pytest.raises(NoPreviewError):
        look(playlist, "video")


def test_polyglot_is_shown_as_the_picture_that_it_is() -> None:
    found = look(PNG + b"<script>alert(1)</script>")
    assert b"script" not in b"".join(found.pictures.values())


def test_look_that_takes_too_long_is_ended() -> None:
    started = time.monotonic()
    with pytest.raises(NoPreviewError, match="not done"):
        look(MP4, "video", seconds=0.01)
    assert time.monotonic() - started < 6


def test_endless_film_is_given_up() -> None:
    """A film that tells no end is not counted for ever: what can be shown is."""
    head = film("webm", "libvpx", frames=5)
    found = look(head + b"\x1f\x43\xb6\x75\x01\xff\xff\xff\xff\xff\xff\xff" + b"\0" * (8 << 20), "video")
    assert (found.width, found.height) == (320, 180)


def test_largest_picture_fits_into_the_memory_that_a_look_may_have() -> None:
    side = int(MAX_PIXELS**0.5)
    assert 4 * MAX_PIXELS < MEMORY
    found = look(encoded(Image.new("RGBA", (side, side), (1, 2, 3, 255)), "PNG", compress_level=1))
    assert (found.width, found.color) == (side, "#010203")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b"{}",
        b"null\n",
        b'{"sizes": {"512": 4}}\nabcd',
        b'{"sizes": {"7": 12}}\nRIFF0000WEBP',
        b'{"sizes": {"512": 12}}\nRIFF0000WEBP',
        b'{"sizes": {"512": -1}}\n',
        b'{"sizes": {}, "width": 1e9}\n',
        b'{"sizes": {}, "width": true}\n',
        b'{"sizes": {}, "width": 99999999999}\n',
        b'{"sizes": {}, "duration": NaN}\n',
        b'{"sizes": {}, "duration": "1"}\n',
        b'{"sizes": {}, "color": "red;}"}\n',
        b'{"sizes": {}}\nmore',
    ],
)
def test_answer_of_another_form_is_not_believed(answer: bytes) -> None:
    with pytest.raises(NoPreviewError):
        parse(answer)


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        ("image/png", "image"), ("IMAGE/JPEG; q=1", "image"), ("image/svg+xml", None), ("image/heic", None),
        ("video/anything", "video"), ("audio/wav", "audio"), ("text/plain", None), ("", None),
    ],
)  # fmt: skip
def test_kind_of_each_type(content_type: str, kind: str | None) -> None:
    assert kind_of(content_type) == kind
