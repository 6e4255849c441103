"""Images, tables and arrays at the edges: what comes back is the very same, or nothing was stored."""

from __future__ import annotations

import datetime as dt
import decimal
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from storagecache.node_cache.canonical import canonical_bytes
from storagecache.node_cache.errors import NotCacheableError
from storagecache.node_cache.frames import Frame, frame_of
from tests.node_cache.parts import NOW


def framed(value: Any) -> Frame:
    return frame_of(value, now=NOW, ttl=None)


def refused(value: Any) -> bool:
    """Tell whether a value is refused as a result and as an input alike."""
    for step in (framed, canonical_bytes):
        with pytest.raises(NotCacheableError):
            step(value)
    return True


def saved(image: Image.Image, kind: str, **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


def picture(color: int = 0) -> Image.Image:
    return Image.new("RGB", (9, 5), (color, 2, 3))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF", "WEBP"])
def test_image_of_several_frames_is_refused_and_of_one_is_not(kind: str) -> None:
    assert framed(Image.open(saved(picture(), kind))).value().size == (9, 5)
    moving = saved(picture(), kind, save_all=True, append_images=[picture(200)])
    assert refused(Image.open(moving))


def test_image_whose_file_is_cut_or_closed_is_refused() -> None:
    whole = saved(Image.effect_noise((64, 64), 90), "PNG").getvalue()
    assert refused(Image.open(io.BytesIO(whole[: len(whole) // 2])))
    closed = Image.open(io.BytesIO(whole))
    closed.close()
    assert refused(closed)


@pytest.mark.parametrize("kind", ["GIF", "PNG"])
def test_palette_with_transparency_comes_back(kind: str) -> None:
    image = Image.open(saved(Image.effect_noise((16, 16), 90).convert("RGB").quantize(8), kind, transparency=3))
    found = framed(image).value()
    assert (found.mode, found.getpalette(), found.info) == (image.mode, image.getpalette(), image.info)
    assert found.convert("RGBA").tobytes() == image.convert("RGBA").tobytes()


def test_what_a_reader_made_of_its_file_comes_back_with_the_image() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = Image.open(saved(picture(), "JPEG", exif=exif, dpi=(72, 72), icc_profile=b"p" * 3000))
    found = framed(photo).value()
    assert dict(found.getexif()) == dict(photo.getexif()) == {0x0112: 6}
    assert found.info["icc_profile"] == b"p" * 3000


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
def test_image_is_the_readers_own_whatever_it_does(mode: str) -> None:
    frame = framed(picture().convert(mode))
    before = frame.value().tobytes()
    found = frame.value()
    found.frombytes(bytes(len(before)))  # PIL writes this even into memory that it was only shown
    found = frame.value()
    found.load()[0, 0] = 7 if len(found.getbands()) == 1 else (7,) * len(found.getbands())
    assert frame.value().tobytes() == before


def test_array_of_the_most_dimensions_comes_back() -> None:
    assert framed(np.ones((1,) * 64)).value().shape == (1,) * 64
    assert framed(np.zeros((0, 1 << 40))).value().shape == (0, 1 << 40)


def test_array_that_memory_cannot_hold_is_refused() -> None:
    assert refused(np.broadcast_to(np.float64(1), (1 << 24, 1 << 24)))


def tables() -> dict[str, Any]:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    days = pandas.date_range("2020", periods=3, tz="Europe/Berlin")
    return {
        "categories": pandas.DataFrame({"a": pandas.Categorical(["x", None, "y"], ["y", "x", "z"], ordered=True)}),
        "nullable": pandas.DataFrame({"a": pandas.array([1, None], "Int64"), "b": pandas.array([True, None])}),
        "many levels": pandas.DataFrame({"a": [1]}, index=pandas.MultiIndex.from_tuples([(1, "a")], names=["x", None])),
        "levels of columns": pandas.DataFrame([[1, 2]], columns=pandas.MultiIndex.from_tuples([("a", 1), ("b", 2)])),
        "zone and step": pandas.DataFrame({"a": days}, index=days),
        "series with a step": pandas.Series([1.5, 2, 3], index=days, name=("a", 1)),
        "durations": pandas.DataFrame({"a": [1, 2]}, index=pandas.timedelta_range("1s", periods=2)),
        "numbers as labels": pandas.DataFrame([[1, 2], [3, 4]], index=pandas.RangeIndex(4, 8, 2, name="r")),
        "days": pandas.DataFrame({"a": [dt.date(2020, 1, 1), None]}),
        "arrays": pandas.DataFrame({"a": [np.array([1, 2]), np.array([3])]}),
        "nothing": pandas.DataFrame(),
        "rows alone": pandas.DataFrame(index=[1, 2]),
    }


@pytest.mark.parametrize("name", list(tables()))
def test_table_comes_back_exactly(name: str) -> None:
    pandas = pytest.importorskip("pandas")
    table = tables()[name]
    check = pandas.testing.assert_series_equal if name.startswith("series") else pandas.testing.assert_frame_equal
    for writable in (False, True):
        check(framed(table).value(writable=writable), table, check_exact=True)
    assert canonical_bytes(table) == canonical_bytes(table.copy())


@pytest.mark.parametrize(
    "cells",
    [
        [bytearray(b"x"), b"y"],
        [decimal.Decimal("1.10"), decimal.Decimal("2")],
        ["x", None, float("nan")],
        [[1, 2], [3]],
        [{1}, {2}],
        [1, 2],
    ],
    ids=str,
)
def test_objects_that_would_come_back_as_others_are_refused(cells: list[Any]) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    assert refused(pandas.DataFrame({"a": pandas.Series(cells, dtype=object)}))


def test_labels_of_several_types_are_refused() -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    assert refused(pandas.DataFrame([[1, 2]], columns=[1, "a"]))
