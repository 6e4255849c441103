"""Strict JSON and the bounds of metadata."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from assets.services import AssetDetails
from assets.services.metadata import (
    MAX_BODY_DEPTH,
    MAX_DEPTH,
    MAX_DIGITS,
    MAX_METADATA_BYTES,
    InvalidJsonError,
    InvalidMetadataError,
    check_metadata,
    parse_json,
)

LIMIT = 20  # seconds; a generous bound on what is linear


def nested(depth: int) -> Any:
    """Make objects and arrays inside each other, `depth` levels in all; the outermost is an object."""
    value: Any = 0
    for level in range(depth):
        value = [value] if (depth - level) % 2 == 0 else {"a": value}
    return value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": [1, -2.5, 1e3, true, null, "x"]}', {"a": [1, -2.5, 1000.0, True, None, "x"]}),
        ('"\\ud83d\\ude00 [[[{{{ \\" [ "', '😀 [[[{{{ " [ '),
        ('"\\\\"', "\\"),
        (b'{"\xc3\xa4": "\xf0\x9f\x98\x80"}', {"ä": "😀"}),
        (" \n[] ", []),
        ("9" * MAX_DIGITS, int("9" * MAX_DIGITS)),
        ("1e-999", 0.0),
        ("-0", 0),
        ("[" * MAX_BODY_DEPTH + "]" * MAX_BODY_DEPTH, None),
    ],
)
def test_parse_json_of_plain_json_gives_its_value(text: str | bytes, expected: Any) -> None:
    assert parse_json(text) == (expected if expected is not None else json.loads(text))


@pytest.mark.parametrize(
    "text",
    ["", " ", "{", "[1,]", "{'a': 1}", "NaN", "[Infinity]", '{"a": -Infinity}', "1e999", "-1e999", "[1] x", "\ufeff{}",
     "9" * (MAX_DIGITS + 1), "9" * 100_000, '{"a": 1, "a": 2}', '[{"b": {"a": 1, "\\u0061": 1}}]', '"\\ud83d"',
     '{"\\uDE00": 1}', '"\\ud83d x \\ude00"', '"\ud800"', '"\x01"', "[" * (MAX_BODY_DEPTH + 1), "[" * 3_000_000,
     '{"a":' * 100_000, "]" * 100 + "[" * 200, b"\xff", b'"\xed\xa0\x80"', b"\x00", "nul", "01", "0x1", ".5", "1."],
    ids=lambda text: repr(text)[:24],
)  # fmt: skip
def test_parse_json_of_anything_else_is_refused(text: str | bytes) -> None:
    with pytest.raises(InvalidJsonError):
        parse_json(text)


@pytest.mark.parametrize(
    "text",
    ['"' + '\\"' * 1_000_000 + "\\", '"' * 1_000_001, '\\"' * 1_000_000, "[]" * 1_000_000, '"a' * 1_000_000],
    ids=lambda text: text[:6],
)
def test_parse_json_of_four_megabytes_of_quotes_ends_soon(text: str) -> None:
    begin = time.process_time()
    with pytest.raises(InvalidJsonError):
        parse_json(text)
    assert time.process_time() - begin < LIMIT


def test_check_metadata_gives_back_what_fits() -> None:
    value = {"seed": 1, "prompt": "ä 😀", "nested": nested(MAX_DEPTH - 1), "n": None, "f": 0.5}
    assert check_metadata(value) is value
    assert check_metadata({}) == {}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([], "must be an object"),
        (None, "must be an object"),
        ("{}", "must be an object"),
        (nested(MAX_DEPTH + 1), "deeper"),
        (nested(10_000), "deeper"),
        ({"a": "x" * MAX_METADATA_BYTES}, "bytes"),
        ({"a": "ä" * (MAX_METADATA_BYTES // 2)}, "bytes"),
        ({"x" * MAX_METADATA_BYTES: 1}, "bytes"),
        ({"a": float("nan")}, "NaN"),
        ({"a": [float("inf")]}, "NaN"),
        ({"a": "\0"}, "NUL"),
        ({"\0": 1}, "NUL"),
        ({"a": ["\ud800"]}, "surrogate"),
        ({"\udfff": 1}, "surrogate"),
        ({1: 2}, "no text"),
        ({"a": b"x"}, "bytes, which is no JSON"),
        ({"a": {1, 2}}, "set, which is no JSON"),
        ({"a": 10**MAX_DIGITS}, "digits"),
    ],
    ids=lambda value: value.split()[0] if isinstance(value, str) else type(value).__name__,
)
def test_check_metadata_refuses_and_names_the_field(value: Any, reason: str) -> None:
    with pytest.raises(InvalidMetadataError, match=f"^metadata: .*{reason}"):
        check_metadata(value)


def test_check_metadata_counts_the_bytes_of_its_json() -> None:
    room = MAX_METADATA_BYTES - len('{"a":""}')
    check_metadata({"a": "x" * room})
    with pytest.raises(InvalidMetadataError, match=f"has {MAX_METADATA_BYTES + 1} bytes"):
        check_metadata({"a": "x" * (room + 1)})


def test_check_metadata_of_what_holds_itself_ends() -> None:
    value: dict[str, Any] = {}
    value["a"] = value
    with pytest.raises(InvalidMetadataError, match="deeper"):
        check_metadata(value)


def test_details_of_an_asset_take_no_bad_metadata() -> None:
    with pytest.raises(InvalidMetadataError):
        AssetDetails(metadata=nested(MAX_DEPTH + 1))
