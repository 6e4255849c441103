"""Arrays, images and tables as (name, description, raw buffers) and back. Closed lists; imports nothing until met.

numpy, PIL, pyarrow and pandas are optional: a value of theirs can only exist where they are imported, and a frame that
needs an absent one is not readable here (a miss). Sizes are checked before anything is made of a buffer.
"""

from __future__ import annotations

import importlib
import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from storagecache.node_cache.errors import FrameError, NotCacheableError

_DTYPE: Final = re.compile(
    r"\A(?:\|b1|[|<>=][iu][1248]|[<>=]f[248]|[<>=]c(?:8|16)|[|<>=][SU][0-9]{1,9}"
    r"|[<>=][mM]8(?:\[[0-9]{0,9}(?:Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?)\Z"
)
_MAX_DIMENSIONS: Final = 64  # numpy's; before its version 2 they were 32
_PIXEL_BYTES: Final = {
    **dict.fromkeys(("L", "P"), 1),
    **dict.fromkeys(("LA", "PA", "La", "I;16", "I;16L", "I;16B"), 2),
    **dict.fromkeys(("RGB", "YCbCr", "LAB", "HSV"), 3),
    **dict.fromkeys(("RGBA", "RGBa", "RGBX", "CMYK", "I", "F"), 4),
}
_MAPPED_MODES: Final = frozenset({"L", "P", "RGBX", "RGBA", "CMYK"})  # laid out in PIL's memory as in the buffer


@dataclass(frozen=True, slots=True)
class Parts:
    """A value taken apart: its type's name, a plain description, and its bytes (never the caller's own memory)."""

    name: str
    description: list[Any]
    buffers: tuple[bytes, ...]


def take_apart(value: Any) -> Parts | None:
    """Take an array, image or table apart, copying its bytes; None when it is no such value.

    Raises:
        NotCacheableError: a dtype, mode or content that is not on the closed lists.
    """
    library = type(value).__module__.partition(".")[0]
    return _TAKERS[library](value) if library in _TAKERS else None


def digest_view(value: Any) -> tuple[list[Any], memoryview | bytes] | None:
    """Describe an array without copying it, with a view of its bytes in C order, little-endian; None for no array.

    Byte order is layout (numpy's own pickles do not keep it either), so that a big-endian array is converted first.

    Raises:
        NotCacheableError: a dtype that is not on the closed list.
    """
    numpy = sys.modules.get("numpy")
    if numpy is None or type(value) is not numpy.ndarray:
        return None
    text = _dtype(value)
    if text[0] == ">":
        value, text = value.astype("<" + text[1:]), "<" + text[1:]
    return [text, list(value.shape)], _bytes_view(numpy.ascontiguousarray(value))


def put_together(name: str, description: list[Any], buffers: list[memoryview], *, writable: bool) -> Any:
    """Make the value again. Arrays and tables show the read-only buffer itself unless `writable`.

    Raises:
        FrameError: the description and the buffers' sizes disagree, or the type is unknown.
        ImportError: the library is not installed here.
        ValueError, TypeError, KeyError: not what `take_apart` makes.
    """
    make = _MAKERS.get(name)
    if make is None:
        raise FrameError(f"No type {name[:40]!r} is known.")
    return make(description, buffers, writable)


# --- numpy -------------------------------------------------------------------------------------


def _take_numpy(value: Any) -> Parts | None:
    numpy = sys.modules["numpy"]
    if type(value) is numpy.ndarray:
        order = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
        return Parts("ndarray", [_dtype(value), list(value.shape), order], (value.tobytes(order),))
    if isinstance(value, numpy.generic):
        return Parts("scalar", [_dtype(value)], (value.tobytes(),))
    return None


def _dtype(value: Any) -> str:
    text: str = value.dtype.str
    if not _DTYPE.match(text) or value.dtype.metadata:
        raise NotCacheableError(f"An array of dtype {value.dtype} cannot be encoded.")
    return text


def _bytes_view(array: Any) -> memoryview | bytes:
    if array.nbytes == 0:
        return b""
    view: memoryview = array.reshape(-1).view("u1").data  # datetime64 has no buffer of its own
    return view


def _make_array(description: list[Any], buffers: list[memoryview], writable: bool) -> Any:
    text, shape, order = description
    (buffer,) = buffers
    flat = _flat_array(text, shape, buffer)
    array = flat.reshape(shape, order="F" if order == "F" else "C")
    return array.copy(order="K") if writable else array


def _flat_array(text: str, shape: list[int], buffer: memoryview) -> Any:
    numpy = importlib.import_module("numpy")
    if not _DTYPE.match(text) or len(shape) > _MAX_DIMENSIONS or any(type(n) is not int or n < 0 for n in shape):
        raise FrameError("Not an array that this cache writes.")
    dtype = numpy.dtype(text)
    if math.prod(shape) * dtype.itemsize != len(buffer):
        raise FrameError(f"An array of {shape} {text} does not have {len(buffer)} bytes.")
    if len(buffer):
        return numpy.frombuffer(buffer, dtype)
    empty = numpy.empty(0 if dtype.itemsize else math.prod(shape), dtype)
    empty.flags.writeable = False
    return empty


def _make_scalar(description: list[Any], buffers: list[memoryview], _writable: bool) -> Any:
    (text,), (buffer,) = description, buffers
    return _flat_array(text, [1], buffer)[0]


# --- PIL ---------------------------------------------------------------------------------------


def _take_image(value: Any) -> Parts | None:
    image = importlib.import_module("PIL.Image")
    if not isinstance(value, image.Image):
        return None
    data, mode = _loaded(value), value.mode
    if mode != "1" and mode not in _PIXEL_BYTES:
        raise NotCacheableError(f"An image of mode {mode!r} cannot be encoded.")
    if len(data) != _image_bytes(mode, *value.size):
        raise NotCacheableError(f"An image of mode {mode!r} has no plain layout.")
    palette = [value.palette.mode, bytes(value.palette.getdata()[1])] if mode in {"P", "PA"} else None
    return Parts("image", [mode, list(value.size), palette, _plain_info(value.info)], (data,))


def _loaded(image: Any) -> bytes:
    """Give an image's pixels, which may have to be read from its file only now."""
    if _frames(image) > 1:
        raise NotCacheableError("An image of several frames cannot be encoded: only one of them would come back.")
    try:
        data: bytes = image.tobytes()
    except Exception as error:  # of a cut or closed file: OSError, SyntaxError, struct.error, whatever a plugin raises
        raise NotCacheableError(f"An image cannot be read: {type(error).__name__}.") from error
    return data


def _frames(image: Any) -> int:
    try:
        return int(getattr(image, "n_frames", 1))
    except (OSError, EOFError, ValueError, TypeError, SyntaxError, AttributeError):  # closed, cut: none can be reached
        return 1


def _image_bytes(mode: str, width: int, height: int) -> int:
    if mode == "1":
        return (width + 7) // 8 * height
    return width * height * _PIXEL_BYTES[mode]


def _plain_info(info: dict[Any, Any]) -> dict[str, Any]:
    """Keep what any reader can use (dpi, duration, profiles ..); readers' private objects are not part of an image."""
    plain = (str, int, float, bool, bytes, type(None))
    kept: dict[str, Any] = {}
    for key, value in info.items():
        own = str(value) if isinstance(value, str) else value  # PNG's international texts are a subclass
        items = own if type(own) is tuple else (own,)
        if type(key) is str and all(type(item) in plain for item in items):
            kept[key] = own
    return kept


def _make_image(description: list[Any], buffers: list[memoryview], _writable: bool) -> Any:
    """Make an image of its own memory: PIL lets one be written to where it only shows a buffer (`frombytes`)."""
    module = importlib.import_module("PIL.Image")
    mode, (width, height), palette, info = description
    (buffer,) = buffers
    if type(width) is not int or type(height) is not int or width < 0 or height < 0:
        raise FrameError("Not an image that this cache writes.")
    if (mode != "1" and mode not in _PIXEL_BYTES) or _image_bytes(mode, width, height) != len(buffer):
        raise FrameError(f"An image of {width} x {height} {mode!r} does not have {len(buffer)} bytes.")
    image = _pixels(module, mode, (width, height), buffer)
    if palette is not None:
        image.putpalette(palette[1], palette[0])
    image.info.update(info)
    return image


def _pixels(module: Any, mode: str, size: tuple[int, int], buffer: memoryview) -> Any:
    if not len(buffer):
        return module.new(mode, size)
    if mode in _MAPPED_MODES:
        return module.frombuffer(mode, size, buffer, "raw", mode, 0, 1).copy()
    return module.frombytes(mode, size, buffer)


# --- pyarrow and pandas ------------------------------------------------------------------------


def _take_arrow(value: Any) -> Parts | None:
    pyarrow = sys.modules["pyarrow"]
    if type(value) is pyarrow.Table:
        return Parts("table", [], (_arrow_stream(value),))
    if type(value) is pyarrow.RecordBatch:
        return Parts("record_batch", [], (_arrow_stream(value),))
    return None


def _arrow_stream(value: Any) -> bytes:
    pyarrow = importlib.import_module("pyarrow")
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, value.schema) as writer:
        writer.write(value)
    return bytes(sink.getvalue())


def _read_arrow(buffers: list[memoryview]) -> Any:
    pyarrow = importlib.import_module("pyarrow")
    ipc = importlib.import_module("pyarrow.ipc")
    (buffer,) = buffers
    return ipc.open_stream(pyarrow.py_buffer(buffer))


def _make_table(_description: list[Any], buffers: list[memoryview], _writable: bool) -> Any:
    return _read_arrow(buffers).read_all()


def _make_batch(_description: list[Any], buffers: list[memoryview], _writable: bool) -> Any:
    return _read_arrow(buffers).read_next_batch()


def _take_pandas(value: Any) -> Parts | None:
    pandas = sys.modules["pandas"]
    if type(value) is pandas.DataFrame:
        return _frame_parts("dataframe", value, [_frequency(value)])
    if type(value) is pandas.Series:
        frame = value.to_frame("value")
        return _frame_parts("series", frame, [_frequency(frame), value.name])
    return None


def _frequency(frame: Any) -> str | None:
    """Name the step of an index of times, which Arrow does not carry."""
    pandas = importlib.import_module("pandas")
    if not isinstance(frame.index, pandas.DatetimeIndex | pandas.TimedeltaIndex):
        return None
    frequency: str | None = frame.index.freqstr
    return frequency


def _frame_parts(name: str, frame: Any, description: list[Any]) -> Parts:
    """Encode a frame through Arrow, and only if Arrow gives the very same back."""
    try:
        pyarrow = importlib.import_module("pyarrow")
        data = _arrow_stream(pyarrow.Table.from_pandas(frame))
        again = _frame_of([memoryview(data)], description[0])
        importlib.import_module("pandas").testing.assert_frame_equal(again, frame, check_exact=True)
        same = _objects(again) == _objects(frame)
    except (ImportError, ValueError, TypeError, NotImplementedError, AssertionError, Warning) as error:
        raise NotCacheableError(f"This {name} has columns that Arrow cannot carry faithfully.") from error
    if not same:
        raise NotCacheableError(f"This {name} has objects that Arrow gives back as others.")
    return Parts(name, description, (data,))


def _objects(frame: Any) -> list[list[Any]]:
    """Tell labels and cells apart that count as equal: b"x" from bytearray(b"x"), Decimal("2") from Decimal("2.00")."""
    columns = (frame.iloc[:, number] for number in range(frame.shape[1]))
    found = [frame.columns, *(cells for cells in (frame.index, *columns) if cells.dtype == object)]
    return [[_told_apart(cell) for cell in cells] for cells in found]


def _told_apart(cell: Any) -> tuple[Any, ...]:
    if hasattr(cell, "tobytes"):
        return type(cell), cell.dtype.str, cell.shape, cell.tobytes()
    return type(cell), repr(cell)


def _frame_of(buffers: list[memoryview], frequency: str | None) -> Any:
    frame = _read_arrow(buffers).read_all().to_pandas()
    if frequency is not None:
        frame.index.freq = frequency
    return frame


def _make_frame(description: list[Any], buffers: list[memoryview], writable: bool) -> Any:
    frame = _frame_of(buffers, description[0])
    return frame.copy() if writable else frame


def _make_series(description: list[Any], buffers: list[memoryview], writable: bool) -> Any:
    frequency, name = description
    series = _frame_of(buffers, frequency)["value"]
    series.name = name
    return series.copy() if writable else series


_TAKERS: Final[dict[str, Callable[[Any], Parts | None]]] = {
    "numpy": _take_numpy,
    "PIL": _take_image,
    "pyarrow": _take_arrow,
    "pandas": _take_pandas,
}
_MAKERS: Final[dict[str, Callable[[list[Any], list[memoryview], bool], Any]]] = {
    "ndarray": _make_array,
    "scalar": _make_scalar,
    "image": _make_image,
    "table": _make_table,
    "record_batch": _make_batch,
    "dataframe": _make_frame,
    "series": _make_series,
}
