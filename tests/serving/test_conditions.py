"""Entity tags, HTTP dates and preconditions by table; the section of RFC 9110 stands in each id."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets.serving.conditions import (
    Conditions,
    check_write,
    format_http_date,
    judge_read,
    parse_etags,
    parse_http_date,
    range_applies,
)
from storagecache.errors import PreconditionFailedError

ETAG = '"abc"'
MODIFIED = 784111777  # Sun, 06 Nov 1994 08:49:37 GMT, the date of RFC 9110 5.6.7
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
EARLIER = "Sun, 06 Nov 1994 08:49:36 GMT"
LATER = "Sun, 06 Nov 1994 08:49:38 GMT"
NOW = 1_790_000_000  # in 2026

DATES = [
    pytest.param(DATE, MODIFIED, id="5.6.7-imf-fixdate"),
    pytest.param("Sunday, 06-Nov-94 08:49:37 GMT", MODIFIED, id="5.6.7-rfc850"),
    pytest.param("Sun Nov  6 08:49:37 1994", MODIFIED, id="5.6.7-asctime"),
    pytest.param("Sun Nov 16 08:49:37 1994", MODIFIED + 864000, id="5.6.7-asctime-two-digits"),
    pytest.param(f" {DATE}\t", MODIFIED, id="5.5-space-around"),
    pytest.param("Tuesday, 01-Jan-70 00:00:00 GMT", 3155760000, id="5.6.7-rfc850-44-years-ahead-stays"),
    pytest.param("Saturday, 01-Jan-77 00:00:00 GMT", 220924800, id="5.6.7-rfc850-over-50-years-ahead-is-past"),
    pytest.param("Thu, 01 Jan 1970 00:00:00 GMT", 0, id="5.6.7-epoch"),
    pytest.param("Wed, 31 Dec 1969 23:59:59 GMT", -1, id="5.6.7-before-1970"),
    pytest.param("Sat, 31 Dec 2016 23:59:60 GMT", 1483228799, id="5.6.7-leap-second"),
    pytest.param("Fri, 31 Dec 9999 23:59:59 GMT", 253402300799, id="5.6.7-last-year"),
    pytest.param("Sat, 01 Jan 0000 00:00:00 GMT", None, id="5.6.7-year-zero"),
    pytest.param("Sat, 01 Jan 99999 00:00:00 GMT", None, id="5.6.7-five-digit-year"),
    pytest.param("Sat, 01 Jan -001 00:00:00 GMT", None, id="5.6.7-negative-year"),
    pytest.param("Thu, 31 Feb 2020 00:00:00 GMT", None, id="5.6.7-31-february"),
    pytest.param("Sun, 06 Nov 1994 25:49:37 GMT", None, id="5.6.7-hour-25"),
    pytest.param("Sun, 06 Nov 1994 08:49:61 GMT", None, id="5.6.7-second-61"),
    pytest.param("Sun, 0² Nov 1994 08:49:37 GMT", None, id="5.6.7-superscript"),
    pytest.param("Sun, 6 Nov 1994 08:49:37 GMT", None, id="5.6.7-one-digit-day"),
    pytest.param("Sun, 06 nov 1994 08:49:37 GMT", None, id="5.6.7-case-sensitive"),
    pytest.param("So, 06 Nov 1994 08:49:37 GMT", None, id="5.6.7-german-day"),
    pytest.param("Sun, 06 Nov 1994 08:49:37 +0000", None, id="5.6.7-offset"),
    pytest.param("Sun, 06 Nov 1994 08:49:37", None, id="5.6.7-no-zone"),
    pytest.param(f"{DATE}, {DATE}", None, id="13.1.3-two-members"),
    pytest.param("1994-11-06T08:49:37Z", None, id="5.6.7-iso-8601"),
    pytest.param("784111777", None, id="5.6.7-number"),
    pytest.param("0", None, id="5.6.7-zero"),
    pytest.param("", None, id="5.6.7-empty"),
    pytest.param("9" * 5000, None, id="5.6.7-5000-digits"),
]


@pytest.mark.parametrize(("field", "expected"), DATES)
def test_http_date_of_table_gives_seconds_or_none(field: str, expected: int | None) -> None:
    assert parse_http_date(field, now=NOW) == expected


@given(st.integers(-(10**9), 253402300799))
def test_formatted_date_parses_back_to_same_second(seconds: int) -> None:
    assert parse_http_date(format_http_date(seconds), now=NOW) == seconds


TAG_LISTS = [
    pytest.param('"a"', ['"a"'], id="8.8.3-one"),
    pytest.param('"a", W/"b"', ['"a"', 'W/"b"'], id="8.8.3-strong-and-weak"),
    pytest.param('"a,b" , "c"', ['"a,b"', '"c"'], id="8.8.3-comma-inside"),
    pytest.param('""', ['""'], id="8.8.3-empty-opaque"),
    pytest.param(',"a",, "b", ', ['"a"', '"b"'], id="5.6.1.2-empty-elements"),
    pytest.param('"ü"', ['"ü"'], id="8.8.3-obs-text"),
    pytest.param("a", None, id="8.8.3-unquoted"),
    pytest.param('"a" "b"', None, id="5.6.1-no-comma"),
    pytest.param('w/"a"', None, id="8.8.3-weak-is-case-sensitive"),
    pytest.param('W/ "a"', None, id="8.8.3-space-in-tag"),
    pytest.param('"a', None, id="8.8.3-unclosed"),
    pytest.param('"a b"', None, id="8.8.3-space-in-opaque"),
    pytest.param('*, "a"', None, id="13.1.1-star-in-list"),
    pytest.param("", None, id="5.6.1-empty"),
    pytest.param(" , ,", None, id="5.6.1-only-commas"),
    pytest.param('"a",' * 3000 + "x", None, id="17-long-and-malformed"),
]


@pytest.mark.parametrize(("field", "expected"), TAG_LISTS)
def test_etag_list_of_table_gives_tags_or_none(field: str, expected: list[str] | None) -> None:
    assert parse_etags(field) == expected


READS = [
    pytest.param({}, 200, id="13.2.2-none"),
    pytest.param({"if_match": ETAG}, 200, id="13.1.1-same"),
    pytest.param({"if_match": "*"}, 200, id="13.1.1-star"),
    pytest.param({"if_match": '"x", "abc"'}, 200, id="13.1.1-in-list"),
    pytest.param({"if_match": '"x"'}, 412, id="13.1.1-other"),
    pytest.param({"if_match": 'W/"abc"'}, 412, id="8.8.3.2-weak-is-not-strong"),
    pytest.param({"if_match": "abc"}, 412, id="13.1.1-malformed"),
    pytest.param({"if_match": ""}, 412, id="13.1.1-empty"),
    pytest.param({"if_unmodified_since": DATE}, 200, id="13.1.4-same"),
    pytest.param({"if_unmodified_since": LATER}, 200, id="13.1.4-later"),
    pytest.param({"if_unmodified_since": EARLIER}, 412, id="13.1.4-earlier"),
    pytest.param({"if_unmodified_since": "nonsense"}, 200, id="13.1.4-invalid-ignored"),
    pytest.param({"if_match": ETAG, "if_unmodified_since": EARLIER}, 200, id="13.1.4-ignored-beside-if-match"),
    pytest.param({"if_none_match": ETAG}, 304, id="13.1.2-same"),
    pytest.param({"if_none_match": f" {ETAG} "}, 304, id="5.5-space-around"),
    pytest.param({"if_none_match": 'W/"abc"'}, 304, id="8.8.3.2-weak-compares"),
    pytest.param({"if_none_match": '"x", W/"abc"'}, 304, id="13.1.2-in-list"),
    pytest.param({"if_none_match": "*"}, 304, id="13.1.2-star"),
    pytest.param({"if_none_match": '"x"'}, 200, id="13.1.2-other"),
    pytest.param({"if_none_match": "abc"}, 200, id="13.1.2-malformed"),
    pytest.param({"if_modified_since": DATE}, 304, id="13.1.3-same"),
    pytest.param({"if_modified_since": LATER}, 304, id="13.1.3-later"),
    pytest.param({"if_modified_since": EARLIER}, 200, id="13.1.3-earlier"),
    pytest.param({"if_modified_since": "²"}, 200, id="13.1.3-invalid-ignored"),
    pytest.param({"if_none_match": '"x"', "if_modified_since": LATER}, 200, id="13.1.3-ignored-beside-if-none-match"),
    pytest.param({"if_none_match": "abc", "if_modified_since": LATER}, 200, id="13.1.3-ignored-beside-malformed"),
    pytest.param({"if_match": '"x"', "if_none_match": ETAG}, 412, id="13.2.2-if-match-first"),
    pytest.param({"if_match": ETAG, "if_none_match": ETAG}, 304, id="13.2.2-then-if-none-match"),
    pytest.param({"if_unmodified_since": EARLIER, "if_none_match": ETAG}, 412, id="13.2.2-unmodified-first"),
    pytest.param({"if_unmodified_since": LATER, "if_modified_since": DATE}, 304, id="13.2.2-then-modified"),
]


@pytest.mark.parametrize(("fields", "expected"), READS)
def test_read_preconditions_of_table_give_verdict(fields: dict[str, str], expected: int) -> None:
    assert judge_read(Conditions(**fields), etag=ETAG, modified_at=MODIFIED, now=NOW) == expected


IF_RANGES = [
    pytest.param(None, NOW, True, id="13.1.5-absent"),
    pytest.param(ETAG, NOW, True, id="13.1.5-strong"),
    pytest.param('W/"abc"', NOW, False, id="13.1.5-weak"),
    pytest.param('"x"', NOW, False, id="13.1.5-other"),
    pytest.param('"abc", "x"', NOW, False, id="13.1.5-list"),
    pytest.param("*", NOW, False, id="13.1.5-star"),
    pytest.param("abc", NOW, False, id="13.1.5-malformed"),
    pytest.param("", NOW, False, id="13.1.5-empty"),
    pytest.param(DATE, NOW, True, id="13.1.5-date-exact"),
    pytest.param("Sun Nov  6 08:49:37 1994", NOW, True, id="13.1.5-date-exact-in-asctime"),
    pytest.param(EARLIER, NOW, False, id="13.1.5-date-earlier"),
    pytest.param(LATER, NOW, False, id="13.1.5-date-later-is-not-exact"),
    pytest.param(DATE, MODIFIED + 1, True, id="8.8.2.2-one-second-old"),
    pytest.param(DATE, MODIFIED, False, id="8.8.2.2-same-second-is-weak"),
]


@pytest.mark.parametrize(("field", "now", "expected"), IF_RANGES)
def test_if_range_of_table_applies_or_not(field: str | None, now: int, expected: bool) -> None:
    assert range_applies(field, etag=ETAG, modified_at=MODIFIED, now=now) is expected


WRITES = [
    # (method, headers, current ETag, goes on)
    pytest.param("PUT", {}, ETAG, True, id="13.1-none"),
    pytest.param("PUT", {}, None, True, id="13.1-none-absent"),
    pytest.param("PUT", {"if_match": ETAG}, ETAG, True, id="13.1.1-same"),
    pytest.param("PUT", {"if_match": '"x","abc"'}, ETAG, True, id="13.1.1-in-list"),
    pytest.param("PUT", {"if_match": "*"}, ETAG, True, id="13.1.1-star"),
    pytest.param("PUT", {"if_match": "*"}, None, False, id="13.1.1-star-absent"),
    pytest.param("PUT", {"if_match": ETAG}, None, False, id="13.1.1-tag-absent"),
    pytest.param("PUT", {"if_match": '"x"'}, ETAG, False, id="13.1.1-other"),
    pytest.param("PUT", {"if_match": 'W/"abc"'}, ETAG, False, id="8.8.3.2-weak"),
    pytest.param("PUT", {"if_match": "abc"}, ETAG, False, id="13.1.1-unquoted"),
    pytest.param("PUT", {"if_match": f"{ETAG}, nonsense"}, ETAG, False, id="13.1.1-half-malformed"),
    pytest.param("PUT", {"if_match": ""}, ETAG, False, id="13.1.1-empty"),
    pytest.param("PUT", {"if_none_match": "*"}, None, True, id="13.1.2-star-absent"),
    pytest.param("PUT", {"if_none_match": "*"}, ETAG, False, id="13.1.2-star-present"),
    pytest.param("PUT", {"if_none_match": '"x"'}, ETAG, True, id="13.1.2-other"),
    pytest.param("PUT", {"if_none_match": ETAG}, ETAG, False, id="13.1.2-same"),
    pytest.param("PUT", {"if_none_match": f'"x", W/{ETAG}'}, ETAG, False, id="13.1.2-weak-in-list"),
    pytest.param("PUT", {"if_none_match": ETAG}, None, True, id="13.1.2-tag-absent"),
    pytest.param("PUT", {"if_none_match": "abc"}, ETAG, False, id="13.1.2-malformed-refused"),
    pytest.param("PUT", {"if_none_match": "abc"}, None, False, id="13.1.2-malformed-refused-absent"),
    pytest.param("PUT", {"if_none_match": ""}, ETAG, False, id="13.1.2-empty-refused"),
    pytest.param("PUT", {"if_match": ETAG, "if_none_match": "*"}, ETAG, False, id="13.2.2-both"),
    pytest.param("PUT", {"if_unmodified_since": DATE}, ETAG, True, id="13.1.4-same"),
    pytest.param("PUT", {"if_unmodified_since": EARLIER}, ETAG, False, id="13.1.4-earlier"),
    pytest.param("PUT", {"if_unmodified_since": "soon"}, ETAG, True, id="13.1.4-invalid-ignored"),
    pytest.param("PUT", {"if_match": ETAG, "if_unmodified_since": EARLIER}, ETAG, True, id="13.1.4-beside-if-match"),
    pytest.param("PUT", {"if_modified_since": LATER}, ETAG, True, id="13.1.3-not-for-writes"),
    pytest.param("PUT", {"if_range": '"x"'}, ETAG, True, id="13.1.5-not-for-writes"),
    pytest.param("DELETE", {"if_match": ETAG}, ETAG, True, id="13.1.1-delete-same"),
    pytest.param("DELETE", {"if_match": '"x"'}, ETAG, False, id="13.1.1-delete-other"),
    pytest.param("DELETE", {"if_none_match": "*"}, ETAG, False, id="13.1.2-delete-star"),
    pytest.param("DELETE", {"if_match": ETAG}, None, True, id="13.2.1-delete-absent-is-404-elsewhere"),
]


@pytest.mark.parametrize(("method", "fields", "etag", "goes_on"), WRITES)
def test_write_preconditions_of_table_hold_or_raise(
    method: str, fields: dict[str, str], etag: str | None, goes_on: bool
) -> None:
    modified_at = None if etag is None else MODIFIED
    with nullcontext() if goes_on else pytest.raises(PreconditionFailedError):
        check_write(method, Conditions(**fields), etag=etag, modified_at=modified_at, now=NOW)


def test_conditions_of_environ_take_each_header() -> None:
    names = ("IF_MATCH", "IF_UNMODIFIED_SINCE", "IF_NONE_MATCH", "IF_MODIFIED_SINCE", "IF_RANGE", "RANGE")
    found = Conditions.from_environ({f"HTTP_{name}": name for name in names} | {"PATH_INFO": "/"})
    assert found == Conditions(**{name.lower(): name for name in names})


def test_conditions_of_environ_without_headers_are_empty() -> None:
    assert Conditions.from_environ({"REQUEST_METHOD": "GET", "HTTP_HOST": "x"}) == Conditions()


@given(field=st.text(), now=st.integers(0, 2**40))
def test_any_text_in_any_header_never_raises(field: str, now: int) -> None:
    everything = Conditions(if_match=field, if_none_match=field, if_unmodified_since=field, if_modified_since=field)
    assert judge_read(everything, etag=ETAG, modified_at=MODIFIED, now=now) in (200, 304, 412)
    range_applies(field, etag=ETAG, modified_at=MODIFIED, now=now)
