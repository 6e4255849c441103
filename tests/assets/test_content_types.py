"""Claims about content types, held against the first bytes of real containers."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile

import puremagic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets.content_types import (
    HEAD_BYTES,
    OCTET_STREAM,
    _has_signature,
    clean_content_type,
    guess_content_type,
    object_extension,
    resolve_content_type,
)


def box(brand: bytes, *compatible: bytes) -> bytes:
    """Make the first box of an ISO base media file (ISO 14496-12 4.3)."""
    body = b"ftyp" + brand + b"\0\0\2\0" + b"".join(compatible)
    return struct.pack(">I", len(body) + 4) + body + b"\0\0\0\x08free"


def ebml(doc_type: bytes) -> bytes:
    """Make the head of a Matroska file (RFC 8794, RFC 9559)."""
    body = b"\x42\x86\x81\x01\x42\xf7\x81\x01\x42\xf2\x81\x04\x42\xf3\x81\x08\x42\x82"
    body += bytes([0x80 | len(doc_type)]) + doc_type + b"\x42\x87\x81\x04\x42\x85\x81\x02"
    return b"\x1a\x45\xdf\xa3\x01\0\0\0\0\0\0" + bytes([len(body)]) + body + b"\x18\x53\x80\x67\x01"


def ogg(packet: bytes) -> bytes:
    """Make the first page of an Ogg stream (RFC 3533)."""
    return (
        b"OggS\0\x02"
        + b"\0" * 8
        + b"\x01\x02\x03\x04"
        + b"\0" * 4
        + b"\0\0\0\0"
        + b"\x01"
        + bytes([len(packet)])
        + packet
    )


def riff(kind: bytes, chunk: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 1000) + kind + chunk


def zipped(name: str) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr(name, "text")
    return target.getvalue()


PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89"
JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0\xff\xdb\0\x43\0"
JPEG_EXIF = b"\xff\xd8\xff\xe1\x12\x34Exif\0\0II*\0\x08\0\0\0"
GIF = b"GIF89a\x01\0\x01\0\x80\0\0\xff\xff\xff\0\0\0,"
WEBP = riff(b"WEBP", b"VP8 \x30\0\0\0\x10\x02\0\x9d\x01\x2a")
BMP = b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x02\0\0\0\x02\0\0\0\x01\0\x18\0"
ICO = b"\0\0\x01\0\x01\0\x10\x10\0\0\x01\0\x20\0\x68\x04\0\0\x16\0\0\0"
TIFF_LE = b"II*\0\x08\0\0\0\x0e\0\xfe\0\x04\0"
TIFF_BE = b"MM\0*\0\0\0\x08\0\x0e\x01\0\0\x03"
SVG = b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"><rect/></svg>'
MP3_ID3 = b"ID3\x04\0\0\0\0\0\x23TSSE\0\0\0\x0f\0\0\x03Lavf58.29.100\0"
MP3_FRAME = b"\xff\xfb\x90\x64\0\0\0\0" + b"\0" * 100
AAC_ADTS = b"\xff\xf1\x50\x80\x02\x1f\xfc\xde\x02\0Lavc58"
FLAC = b"fLaC\0\0\0\x22\x10\0\x10\0\0\0\x0e\0\x13\x8a\x0a\xc4\x42\xf0"
WAV = riff(b"WAVE", b"fmt \x10\0\0\0\x01\0\x02\0\x44\xac\0\0\x10\xb1\x02\0\x04\0\x10\0data")
AIFF = b"FORM\0\0\x10\0AIFFCOMM\0\0\0\x12\0\x02"
AVI = riff(b"AVI ", b"LIST\x26\x01\0\0hdrlavih\x38\0\0\0")
MPEG_PS = b"\0\0\x01\xba\x44\0\x04\0\x04\x01\x01\x89\xc3\xf8\0\0\x01\xbb"
MP4 = box(b"isom", b"isom", b"iso2", b"avc1", b"mp41")
M4A = box(b"M4A ", b"M4A ", b"mp42", b"isom")
MOV = box(b"qt  ", b"qt  ")
M3GP = box(b"3gp4", b"isom", b"3gp4")
HEIC = box(b"heic", b"mif1", b"heic")
AVIF = box(b"avif", b"avif", b"mif1", b"miaf")
AVIF_AS_MIF1 = box(b"mif1", b"mif1", b"avif", b"miaf")
WEBM = ebml(b"webm")
MKV = ebml(b"matroska")
OGG_VORBIS = ogg(b"\x01vorbis\0\0\0\0\x02\x44\xac\0\0")
OGG_OPUS = ogg(b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0")
PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<"
HTML = b"<!DOCTYPE html>\n<html><head><script>alert(document.cookie)</script></head></html>"
TEXT = b"just some words, and nothing else\n"
ELF = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x3e\0"
UTF16 = "\ufeffwords in another coding".encode("utf-16-le")

RIGHT = [
    ("image/png", PNG), ("image/apng", PNG), ("image/jpeg", JPEG), ("image/jpeg", JPEG_EXIF), ("image/jpg", JPEG),
    ("image/gif", GIF), ("image/webp", WEBP), ("image/bmp", BMP), ("image/x-icon", ICO), ("image/tiff", TIFF_LE),
    ("image/tiff", TIFF_BE), ("image/svg+xml", SVG), ("image/heic", HEIC), ("image/avif", AVIF),
    ("image/avif", AVIF_AS_MIF1), ("audio/mpeg", MP3_ID3), ("audio/mpeg", MP3_FRAME), ("audio/mp3", MP3_FRAME),
    ("audio/aac", AAC_ADTS), ("audio/flac", FLAC), ("audio/x-flac", FLAC), ("audio/wav", WAV), ("audio/x-wav", WAV),
    ("audio/aiff", AIFF), ("audio/mp4", M4A), ("audio/x-m4a", M4A), ("audio/ogg", OGG_VORBIS), ("audio/ogg", OGG_OPUS),
    ("audio/opus", OGG_OPUS), ("audio/webm", WEBM), ("video/mp4", MP4), ("video/quicktime", MOV), ("video/3gpp", M3GP),
    ("video/webm", WEBM), ("video/x-matroska", MKV), ("video/ogg", OGG_VORBIS), ("video/x-msvideo", AVI),
    ("video/mpeg", MPEG_PS), ("application/pdf", PDF),
]  # fmt: skip
MEDIA = sorted({claim for claim, _ in RIGHT} - {"image/svg+xml"})
WRONG = {
    "html": HTML,
    "svg": SVG,
    "text": TEXT,
    "elf": ELF,
    "zip": zipped("a.txt"),
    "gzip": gzip.compress(b"x", mtime=0),
    "empty": b"",
}


@pytest.mark.parametrize(("claim", "head"), RIGHT, ids=[f"{claim}-{number}" for number, (claim, _) in enumerate(RIGHT)])
def test_claim_right_about_the_container_is_kept(claim: str, head: bytes) -> None:
    assert resolve_content_type(claim, "", head + b"\0" * 200) == claim
    assert resolve_content_type(claim.upper(), "lies.txt", head) == claim


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("claim", MEDIA)
def test_claim_of_media_over_other_bytes_is_octet_stream(claim: str, wrong: str) -> None:
    assert resolve_content_type(claim, "", WRONG[wrong]) == OCTET_STREAM


@pytest.mark.parametrize(
    ("claim", "head"),
    [("image/png", JPEG), ("image/jpeg", PNG), ("video/mp4", WEBM), ("video/webm", MP4), ("audio/mpeg", OGG_OPUS),
     ("application/pdf", PNG), ("image/png", PDF), ("image/svg+xml", PNG), ("image/svg+xml", HTML), ("audio/wav", AVI),
     ("image/webp", WAV), ("video/x-msvideo", WAV), ("image/heic", MP4), ("video/mp4", HEIC), ("audio/mpeg", UTF16),
     ("audio/mpeg", JPEG), ("image/x-unheard-of", MP4), ("video/x-unheard-of", PNG), ("image/x-unheard-of", b"")],
)  # fmt: skip
def test_claim_of_another_family_is_octet_stream(claim: str, head: bytes) -> None:
    assert resolve_content_type(claim, "", head) == OCTET_STREAM


@pytest.mark.parametrize(
    ("claim", "head"),
    [("text/plain", HTML), ("application/json", b"{}"),
     ("text/html", PNG), ("application/zip", TEXT), ("text/csv", b""),
     ("model/gltf-binary", b"glTF\x02\0\0\0"), ("image/x-unheard-of", b"\x93\x94 unheard of")],
)  # fmt: skip
def test_claim_that_nobody_can_judge_is_kept(claim: str, head: bytes) -> None:
    assert resolve_content_type(claim, "", head) == claim


@pytest.mark.parametrize(
    ("name", "head", "expected"),
    [
        ("cat.png", PNG, "image/png"),
        ("a/b.c/cat.JPG", JPEG, "image/jpeg"),
        ("cat.png", JPEG, "image/jpeg"),
        ("cat.png", HTML, OCTET_STREAM),
        ("page.html", HTML, "text/html"),
        ("unnamed", PNG, "image/png"),
        ("unnamed", MP4, "video/mp4"),
        ("unnamed", AVIF, "image/avif"),
        ("unnamed", M4A, "audio/mp4"),
        ("unnamed", WAV, "audio/wav"),
        ("unnamed", PDF, "application/pdf"),
        ("unnamed", HTML, OCTET_STREAM),
        ("unnamed", SVG, OCTET_STREAM),
        ("unnamed", TEXT, OCTET_STREAM),
        ("unnamed", UTF16, OCTET_STREAM),
        ("unnamed", b"", OCTET_STREAM),
        ("data.csv", b"a,b\n", "text/csv"),
        ("archive.tar.gz", gzip.compress(b"x", mtime=0), OCTET_STREAM),
        ("data.json", b"", "application/json"),
        ("cat.png", b"", OCTET_STREAM),
        ("data:image/png;base64,x", TEXT, OCTET_STREAM),
    ],
)
def test_type_without_a_claim_comes_from_bytes_and_name(name: str, head: bytes, expected: str) -> None:
    assert resolve_content_type("", name, head) == expected
    assert resolve_content_type("garbage", name, head) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("image/PNG", "image/png"),
        (" text/plain ; charset=UTF-8", "text/plain; charset=utf-8"),
        ('text/html; charset="utf-8"; x=1', "text/html; charset=utf-8"),
        ("text/html; boundary=x; charset=latin1", "text/html; charset=latin1"),
        ("text/plain; charset=a b", "text/plain"),
        ("image/png; charset=utf-8", "image/png"),
        ("", ""),
        ("png", ""),
        ("image/", ""),
        ("a/b/c", ""),
        ("text/html\r\nX-Evil: 1", ""),
        ("text/plain; charset=x\r\nX-Evil: 1", "text/plain"),
        ("text/plain\n", "text/plain"),
        ("tëxt/plain", ""),
        ("a/" + "b" * 300, ""),
    ],
)
def test_clean_content_type_keeps_the_bare_type(text: str, expected: str) -> None:
    assert clean_content_type(text) == expected


@pytest.mark.parametrize(
    ("content_type", "extension"),
    [("image/png", "png"), ("text/plain; charset=utf-8", "txt"), (OCTET_STREAM, ""), ("../../etc", ""), ("", "")],
)
def test_object_extension_comes_from_a_closed_table(content_type: str, extension: str) -> None:
    assert object_extension(content_type) == extension


claims = st.one_of(st.text(max_size=300), st.sampled_from([claim for claim, _ in RIGHT]), st.just("image/x-any"))
heads = st.one_of(
    st.binary(max_size=HEAD_BYTES),
    st.tuples(st.sampled_from([head for _, head in RIGHT]), st.integers(0, 40), st.binary(max_size=600)).map(
        lambda parts: parts[0][: parts[1]] + parts[2]
    ),
)


@given(claims, st.text(max_size=80), heads)
def test_resolve_content_type_of_anything_gives_a_short_clean_type(claim: str, name: str, head: bytes) -> None:
    found = resolve_content_type(claim, name, head)
    assert found == clean_content_type(found)
    assert len(found) <= 255
    assert guess_content_type(name)


@pytest.mark.parametrize("spare", [0, 1, 3000])
def test_short_look_sees_every_signature_that_puremagic_knows(spare: int) -> None:
    for row in puremagic.magic_header_array:
        head = bytes(row.offset) + row.byte_match + b"\1" * spare
        assert _has_signature(head), row
    for row in puremagic.magic_footer_array:
        tail = row.byte_match + bytes(-row.offset - len(row.byte_match))
        assert _has_signature(b"\1" * spare + tail), row


@given(st.binary(max_size=600))
def test_short_look_passes_over_what_puremagic_does_not_know(head: bytes) -> None:
    try:
        found = bool(puremagic.magic_string(head))
    except (puremagic.PureError, ValueError):
        found = False
    assert found == _has_signature(head)
