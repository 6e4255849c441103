"""Keys: byte-exact, strictly decoded; names of objects are ours."""

from __future__ import annotations

from urllib.parse import quote, unquote_to_bytes
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storagecache.errors import InvalidKeyError
from storagecache.keys import MAX_KEY_BYTES, decode_key, new_object_key, validate_key, validate_storage_name

segments = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="/\x7f", min_codepoint=32), min_size=1)
keys = (
    st.lists(segments, min_size=1, max_size=6)
    .map("/".join)
    .filter(lambda key: len(key.encode()) <= MAX_KEY_BYTES and {".", ".."}.isdisjoint(key.split("/")))
)


@given(keys)
def test_key_of_legal_text_comes_back_unchanged(key: str) -> None:
    assert validate_key(key) == key
    assert decode_key(unquote_to_bytes(quote(key))) == key
    assert decode_key(unquote_to_bytes(quote(key, safe=""))) == key


@given(keys, keys)
def test_two_different_keys_never_alias(one: str, other: str) -> None:
    assert (decode_key(one.encode()) == decode_key(other.encode())) == (one == other)


@given(st.binary(max_size=1100))
def test_bytes_of_any_kind_are_a_key_or_an_invalid_key(raw: bytes) -> None:
    try:
        key = decode_key(raw)
    except InvalidKeyError:
        return
    assert key.encode() == raw


LEGAL = [
    "a",
    "a/b.png",
    "CON",
    "nul.txt",
    "a b",
    "a%FF",
    "%2e%2e/x",
    "…",
    "ä",
    "a\u0308",
    "😀",
    "a\\b",
    "a:b",
    "...",
    ".hidden",
    "a\x80",
    "x" * 1024,
    "s" * 300 + "/" + "t" * 300,
    "?",
    "#",
    "\u2028",
    "\ufeff",
]


@pytest.mark.parametrize("key", LEGAL, ids=lambda key: ascii(key)[:20])
def test_key_that_looks_hostile_but_is_legal_is_kept(key: str) -> None:
    assert validate_key(key) == key


ILLEGAL = [
    "",
    "/",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "a/../b",
    "a/.",
    "./a",
    "a\0",
    "a\nb",
    "a\x1f",
    "a\x7f",
    "\ud800",
    "x" * 1025,
    "ä" * 513,
]


@pytest.mark.parametrize("key", ILLEGAL, ids=lambda key: ascii(key)[:20])
def test_key_out_of_grammar_is_refused(key: str) -> None:
    with pytest.raises(InvalidKeyError):
        validate_key(key)


@pytest.mark.parametrize("raw", [b"\xff", b"a\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80"])
def test_key_of_invalid_utf8_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidKeyError):
        decode_key(raw)


@given(st.uuids(), st.sampled_from(["", "png", "mp4"]), st.sampled_from(["", "temp/", "cache/"]))
def test_object_key_is_a_storage_name(object_id: UUID, extension: str, prefix: str) -> None:
    name = new_object_key(object_id, extension, prefix=prefix)
    assert validate_storage_name(name) == name
    assert name.removeprefix(prefix).split("/")[0] == object_id.hex[-2:]


@pytest.mark.parametrize("extension", [".png", "PNG", "a/b", "p\n", "123456789", "ü"])
def test_object_key_with_a_foreign_extension_is_refused(extension: str) -> None:
    with pytest.raises(ValueError, match="not an extension"):
        new_object_key(UUID(int=0), extension)


@pytest.mark.parametrize(
    "name", ["", "/a", "a/", "../a", "a/../b", ".a", "a/.b", "A", "a\n", "a\\b", "a b", "a//b", "ü"]
)
def test_storage_name_that_we_never_make_is_refused(name: str) -> None:
    with pytest.raises(InvalidKeyError):
        validate_storage_name(name)
