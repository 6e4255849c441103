"""Small plots as SVG, drawn here: bars that need no script and no style of their own. Reads no database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from assets.admin.display import size, visible

_WIDE: Final = 1000  # pixels of the longest bar, stretched to the room there is
_DAY_HEIGHT: Final = 110
_DAY_STEP: Final = 10


@dataclass(frozen=True, slots=True)
class Bar:
    """A label and how many bytes it stands for."""

    label: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Rate:
    """A label, and how many look-ups found something and nothing."""

    label: str
    hits: int
    misses: int


def bars(title: str, values: Sequence[Bar]) -> SafeString:
    """Draw one bar beneath the other, as rows of a table; the longest is as wide as there is room."""
    most = max((value.bytes for value in values), default=0) or 1
    rows = (
        (visible(value.label, 40), _WIDE, max(2, max(0, value.bytes) * _WIDE // most), size(value.bytes))
        for value in values
    )
    drawn = format_html_join(
        "",
        '<tr><th scope="row">{0}</th><td><svg viewBox="0 0 {1} 1" preserveAspectRatio="none" aria-hidden="true">'
        '<rect width="{2}" height="1"/></svg></td><td class="board-number">{3}</td></tr>',
        rows,
    )
    return format_html('<table class="plot-bars" aria-label="{}"><tbody>{}</tbody></table>', title, drawn)


def columns(title: str, values: Sequence[Bar]) -> SafeString:
    """Draw one column beside the other, in time's order; each says its label and value when pointed at."""
    most = max((value.bytes for value in values), default=0) or 1
    rows = []
    for number, value in enumerate(values):
        height = max(0, value.bytes) * _DAY_HEIGHT // most
        said = f"{visible(value.label)}: {size(value.bytes)}"
        rows.append((said, number * _DAY_STEP, _DAY_HEIGHT - height, _DAY_STEP - 2, height))
    return _timeline(title, rows, values, f"{size(most)} at most" if any(value.bytes > 0 for value in values) else "")


def rates(title: str, values: Sequence[Rate]) -> SafeString:
    """Draw the share of hits among look-ups, one column beside the other; an hour without any is a gap."""
    rows = []
    for number, value in enumerate(values):
        asked = value.hits + value.misses
        height = max(2, value.hits * _DAY_HEIGHT // asked) if asked else 0
        said = f"{visible(value.label)}: {value.hits} of {asked}"
        rows.append((said, number * _DAY_STEP, _DAY_HEIGHT - height, _DAY_STEP - 2, height))
    return _timeline(title, rows, values, "100 %")


def _timeline(
    title: str, rows: Sequence[tuple[str, int, int, int, int]], values: Sequence[Bar] | Sequence[Rate], top: str
) -> SafeString:
    """Draw columns, as wide as there is room, with the first and the last label and what the top stands for."""
    drawn = format_html_join(
        "", '<rect x="{1}" y="{2}" width="{3}" height="{4}"><title>{0}</title></rect>', (r for r in rows if r[4])
    )
    ends = (values[0].label, values[-1].label) if values else ("", "")
    return format_html(
        '<p class="plot-ends">{}</p><svg class="plot plot-wide" viewBox="0 0 {} {}" preserveAspectRatio="none"'
        ' role="img" aria-label="{}">{}</svg><p class="plot-ends"><span>{}</span><span>{}</span></p>',
        top, max(1, len(rows)) * _DAY_STEP, _DAY_HEIGHT, title, drawn, visible(ends[0]), visible(ends[1]),
    )  # fmt: skip
