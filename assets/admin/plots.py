"""Small plots as SVG, drawn here: bars that need no script and no style of their own. Reads no database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from assets.admin.display import size, visible

_LINE: Final = 24  # pixels from bar to bar
_LABEL, _BAR, _VALUE = 130, 260, 100  # pixels
_DAY_HEIGHT: Final = 110
_DAY_STEP: Final = 8


@dataclass(frozen=True, slots=True)
class Bar:
    """A label and how many bytes it stands for."""

    label: str
    bytes: int


def bars(title: str, values: Sequence[Bar]) -> SafeString:
    """Draw one bar beneath the other, the longest as wide as there is room."""
    most = max((value.bytes for value in values), default=0) or 1
    rows = (
        (
            visible(value.label, 18),
            number * _LINE + 16,
            _LABEL,
            number * _LINE + 4,
            max(1, max(0, value.bytes) * _BAR // most),
            _LABEL + _BAR + 8,
            size(value.bytes),
        )
        for number, value in enumerate(values)
    )
    drawn = format_html_join(
        "",
        '<text x="0" y="{1}">{0}</text><rect x="{2}" y="{3}" width="{4}" height="16" rx="3"/>'
        '<text x="{5}" y="{1}">{6}</text>',
        rows,
    )
    return _svg(title, _LABEL + _BAR + _VALUE, max(1, len(values)) * _LINE, drawn)


def columns(title: str, values: Sequence[Bar]) -> SafeString:
    """Draw one column beside the other, in time's order; each says its label and value when pointed at."""
    most = max((value.bytes for value in values), default=0) or 1
    rows = []
    for number, value in enumerate(values):
        height = max(1, max(0, value.bytes) * _DAY_HEIGHT // most)
        said = f"{visible(value.label)}: {size(value.bytes)}"
        rows.append((said, number * _DAY_STEP, _DAY_HEIGHT - height, _DAY_STEP - 2, height))
    drawn = format_html_join("", '<rect x="{1}" y="{2}" width="{3}" height="{4}"><title>{0}</title></rect>', rows)
    return _svg(title, max(1, len(values)) * _DAY_STEP, _DAY_HEIGHT, drawn)


def _svg(title: str, width: int, height: int, drawn: SafeString) -> SafeString:
    return format_html(
        '<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>', width, height, title, drawn
    )
