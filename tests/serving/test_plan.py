"""Whole answers: status, headers and bytes of GET and HEAD; the section of RFC 9110 stands in each id."""

from __future__ import annotations

import email.parser
import email.policy
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets.serving.plan import Body, Conditions, Plan, ServedObject, plan_get, response_overrides

CONTENT = b"0123456789"
ETAG = f'"{"ab" * 32}"'
MODIFIED = 784111777
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
NOW = 1_790_000_000
SERVED = ServedObject(size=10, etag=ETAG, content_type="image/png", modified_at=MODIFIED, name="cat.png")
EMPTY = replace(SERVED, size=0)
NOSNIFF = ("X-Content-Type-Options", "nosniff")


def plan(fields: dict[str, str], method: str = "GET", served: ServedObject = SERVED) -> Plan:
    """Plan with the usual clock and caching."""
    return plan_get(method, Conditions(**fields), served, now=NOW, cache_control="private, no-cache", vary="Cookie")


def sent(answer: Plan, content: bytes = CONTENT) -> bytes:
    """Send as an emitter would."""
    runs = (part.preamble + content[part.start : part.start + part.length] for part in answer.parts)
    return b"".join(runs) + answer.closing


def names(answer: Plan) -> set[str]:
    return {name for name, _ in answer.headers}


ANSWERS = [
    # (method, headers, object, status, Content-Length, Content-Range, bytes)
    pytest.param("GET", {}, SERVED, 200, "10", None, CONTENT, id="9.3.1-whole"),
    pytest.param("HEAD", {}, SERVED, 200, "10", None, b"", id="9.3.2-head-has-length"),
    pytest.param("GET", {}, EMPTY, 200, "0", None, b"", id="9.3.1-empty-object"),
    pytest.param("GET", {"range": "bytes=0-0"}, SERVED, 206, "1", "bytes 0-0/10", b"0", id="15.3.7.1-first"),
    pytest.param("GET", {"range": "bytes=9-9"}, SERVED, 206, "1", "bytes 9-9/10", b"9", id="15.3.7.1-last"),
    pytest.param("GET", {"range": "bytes=0-"}, SERVED, 206, "10", "bytes 0-9/10", CONTENT, id="15.3.7.1-all"),
    pytest.param("GET", {"range": "bytes=-20"}, SERVED, 206, "10", "bytes 0-9/10", CONTENT, id="14.1.2-long-suffix"),
    pytest.param("GET", {"range": "bytes=-1"}, SERVED, 206, "1", "bytes 9-9/10", b"9", id="14.1.2-suffix"),
    pytest.param("GET", {"range": "bytes=0-1,90-"}, SERVED, 206, "2", "bytes 0-1/10", b"01", id="15.3.7.2-one-left"),
    pytest.param("GET", {"range": "bytes=0-1,0-1"}, SERVED, 206, "2", "bytes 0-1/10", b"01", id="15.3.7.2-one-united"),
    pytest.param("GET", {"range": "bytes=5-2"}, SERVED, 200, "10", None, CONTENT, id="14.1.1-invalid"),
    pytest.param("GET", {"range": "bytes=10-"}, SERVED, 416, None, "bytes */10", b"", id="15.5.17-behind-end"),
    pytest.param("GET", {"range": "bytes=-0"}, SERVED, 416, None, "bytes */10", b"", id="15.5.17-suffix-zero"),
    pytest.param("GET", {"range": "bytes=0-0"}, EMPTY, 416, None, "bytes */0", b"", id="15.5.17-empty-object"),
    pytest.param("GET", {"range": "bytes=-1"}, EMPTY, 200, "0", None, b"", id="14.1.2-suffix-of-empty-object"),
    pytest.param("HEAD", {"range": "bytes=0-1"}, SERVED, 200, "10", None, b"", id="14.2-head-ignores-range"),
    pytest.param("HEAD", {"range": "bytes=99-"}, SERVED, 200, "10", None, b"", id="14.2-head-never-416"),
    pytest.param(
        "HEAD", {"range": "bytes=0-1", "if_range": ETAG}, SERVED, 200, "10", None, b"", id="14.2-head-if-range"
    ),
    pytest.param("GET", {"if_range": '"x"'}, SERVED, 200, "10", None, CONTENT, id="13.1.5-without-range"),
    pytest.param(
        "GET", {"range": "bytes=0-1", "if_range": ETAG}, SERVED, 206, "2", "bytes 0-1/10", b"01", id="13.1.5-tag"
    ),
    pytest.param(
        "GET", {"range": "bytes=0-1", "if_range": f"W/{ETAG}"}, SERVED, 200, "10", None, CONTENT, id="13.1.5-weak"
    ),
    pytest.param(
        "GET", {"range": "bytes=99-", "if_range": '"x"'}, SERVED, 200, "10", None, CONTENT, id="13.1.5-no-416"
    ),
    pytest.param(
        "GET", {"range": "bytes=0-1", "if_range": DATE}, SERVED, 206, "2", "bytes 0-1/10", b"01", id="13.1.5-date"
    ),
    pytest.param(
        "GET",
        {"range": "bytes=0-1", "if_range": DATE.replace("37", "38")},
        SERVED,
        200,
        "10",
        None,
        CONTENT,
        id="13.1.5-date-not-exact",
    ),
    pytest.param(
        "GET", {"if_none_match": ETAG, "range": "bytes=0-1"}, SERVED, 304, None, None, b"", id="13.2.2-304-first"
    ),
    pytest.param("HEAD", {"if_none_match": ETAG}, SERVED, 304, None, None, b"", id="15.4.5-head"),
    pytest.param("GET", {"if_match": '"x"', "range": "bytes=99-"}, SERVED, 412, None, None, b"", id="13.2.2-412-first"),
    pytest.param(
        "GET", {"if_match": ETAG, "range": "bytes=3-4"}, SERVED, 206, "2", "bytes 3-4/10", b"34", id="13.2.2-on"
    ),
]


@pytest.mark.parametrize(("method", "fields", "served", "status", "length", "content_range", "content"), ANSWERS)
def test_plan_of_table_gives_status_length_range_and_bytes(
    method: str,
    fields: dict[str, str],
    served: ServedObject,
    status: int,
    length: str | None,
    content_range: str | None,
    content: bytes,
) -> None:
    answer = plan(fields, method, served)
    headers = dict(answer.headers)
    assert (answer.status, headers.get("Content-Length"), headers.get("Content-Range")) == (
        status,
        length,
        content_range,
    )
    assert sent(answer) == content


@pytest.mark.parametrize(
    "fields", [{}, {"range": "bytes=0-1"}, {"range": "bytes=0-1,3-4"}, {"range": "bytes=99-"}, {"if_match": '"x"'},
               {"if_none_match": "*"}], ids=["200", "206", "206-multipart", "416", "412", "304"]
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_every_answer_says_nosniff_ranges_and_vary_once(fields: dict[str, str], method: str) -> None:
    answer = plan(fields, method)
    assert {NOSNIFF, ("Accept-Ranges", "bytes"), ("Vary", "Cookie")} <= set(answer.headers)
    assert len(names(answer)) == len(answer.headers)


def test_whole_answer_carries_all_headers_of_the_object() -> None:
    headers = dict(plan({}).headers)
    assert headers["ETag"] == ETAG
    assert headers["Last-Modified"] == DATE
    assert headers["Cache-Control"] == "private, no-cache"
    assert headers["Content-Type"] == "image/png"
    assert headers["Content-Disposition"] == 'inline; filename="cat.png"'
    assert headers["Content-Security-Policy"].startswith("sandbox;")


def test_partial_answer_carries_headers_of_whole_answer() -> None:
    assert names(plan({"range": "bytes=0-1"})) == names(plan({})) | {"Content-Range"}  # RFC 9110 15.3.7


def test_head_answer_carries_headers_of_get() -> None:
    assert plan({}, "HEAD").headers == plan({}).headers  # RFC 9110 9.3.2
    assert plan({}, "HEAD").body is Body.NONE


def test_not_modified_carries_no_description_of_a_body() -> None:
    headers = dict(plan({"if_none_match": ETAG}).headers)  # RFC 9110 15.4.5
    assert headers["ETag"] == ETAG
    assert headers["Cache-Control"] == "private, no-cache"
    assert headers.keys().isdisjoint({"Content-Length", "Content-Type", "Content-Disposition", "Last-Modified"})


def test_not_modified_keeps_policy_that_caches_take_over() -> None:
    assert dict(plan({"if_none_match": ETAG}).headers)["Content-Security-Policy"].startswith("sandbox;")


@pytest.mark.parametrize("fields", [{"range": "bytes=99-"}, {"if_match": '"x"'}], ids=["416", "412"])
def test_error_is_left_to_caller_and_never_stored(fields: dict[str, str]) -> None:
    answer = plan(fields)
    assert answer.body is Body.ERROR
    assert answer.detail
    assert dict(answer.headers)["Cache-Control"] == "no-store"
    assert names(answer).isdisjoint({"Content-Length", "Content-Type", "ETag", "Last-Modified"})


def test_last_modified_in_future_is_sent_as_now() -> None:
    headers = dict(plan({}, served=replace(SERVED, modified_at=NOW + 100)).headers)
    assert headers["Last-Modified"] == "Mon, 21 Sep 2026 14:13:20 GMT"  # NOW; RFC 9110 8.8.2.1


def test_download_makes_attachment_with_name() -> None:
    answer = plan_get("GET", Conditions(), SERVED, now=NOW, cache_control="no-cache", download=True)
    assert dict(answer.headers)["Content-Disposition"] == 'attachment; filename="cat.png"'
    assert dict(answer.headers)["Content-Type"] == "image/png"


def test_empty_vary_is_not_sent() -> None:
    for fields in ({}, {"if_match": '"x"'}, {"if_none_match": "*"}):
        assert "Vary" not in names(plan_get("GET", Conditions(**fields), SERVED, now=NOW, cache_control="no-cache"))


OVERRIDES = [
    pytest.param("image/png", False, "image/png", "inline", id="inline"),
    pytest.param("image/png", True, "image/png", "attachment", id="inline-download"),
    pytest.param("text/html", False, "application/octet-stream", "attachment", id="html"),
    pytest.param("image/svg+xml", True, "application/octet-stream", "attachment", id="svg-download"),
    pytest.param("bad\r\nX: y", False, "application/octet-stream", "attachment", id="garbage"),
]


@pytest.mark.parametrize(("catalog", "download", "content_type", "disposition"), OVERRIDES)
def test_overrides_of_table_hide_types_off_inline_list(
    catalog: str, download: bool, content_type: str, disposition: str
) -> None:
    found = response_overrides(replace(SERVED, content_type=catalog), download=download)
    assert found == (content_type, f'{disposition}; filename="cat.png"')


@pytest.mark.parametrize("etag", ["abc", 'W/"abc"', '"a"b"', '"a\r\nX: y"', ""])
def test_object_with_etag_unfit_for_header_is_refused(etag: str) -> None:
    with pytest.raises(ValueError, match="quoted strong ETag"):
        replace(SERVED, etag=etag)


def test_object_of_negative_size_is_refused() -> None:
    with pytest.raises(ValueError, match="size"):
        replace(SERVED, size=-1)


def parsed(answer: Plan, content: bytes) -> list[tuple[str, str, bytes]]:
    """Read a multipart answer with a foreign parser: content type, content range and bytes of each part."""
    head = f"Content-Type: {dict(answer.headers)['Content-Type']}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + sent(answer, content))
    assert message.get_content_type() == "multipart/byteranges"
    assert not message.defects
    return [
        (part.get_content_type(), part["Content-Range"], part.get_payload(decode=True)) for part in message.iter_parts()
    ]


def test_multipart_answer_is_exact_to_the_byte() -> None:
    answer = plan({"range": "bytes=0-1,3-4"})
    boundary = b"range-" + b"ab" * 32
    assert sent(answer) == (
        b"--" + boundary + b"\r\nContent-Type: image/png\r\nContent-Range: bytes 0-1/10\r\n\r\n01"
        b"\r\n--" + boundary + b"\r\nContent-Type: image/png\r\nContent-Range: bytes 3-4/10\r\n\r\n34"
        b"\r\n--" + boundary + b"--\r\n"
    )  # fmt: skip
    assert dict(answer.headers)["Content-Length"] == str(len(sent(answer)))
    assert "Content-Range" not in names(answer)  # RFC 9110 15.3.7.2
    assert len(boundary) <= 70  # RFC 2046 5.1.1


@given(st.lists(st.integers(0, 9), min_size=2, max_size=10, unique=True))
def test_multipart_answer_reads_back_in_order(positions: list[int]) -> None:
    answer = plan({"range": "bytes=" + ",".join(f"{position}-{position}" for position in positions)})
    expected = [("image/png", f"bytes {position}-{position}/10", b"%d" % position) for position in positions]
    assert (answer.status, answer.body) == (206, Body.MULTIPART)
    assert parsed(answer, CONTENT) == expected


SPECS = st.tuples(st.integers(0, 30).map(str) | st.just(""), st.integers(0, 30).map(str) | st.just("")).map("-".join)
RANGES = st.text() | st.lists(SPECS, max_size=20).map(lambda specs: "bytes=" + ",".join(specs))
TAGS = st.text() | st.sampled_from([ETAG, f"W/{ETAG}", "*", '"x"', DATE])


@given(
    method=st.sampled_from(["GET", "HEAD"]),
    fields=st.fixed_dictionaries(
        {},
        optional={
            "range": RANGES,
            **dict.fromkeys(("if_match", "if_none_match", "if_range"), TAGS),
            **dict.fromkeys(("if_modified_since", "if_unmodified_since"), TAGS),
        },
    ),
    content=st.binary(max_size=25),
    content_type=st.text() | st.sampled_from(["image/png", "text/html"]),
    name=st.text(),
)
def test_any_request_gets_plan_whose_length_and_headers_are_true(
    method: str, fields: dict[str, str], content: bytes, content_type: str, name: str
) -> None:
    served = ServedObject(size=len(content), etag=ETAG, content_type=content_type, modified_at=MODIFIED, name=name)
    answer = plan(fields, method, served)
    assert all(0 <= part.start <= part.start + part.length <= len(content) for part in answer.parts)
    if answer.body in (Body.RUN, Body.MULTIPART):
        assert dict(answer.headers)["Content-Length"] == str(len(sent(answer, content)))
    else:
        assert sent(answer, content) == b""
    assert all(value.isprintable() or "\t" in value for _, value in answer.headers)
    assert all("\r" not in value and "\n" not in value and value.isascii() for _, value in answer.headers)
    assert answer.status_line.startswith(str(answer.status))
