"""Range headers by table; the section of RFC 9110 that decides stands in each id."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets.serving.ranges import MAX_ELEMENTS, MAX_RANGES, ByteRange, parse_range

IGNORED = None
UNSATISFIABLE: list[tuple[int, int]] = []
HUGE = "9" * 5000

CASES = [
    # single ranges of 10 bytes: (field, size, expected [(start, length)])
    pytest.param("bytes=0-0", 10, [(0, 1)], id="14.1.2-first-byte"),
    pytest.param("bytes=9-9", 10, [(9, 1)], id="14.1.2-last-byte"),
    pytest.param("bytes=0-9", 10, [(0, 10)], id="14.1.2-all-bytes"),
    pytest.param("bytes=0-", 10, [(0, 10)], id="14.1.2-open-from-start"),
    pytest.param("bytes=9-", 10, [(9, 1)], id="14.1.2-open-last-byte"),
    pytest.param("bytes=10-", 10, UNSATISFIABLE, id="14.1.2-open-behind-end"),
    pytest.param("bytes=10-10", 10, UNSATISFIABLE, id="14.1.2-closed-behind-end"),
    pytest.param("bytes=5-20", 10, [(5, 5)], id="14.1.2-last-clamped"),
    pytest.param("bytes=-1", 10, [(9, 1)], id="14.1.2-suffix-one"),
    pytest.param("bytes=-10", 10, [(0, 10)], id="14.1.2-suffix-all"),
    pytest.param("bytes=-20", 10, [(0, 10)], id="14.1.2-suffix-longer-than-object"),
    pytest.param("bytes=-0", 10, UNSATISFIABLE, id="14.1.2-suffix-zero"),
    pytest.param("bytes=5-2", 10, IGNORED, id="14.1.1-last-before-first"),
    pytest.param("bytes=007-008", 10, [(7, 2)], id="14.1.2-leading-zeros"),
    # empty object
    pytest.param("bytes=0-", 0, UNSATISFIABLE, id="14.1.2-empty-object-open"),
    pytest.param("bytes=0-0", 0, UNSATISFIABLE, id="14.1.2-empty-object-first"),
    pytest.param("bytes=-5", 0, IGNORED, id="14.1.2-empty-object-suffix-has-no-content-range"),
    pytest.param("bytes=-0", 0, UNSATISFIABLE, id="14.1.2-empty-object-suffix-zero"),
    pytest.param("bytes=0-0,-5", 0, IGNORED, id="14.1.2-empty-object-mixed"),
    # numbers that trap int()
    pytest.param("bytes=+1-2", 10, IGNORED, id="14.1.1-plus-sign"),
    pytest.param("bytes=1_0-", 100, IGNORED, id="14.1.1-underscore"),
    pytest.param("bytes=²-", 10, IGNORED, id="14.1.1-superscript"),
    pytest.param("bytes=٣-", 10, IGNORED, id="14.1.1-arabic-digit"),
    pytest.param("bytes=0x1-2", 10, IGNORED, id="14.1.1-hexadecimal"),
    pytest.param("bytes=1.0-2", 10, IGNORED, id="14.1.1-decimal-point"),
    pytest.param("bytes=--1", 10, IGNORED, id="14.1.1-two-hyphens"),
    pytest.param("bytes=1--2", 10, IGNORED, id="14.1.1-negative-last"),
    pytest.param(f"bytes={HUGE}-", 10, UNSATISFIABLE, id="14.1.2-5000-digits-first"),
    pytest.param(f"bytes=0-{HUGE}", 10, [(0, 10)], id="14.1.2-5000-digits-last"),
    pytest.param(f"bytes=-{HUGE}", 10, [(0, 10)], id="14.1.2-5000-digits-suffix"),
    pytest.param(f"bytes={'0' * 5000}3-4", 10, [(3, 2)], id="14.1.2-5000-leading-zeros"),
    pytest.param(f"bytes={HUGE}-{HUGE[:-1]}8", 10, IGNORED, id="14.1.1-5000-digits-last-before-first"),
    pytest.param(f"bytes={HUGE}-{HUGE}", 10, UNSATISFIABLE, id="14.1.2-5000-digits-both"),
    pytest.param("bytes=0-18446744073709551616", 10, [(0, 10)], id="14.1.2-over-64-bits"),
    pytest.param("bytes=18446744073709551616-", 10, UNSATISFIABLE, id="14.1.2-first-over-64-bits"),
    # units and syntax
    pytest.param("Bytes=0-1", 10, [(0, 2)], id="14.1-unit-any-case"),
    pytest.param("BYTES=0-1", 10, [(0, 2)], id="14.1-unit-upper-case"),
    pytest.param("byteſ=0-1", 10, IGNORED, id="14.1-unit-long-s"),
    pytest.param("items=0-1", 10, IGNORED, id="14.2-unknown-unit"),
    pytest.param("bytes = 0-1", 10, IGNORED, id="14.1.1-space-around-equals"),
    pytest.param("bytes= 0-1", 10, IGNORED, id="5.6.1-space-before-first-element"),
    pytest.param("bytes=0 - 1", 10, IGNORED, id="14.1.1-space-inside"),
    pytest.param("  bytes=0-1\t", 10, [(0, 2)], id="5.5-space-around-the-value"),
    pytest.param("bytes=", 10, IGNORED, id="14.1.1-no-range"),
    pytest.param("bytes=,", 10, IGNORED, id="5.6.1-only-empty-elements"),
    pytest.param("bytes=-", 10, IGNORED, id="14.1.1-hyphen-alone"),
    pytest.param("bytes=abc", 10, IGNORED, id="14.1.1-other-range"),
    pytest.param("bytes", 10, IGNORED, id="14.1.1-unit-alone"),
    pytest.param("bytes=0-1;2-3", 10, IGNORED, id="14.1.1-semicolon"),
    pytest.param("bytes=0-1\n", 10, IGNORED, id="5.5-newline"),
    pytest.param("bytes=0-1,bytes=2-3", 10, IGNORED, id="5.3-two-fields-joined"),
    pytest.param("", 10, IGNORED, id="14.2-empty-field"),
    # several
    pytest.param("bytes=0-1,3-4", 10, [(0, 2), (3, 2)], id="14.1.2-two"),
    pytest.param("bytes=0-1,2-3", 10, [(0, 2), (2, 2)], id="15.3.7.2-touching-stay-apart"),
    pytest.param("bytes=3-4,0-1", 10, [(3, 2), (0, 2)], id="15.3.7.2-order-of-the-request"),
    pytest.param("bytes=0-1 ,\t3-4", 10, [(0, 2), (3, 2)], id="5.6.1-space-around-comma"),
    pytest.param("bytes=0-1, ,2-3", 10, [(0, 2), (2, 2)], id="5.6.1.2-empty-element"),
    pytest.param("bytes=,0-1", 10, [(0, 2)], id="5.6.1.2-leading-comma"),
    pytest.param("bytes= ,0-1", 10, [(0, 2)], id="5.6.1.2-leading-space-and-comma"),
    pytest.param("bytes=0-1,", 10, [(0, 2)], id="5.6.1.2-trailing-comma"),
    pytest.param("bytes=0-0,-1", 10, [(0, 1), (9, 1)], id="14.1.2-first-and-last"),
    pytest.param("bytes=0-1,50-60", 10, [(0, 2)], id="14.2-satisfiable-subset"),
    pytest.param("bytes=50-60,-0", 10, UNSATISFIABLE, id="14.2-none-satisfiable"),
    pytest.param("bytes=0-1,5-2", 10, IGNORED, id="14.1.1-one-invalid-spoils-all"),
    pytest.param("bytes=0-1,x", 10, IGNORED, id="14.1.1-one-malformed-spoils-all"),
    pytest.param("bytes=0-1,0-1", 10, [(0, 2)], id="15.3.7.2-duplicates"),
    pytest.param("bytes=0-4,2-6", 10, [(0, 7)], id="15.3.7.2-overlap"),
    pytest.param("bytes=8-9,4-6,0-4", 10, [(8, 2), (0, 7)], id="15.3.7.2-overlap-stands-at-first-member"),
    pytest.param("bytes=0-,0-,0-", 10, [(0, 10)], id="17.15-whole-object-thrice"),
    pytest.param("bytes=0-9,-5,2-3", 10, [(0, 10)], id="15.3.7.2-contained"),
    # bounds
    pytest.param("bytes=" + ",".join(f"{2 * i}-{2 * i}" for i in range(MAX_RANGES)), 100,
                 [(2 * i, 1) for i in range(MAX_RANGES)], id="17.15-as-many-as-allowed"),
    pytest.param("bytes=" + ",".join(f"{2 * i}-{2 * i}" for i in range(MAX_RANGES + 1)), 100, IGNORED,
                 id="17.15-one-too-many"),
    pytest.param("bytes=" + ",".join(["0-"] * 500), 10, IGNORED, id="17.15-hundreds"),
    pytest.param("bytes=0-1" + "," * (MAX_ELEMENTS - 1), 10, [(0, 2)], id="5.6.1.2-reasonable-empty-elements"),
    pytest.param("bytes=0-1" + "," * MAX_ELEMENTS, 10, IGNORED, id="5.6.1.2-too-many-empty-elements"),
]  # fmt: skip


@pytest.mark.parametrize(("field", "size", "expected"), CASES)
def test_range_field_of_table_gives_expected_ranges(
    field: str, size: int, expected: list[tuple[int, int]] | None
) -> None:
    ranges = parse_range(field, size)
    assert (None if ranges is None else [(found.start, found.length) for found in ranges]) == expected


def test_content_range_of_range_names_inclusive_last_byte() -> None:
    assert ByteRange(3, 4).content_range(10) == "bytes 3-6/10"  # RFC 9110 14.4


NUMBERS = st.one_of(st.just(""), st.integers(0, 40).map(str), st.integers(0, 10**30).map(str))
SPECS = st.one_of(st.tuples(NUMBERS, NUMBERS).map("-".join), st.sampled_from(["", " ", "x", "²-", "+1-"]))
FIELDS = st.one_of(st.text(), st.lists(SPECS, max_size=24).map(lambda specs: "bytes=" + ",".join(specs)))


@given(field=FIELDS, size=st.integers(0, 50))
def test_any_field_gives_ranges_inside_the_object_without_overlap(field: str, size: int) -> None:
    ranges = parse_range(field, size) or ()
    covered = [position for found in ranges for position in range(found.start, found.stop)]
    assert all(found.length > 0 for found in ranges)
    assert all(0 <= position < size for position in covered)
    assert len(covered) == len(set(covered))


@given(
    pairs=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)).map(sorted), min_size=1, max_size=MAX_RANGES),
    size=st.integers(1, 50),
)
def test_valid_set_covers_exactly_the_bytes_asked_for(pairs: list[list[int]], size: int) -> None:
    field = "bytes=" + ", ".join(f"{first}-{last}" for first, last in pairs)
    asked = {position for first, last in pairs for position in range(first, min(last + 1, size))}
    assert {
        position for found in parse_range(field, size) or () for position in range(found.start, found.stop)
    } == asked
