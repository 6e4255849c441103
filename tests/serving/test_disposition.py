"""What a content type and a name become in the headers of an answer."""

from __future__ import annotations

import re
from email.message import Message
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets.serving.disposition import INLINE_TYPES, MAX_NAME, content_disposition, safe_name, treatment

OCTET_STREAM = "application/octet-stream"

TYPES = [
    # (catalog, sent, disposition)
    pytest.param("image/png", "image/png", "inline", id="image"),
    pytest.param("IMAGE/PNG", "IMAGE/PNG", "inline", id="8.3.1-any-case"),
    pytest.param("video/mp4", "video/mp4", "inline", id="video"),
    pytest.param("audio/mpeg", "audio/mpeg", "inline", id="audio"),
    pytest.param('video/webm; codecs="vp9, opus"', 'video/webm; codecs="vp9, opus"', "inline", id="parameters"),
    pytest.param("application/pdf", "application/pdf", "inline", id="pdf"),
    pytest.param("application/json", "application/json", "inline", id="json"),
    pytest.param("text/plain", "text/plain; charset=utf-8", "inline", id="text-gets-charset"),
    pytest.param("text/plain; charset=latin-1", "text/plain; charset=latin-1", "inline", id="text-keeps-charset"),
    pytest.param("text/plain; format=flowed", "text/plain; format=flowed; charset=utf-8", "inline", id="text-flowed"),
    pytest.param("text/html", "text/html", "attachment", id="html"),
    pytest.param("image/svg+xml", "image/svg+xml", "attachment", id="svg"),
    pytest.param("application/xhtml+xml", "application/xhtml+xml", "attachment", id="xhtml"),
    pytest.param("text/xml", "text/xml", "attachment", id="xml"),
    pytest.param("text/javascript", "text/javascript", "attachment", id="javascript"),
    pytest.param(OCTET_STREAM, OCTET_STREAM, "attachment", id="octet-stream"),
    pytest.param("", OCTET_STREAM, "attachment", id="empty"),
    pytest.param("image", OCTET_STREAM, "attachment", id="no-subtype"),
    pytest.param("image/png\r\nX: y", OCTET_STREAM, "attachment", id="crlf"),
    pytest.param("image/png\n", OCTET_STREAM, "attachment", id="newline"),
    pytest.param('image/png; a="\r\nX: y"', OCTET_STREAM, "attachment", id="crlf-in-quotes"),
    pytest.param("image/png, text/html", OCTET_STREAM, "attachment", id="two-types"),
    pytest.param("image/pñg", OCTET_STREAM, "attachment", id="not-ascii"),
    pytest.param("image/png;", OCTET_STREAM, "attachment", id="8.3.1-no-parameter"),
    pytest.param("image/" + "x" * 300, OCTET_STREAM, "attachment", id="too-long"),
]


@pytest.mark.parametrize(("content_type", "sent", "disposition"), TYPES)
def test_content_type_of_table_is_sent_inline_or_attached(content_type: str, sent: str, disposition: str) -> None:
    found = treatment(content_type)
    assert (found.content_type, found.disposition) == (sent, disposition)


@pytest.mark.parametrize("content_type", sorted({*INLINE_TYPES, "text/html", "image/svg+xml", "rubbish"}))
def test_policy_of_every_type_is_sandbox_without_scripts(content_type: str) -> None:
    directives = treatment(content_type).policy.split("; ")
    assert directives[0].split()[0] == "sandbox"
    assert "default-src 'none'" in directives
    assert not re.search("allow-(scripts|forms|popups|top)|script-src|object-src", treatment(content_type).policy)


@pytest.mark.parametrize(
    ("content_type", "keeps_origin"),
    [("video/mp4", True), ("audio/wav", True), ("image/png", False), ("text/html", False)],
)
def test_policy_of_media_alone_keeps_origin_for_second_request(content_type: str, keeps_origin: bool) -> None:
    assert ("allow-same-origin" in treatment(content_type).policy) is keeps_origin


NAMES = [
    pytest.param("a.png", 'inline; filename="a.png"', id="plain"),
    pytest.param("my file (1).png", 'inline; filename="my file (1).png"', id="spaces"),
    pytest.param("a;b,c.png", 'inline; filename="a;b,c.png"', id="6266-4-separators-in-quotes"),
    pytest.param("Käse.png", "inline; filename=\"K_se.png\"; filename*=UTF-8''K%C3%A4se.png", id="8187-3.2-umlaut"),
    pytest.param("猫.png", "inline; filename=\"_.png\"; filename*=UTF-8''%E7%8C%AB.png", id="8187-3.2-cjk"),
    pytest.param('a"b.png', "inline; filename=\"a_b.png\"; filename*=UTF-8''a%22b.png", id="6266-D-quote"),
    pytest.param("a%41.png", "inline; filename=\"a_41.png\"; filename*=UTF-8''a%2541.png", id="6266-D-percent"),
    pytest.param(
        "a'b*(é).x", "inline; filename=\"a'b*(_).x\"; filename*=UTF-8''a%27b%2A%28%C3%A9%29.x", id="8187-attr-char"
    ),
    pytest.param("a\\b.png", 'inline; filename="a_b.png"', id="6266-4.3-backslash"),
    pytest.param("../../etc/passwd", 'inline; filename=".._.._etc_passwd"', id="6266-4.3-path"),
    pytest.param("a\r\nSet-Cookie: x=1", 'inline; filename="a__Set-Cookie: x=1"', id="crlf"),
    pytest.param("a\x00\x7f\x85.png", 'inline; filename="a___.png"', id="controls"),
    pytest.param("gnp\u202eexe.scr", 'inline; filename="gnp_exe.scr"', id="bidi-override"),
    pytest.param("a\u2066b\u2069\u200f.png", 'inline; filename="a_b__.png"', id="bidi-isolates"),
    pytest.param("\ud800.png", 'inline; filename="_.png"', id="lone-surrogate"),
    pytest.param("", 'inline; filename="download"', id="empty"),
    pytest.param("   ", 'inline; filename="download"', id="blank"),
    pytest.param("..", 'inline; filename="download"', id="dots"),
]


@pytest.mark.parametrize(("name", "expected"), NAMES)
def test_disposition_of_name_of_table_is_escaped(name: str, expected: str) -> None:
    assert content_disposition("inline", name) == expected


def test_safe_name_of_joined_emoji_stays_whole() -> None:
    assert safe_name("👩\u200d🚀.png") == "👩\u200d🚀.png"


@pytest.mark.parametrize("name", ["x" * 500 + ".png", "x" * 500, "x." + "y" * 500])
def test_safe_name_of_long_name_is_cut_before_extension(name: str) -> None:
    assert len(safe_name(name)) == MAX_NAME
    assert safe_name(name).endswith(".png") == name.endswith(".png")


@given(st.text())
def test_any_name_gives_one_clean_header_that_reads_back(name: str) -> None:
    header = content_disposition("attachment", name)
    assert re.fullmatch(
        r"attachment; filename=\"[\x20\x21\x23-\x5b\x5d-\x7e]+\"(; filename\*=UTF-8''[\x21-\x7e]+)?", header
    )
    message = Message()
    message["Content-Disposition"] = header
    assert message.get_content_disposition() == "attachment"
    extended = header.partition("filename*=UTF-8''")[2]
    assert unquote(extended or header.split('"')[1]) == safe_name(name)


@given(st.text())
def test_any_content_type_gives_one_clean_header(content_type: str) -> None:
    assert re.fullmatch(r"[\x20-\x7e\t]+", treatment(content_type).content_type)
