"""Names of an archive's entries: safe for every system, and each once."""

from __future__ import annotations

import pytest

from assets.models import fold_name
from assets.services.archive_names import SEGMENT_BYTES, Names, safe_segment


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("a.png", "a.png"),
        ("Bild ä 🎨.png", "Bild ä 🎨.png"),
        (".env", ".env"),
        ("../../evil.txt", ".._.._evil.txt"),
        ("/etc/passwd", "_etc_passwd"),
        ("C:\\windows\\x", "C__windows_x"),
        ("", "_"),
        (".", "_"),
        ("..", "_"),
        (" . . ", "_"),
        ("   ", "_"),
        ("a\x00b\nc\x7f", "a_b_c_"),
        ("a\u202egnp.exe", "a_gnp.exe"),
        ("a\ud800", "a_"),
        ('<>:"|?*', "_______"),
        ("ends with dots...", "ends with dots"),
        ("NUL", "_NUL"),
        ("con.txt", "_con.txt"),
        ("Com1.tar.gz", "_Com1.tar.gz"),
        ("LPT².x", "_LPT².x"),
        ("aux .txt", "_aux .txt"),
        ("console.txt", "console.txt"),
        ("com10", "com10"),
    ],
)
def test_safe_segment_is_one_name_on_every_system(name: str, safe: str) -> None:
    assert safe_segment(name) == safe


@pytest.mark.parametrize("letter", ["a", "ä", "🎨"])
def test_safe_segment_of_a_long_name_is_cut_between_characters_and_keeps_its_extension(letter: str) -> None:
    segment = safe_segment(letter * 10_000 + ".png")
    assert SEGMENT_BYTES - 4 < len(segment.encode()) <= SEGMENT_BYTES
    assert segment.endswith(letter + ".png")


def test_safe_segment_of_a_long_ending_is_cut_too() -> None:
    assert len(safe_segment("a." + "x" * 10_000).encode()) == SEGMENT_BYTES


def test_names_number_what_is_taken_whatever_its_case_or_form() -> None:
    names = Names("_errors.txt")
    given = [
        names.take(name) for name in ("a.png", "A.PNG", "a (2).png", "a.png", "ä", "a\u0308", "_errors.txt", "?", "_")
    ]
    assert given == [
        "a.png", "A (2).PNG", "a (2) (2).png", "a (3).png", "ä", "a\u0308 (2)", "_errors (2).txt", "_", "_ (2)",
    ]  # fmt: skip
    assert len({fold_name(name) for name in given}) == len(given)


def test_names_of_one_long_name_ten_thousand_times_stay_short_and_apart() -> None:
    names = Names()
    given = {names.take("x" * 300 + ".png") for _ in range(10_000)}
    assert len(given) == 10_000
    assert max(len(name.encode()) for name in given) <= 255
