"""Frames: byte- and type-exact, and refused when one bit is not ours."""

from __future__ import annotations

import gc
import os
import random
import struct
import tracemalloc
from typing import Any

import numpy as np
import ormsgpack
import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from storagecache.node_cache.codec import Encoded, decode_value
from storagecache.node_cache.errors import FrameError, NotCacheableError
from storagecache.node_cache.frames import HEADER, PREFIX_BYTES, frame_bytes, frame_of, mac_key, read_frame
from tests.node_cache.parts import NOW, SECRET, same
from tests.node_cache.seeded import seeded_values
from tests.node_cache.values import VALUES

KEY = mac_key(SECRET)
COUNT = int(os.environ.get("PROPERTY_COUNT", "1000"))  # the nightly run takes 100,000
HYPOTHESIS_COUNT = 5000  # of values; its other examples are as cheap as bytes
pytestmark = pytest.mark.timeout(120 + COUNT // 30)


def framed(value: Any) -> bytes:
    return frame_bytes(frame_of(value, now=NOW, ttl=60.0, compute=1.5), "key", KEY)


def there_and_back(value: Any, *, writable: bool = False) -> Any:
    return read_frame(framed(value), "key", KEY).value(writable=writable)


@settings(max_examples=min(COUNT, HYPOTHESIS_COUNT), deadline=None)
@given(VALUES)
def test_value_round_trips_exactly(value: Any) -> None:
    assert same(there_and_back(value), value)


def test_many_values_round_trip_exactly() -> None:
    for value in seeded_values(seed=11, count=COUNT):
        found = there_and_back(value)
        assert same(found, value), value


def test_frame_carries_its_times() -> None:
    frame = read_frame(framed(1), "key", KEY)
    assert (frame.created, frame.ttl, frame.compute) == (NOW, 60.0, 1.5)


BIG: list[Any] = [
    [{"id": n, "score": n / 7, "label": f"item {n}", "none": None} for n in range(4000)],
    [{"id": n, "text": "x" * (900 + n % 300), "data": b"y" * (n % 2000)} for n in range(400)],
    [(n, {n}, f"\u00fc {n}", 2**70 + n, b"\xda\xc5", -n) for n in range(4000)],
    {"rows": [[n / 3, -n] for n in range(6000)], "array": np.arange(9), 5: "a key that is no text"},
    [np.full(3, n, "<f4") for n in range(2000)],
    ["\ud800", *(f"text {n}" for n in range(9000))],
    [{"asset_id": f"{n}"} for n in range(5000)],
]


@pytest.mark.parametrize("number", range(len(BIG)))
def test_big_tree_round_trips_exactly(number: int) -> None:
    assert same(there_and_back(BIG[number]), BIG[number])


def test_long_texts_and_bytes_are_shared_by_readers_wherever_they_lie() -> None:
    text, data = "t" * 2000, b"d" * 2000
    for value in ([text, 1.5], {"a": {"b": (text, 2)}}, [[{"c": data}]] * 3, (frozenset([data]), 0)):
        kinds = [buffer.kind for buffer in frame_of(value, now=NOW, ttl=None).encoded.buffers]
        assert kinds
        assert same(there_and_back(value), value)


def test_array_named_twice_is_stored_once_and_copied_apart() -> None:
    array = np.arange(5)
    frame = frame_of([array, {"again": array, "asset_id": "a"}], now=NOW, ttl=None)
    assert len(frame.encoded.buffers) == 1
    assert frame.encoded.assets == ("a",)
    mine = frame.value(writable=True)
    mine[0][0] = 9
    assert mine[1]["again"][0] == 0


@pytest.mark.parametrize("is_on", [True, False])
def test_big_tree_leaves_the_collector_as_it_was(is_on: bool) -> None:
    data = framed(BIG[0])
    was_on = gc.isenabled()
    try:
        (gc.enable if is_on else gc.disable)()
        read_frame(data, "key", KEY).value()
        assert gc.isenabled() is is_on
    finally:
        (gc.enable if was_on else gc.disable)()


@pytest.mark.parametrize(
    "value",
    [
        np.float64(1.5),
        np.int8(3),
        np.bool_(True),
        np.bytes_(b"ab"),
        np.str_("ab"),
        np.datetime64(5, "s"),
        bytearray(b"a"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_value_that_looks_like_a_plain_one_keeps_its_type(value: Any) -> None:
    for held in (value, [value, 1], {"a": (value, "x" * 2000)}):
        assert same(there_and_back(held), held)


def test_frame_is_readable_by_its_description_alone() -> None:
    array = np.arange(6, dtype="<i4").reshape(2, 3)
    data = framed({"n": [1, None], "text": "t" * 1500, "array": array, "ref": {"asset_id": "a1"}})
    created, ttl, compute, total, count, assets, tree = struct.unpack_from("<dddQIII", data, 8)
    assert (data[:8], created, ttl, compute, total) == (b"NTNC\x02\x00\x01\x00", NOW, 60.0, 1.5, len(data))
    mac_secret = blake3(SECRET.encode(), derive_key_context="nodetool-storage node cache frame MAC v1").digest()
    signed_part = data[:64] + struct.pack("<I", 3) + b"key" + data[96:]
    assert blake3(signed_part, key=mac_secret).digest() == data[64:96]
    assert data[52:64] == bytes(12)
    entries, at = struct.unpack_from(f"<{count}Q", data, 96), 96 + 8 * count
    assert ormsgpack.unpackb(data[at : at + assets]) == ["a1"]
    end, buffers = at + assets + tree, []
    for entry in entries:
        end += -end % 64
        buffers.append((entry >> 56, data[end : end + (entry & (1 << 56) - 1)]))
        end += len(buffers[-1][1])
    assert end == len(data)
    read = ormsgpack.unpackb(data[at + assets : at + assets + tree], ext_hook=lambda tag, payload: (tag, payload))
    assert (read["n"], read["ref"]) == ([1, None], {"asset_id": "a1"})
    tag, number = read["text"]
    assert (tag, buffers[int.from_bytes(number, "big")]) == (30, (2, b"t" * 1500))
    tag, described = read["array"]
    name, (dtype, shape, order), first, of_array = ormsgpack.unpackb(described)
    assert (tag, name, dtype, shape, order, of_array) == (31, "ndarray", "<i4", [2, 3], "C", 1)
    assert buffers[first] == (0, array.tobytes())


def test_long_frame_is_verified_by_its_description_alone() -> None:
    data = framed({"array": np.arange(50_000, dtype="<i4"), "text": "t" * 1500})
    named = data[:64] + struct.pack("<I", 3) + b"key"
    tag = AESGCM(blake3(named, key=KEY).digest()).encrypt(bytes(12), b"", data[96:])
    assert len(tag) == 16
    assert blake3(named + tag, key=KEY).digest() == data[64:96]
    again = framed({"array": np.arange(50_000, dtype="<i4"), "text": "t" * 1500})
    assert again[96:] == data[96:]
    assert again[52:64] != data[52:64]  # so that no key of a tag is used twice
    assert again[64:96] != data[64:96]


@pytest.mark.parametrize("size", [65_536, 65_537])
def test_frame_of_the_length_from_which_a_body_has_a_tag_is_read(size: int) -> None:
    overhead = len(framed(b"x" * 60_000)) - 60_000
    value = bytes(size - overhead)
    data = framed(value)
    assert len(data) == size
    assert (data[52:64] == bytes(12)) == (size == 65_536)
    assert read_frame(data, "key", KEY).value() == value
    with pytest.raises(FrameError):
        read_frame(data[:52] + b"salt" + data[56:], "key", KEY)


class _Text(str):
    __slots__ = ()


class _Bytes(bytes):
    __slots__ = ()


class _Float(float):
    __slots__ = ()


class _List(list):  # type: ignore[type-arg]
    __slots__ = ()


MODES = ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "LA", "PA", "I;16", "RGBX"]


@pytest.mark.parametrize("mode", MODES)
def test_image_round_trips_and_readers_are_apart(mode: str) -> None:
    image = Image.frombytes(mode, (13, 7), os.urandom(len(Image.new(mode, (13, 7)).tobytes())))
    if mode in {"P", "PA"}:
        image.putpalette(os.urandom(768))
    image.info["dpi"] = (72, 72)
    frame = read_frame(framed(image), "key", KEY)
    found = frame.value()
    assert (found.mode, found.size, found.info, found.tobytes()) == (mode, (13, 7), image.info, image.tobytes())
    assert found.getpalette() == image.getpalette()
    found.paste(0 if len(found.getbands()) == 1 else (0,) * len(found.getbands()), (0, 0, 13, 7))
    found.info["dpi"] = (1, 1)
    assert frame.value().tobytes() == image.tobytes()
    assert frame.value().info == image.info


@pytest.mark.parametrize("order", ["C", "F"])
def test_array_is_shown_in_place_and_read_only(order: str) -> None:
    array = np.asarray(np.arange(600).reshape(20, 30), order=order)
    data = framed({"a": [array]})
    found = read_frame(data, "key", KEY).value()["a"][0]
    assert found.flags[f"{order}_CONTIGUOUS"]
    assert not found.flags.writeable
    assert np.shares_memory(found, np.frombuffer(data, "u1"))
    assert found.__array_interface__["data"][0] % 8 == 0
    assert there_and_back(array, writable=True).flags.writeable


REFUSED: list[Any] = [
    object(),
    [lambda: 1],
    {"a": object},
    _Text("x"),
    _Bytes(b"x"),
    [1, _Bytes(b"x" * 2000)],
    _Float(1),
    [_List()],
    {_Text("x"): 1},
    [{"a": {_Text("x"): 1}}, "y" * 2000],
    np.array([object()]),
    np.ma.array([1]),
    np.zeros(2, dtype=[("a", "i4")]),
    ...,
    range(3),
    memoryview(b"x"),
    OSError("x"),
]


@pytest.mark.parametrize("value", REFUSED, ids=lambda value: type(value).__name__)
def test_value_of_unlisted_type_is_not_cacheable(value: Any) -> None:
    with pytest.raises(NotCacheableError):
        frame_of(value, now=NOW, ttl=None)


def test_value_within_itself_is_not_cacheable() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(NotCacheableError):
        frame_of(value, now=NOW, ttl=None)


SAMPLES = [
    framed({"a": [1, 2.5, None, "text"], "b": b"bytes" * 300}),
    framed(np.arange(100, dtype="<f4")),
    framed([{"asset_id": "0123", "uri": "asset://0123.png"}, (1, {2})]),
]
LONG = framed([np.arange(20_000, dtype="<f4"), b"bytes" * 300, "tree" * 50])


def test_damaged_frames_are_refused() -> None:
    generator = random.Random(5)
    for number in range(COUNT):
        data = bytearray((*SAMPLES, LONG)[number % (len(SAMPLES) + 1)])
        if generator.random() < 0.5:
            data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
        else:
            del data[generator.randrange(len(data)) :]
        with pytest.raises(FrameError):
            read_frame(bytes(data), "key", KEY)


def test_every_bit_counts() -> None:
    data = SAMPLES[2]
    for position in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        with pytest.raises(FrameError):
            read_frame(bytes(flipped), "key", KEY)


@pytest.mark.parametrize(("key", "secret"), [("other", KEY), ("key", mac_key("other")), ("", KEY)])
def test_frame_of_another_key_or_secret_is_refused(key: str, secret: bytes) -> None:
    with pytest.raises(FrameError):
        read_frame(SAMPLES[0], key, secret)


@settings(max_examples=COUNT, deadline=None)
@given(st.binary(max_size=300))
def test_foreign_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(FrameError):
        read_frame(data, "key", KEY)


def signed(data: bytes) -> bytes:
    """Give forged bytes the right length and MAC, as somebody with the secret could."""
    body, header = data[PREFIX_BYTES:], bytearray(data[: HEADER.size])
    struct.pack_into("<Q", header, 32, len(data))
    named = bytes(header) + struct.pack("<I", 3) + b"key"
    tag = AESGCM(blake3(named, key=KEY).digest()).encrypt(bytes(12), b"", body)
    mac = blake3(named + (tag if len(data) > 65_536 else body), key=KEY).digest()
    return bytes(header) + mac + body


def test_signed_nonsense_raises_frame_errors_only_in_bounded_memory() -> None:
    generator = random.Random(7)
    tracemalloc.start()
    for number in range(COUNT):
        data = bytearray((*SAMPLES, LONG)[number % (len(SAMPLES) + 1)])
        for _ in range(generator.randrange(1, 6)):
            at = generator.choice([generator.randrange(len(data)), generator.randrange(40, 56)])
            data[at] = generator.choice([0, 255, 0xDD, 0xDF, 0xC9, generator.randrange(256)])
        try:
            read_frame(signed(bytes(data)), "key", KEY).value()
        except FrameError:
            continue
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


@settings(max_examples=COUNT, deadline=None)
@given(st.binary(max_size=200))
def test_fuzzed_trees_raise_frame_errors_only(tree: bytes) -> None:
    try:
        decode_value(Encoded(tree, (), (), {}))
    except FrameError:
        return


def test_forged_shape_allocates_nothing() -> None:
    description = ormsgpack.packb(["ndarray", ["<f8", [1 << 40], "C"], 0, 0])
    with pytest.raises(FrameError):
        decode_value(Encoded(ormsgpack.packb(ormsgpack.Ext(31, description)), (), (), {}))


def test_frame_names_the_assets_in_it() -> None:
    value = [{"asset_id": "b", "uri": "x"}, {"deep": ("asset://a.png", {"asset_id": None})}]
    assert frame_of(value, now=NOW, ttl=None).encoded.assets == ("a", "b")
    assert read_frame(framed(value), "key", KEY).encoded.assets == ("a", "b")


def test_tables_round_trip_where_arrow_is_faithful() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    pandas = pytest.importorskip("pandas")
    table = pyarrow.table({"a": [1, None, 3], "b": ["x", "y", "z"]})
    assert there_and_back(table).equals(table)
    batch = pyarrow.record_batch({"a": [1.5, 2.5]})
    assert there_and_back([batch])[0].equals(batch)
    frame = pandas.DataFrame(
        {"n": [1, 2], "t": ["a", "b"], "w": pandas.to_datetime(["2020-01-01", None])}, index=[5, 7]
    )
    pandas.testing.assert_frame_equal(there_and_back(frame), frame)
    pandas.testing.assert_series_equal(there_and_back(frame["n"]), frame["n"])
    mine = there_and_back(frame, writable=True)
    mine.loc[5, "n"] = 9
    with pytest.raises(NotCacheableError):
        frame_of(pandas.DataFrame({"o": [object(), 1]}), now=NOW, ttl=None)
