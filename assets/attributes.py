"""What filters can ask of an asset's metadata and tags, and how what they ask reads. Pure: no table is known here.

Each tag and each scalar value at the top of the metadata is one attribute. Numbers are compared as numbers, everything
is compared as text; a whole number keeps all its digits as text, so that seeds of 64 bits are told apart.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, cast

TAG: Final = "tag"
META: Final = "meta."
MAX_TAGS: Final = 64  # of an asset, that filters find
MAX_VALUES: Final = 64  # of an asset's metadata, that filters find
MAX_KEY: Final = 128  # characters of a metadata key
MAX_TEXT: Final = 255  # characters of a value
MAX_CONDITIONS: Final = 8  # of one list

Comparison = Literal["gt", "gte", "lt", "lte"]
COMPARISONS: Final = ("gt", "gte", "lt", "lte")

_NUMBER: Final = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?", re.ASCII)
_LARGEST: Final = 1 << 1000  # of a whole number; a float ends a little behind it


class ConditionError(ValueError):
    """A condition that cannot be asked; the text begins with the parameter's name."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """One tag or value; `name` is the parameter that asks for it, `number` is set where it is a number."""

    name: str
    text: str
    number: float | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    """What an attribute must be: one of some texts, and a number within bounds; what is empty is not asked."""

    name: str
    texts: frozenset[str] = frozenset()
    bounds: tuple[tuple[Comparison, float], ...] = ()


def attributes_of(metadata: Mapping[str, object], tags: Iterable[object]) -> list[Attribute]:
    """Give what filters may find: at most MAX_TAGS tags and MAX_VALUES values, the first ones, each once.

    Lists, objects, null, and names and texts that are longer than the bounds are left out.
    """
    found = dict.fromkeys(tag for tag in tags if isinstance(tag, str) and _fits(tag))
    named = [Attribute(TAG, tag) for tag in list(found)[:MAX_TAGS]]
    return named + list(_values(metadata))[:MAX_VALUES]


def condition(name: str, values: Iterable[tuple[str, str]]) -> Condition:
    """Read what is asked of one metadata key: pairs of a comparison ("" is equality) and its text.

    Raises:
        ConditionError: a bound that is no number.
    """
    texts: frozenset[str] | None = None
    bounds: list[tuple[Comparison, float]] = []
    for comparison, text in values:
        if comparison:
            bounds.append((cast("Comparison", comparison), _bound(f"{META}{name}__{comparison}", text)))
        else:
            texts = frozenset({text, _canonical_text(text)})
    return Condition(META + name, texts or frozenset(), tuple(bounds))


def _values(metadata: Mapping[str, object]) -> Iterator[Attribute]:
    for key, value in metadata.items():
        attribute = _attribute(META + key, value) if key and len(key) <= MAX_KEY and "\x00" not in key else None
        if attribute is not None and _fits(attribute.text):
            yield attribute


def _attribute(name: str, value: object) -> Attribute | None:
    if isinstance(value, bool):
        return Attribute(name, "true" if value else "false")
    if isinstance(value, int) and -_LARGEST < value < _LARGEST:
        return Attribute(name, str(value), float(value))
    if isinstance(value, float) and math.isfinite(value):
        return Attribute(name, _canonical(value), value)
    return Attribute(name, value) if isinstance(value, str) else None


def _canonical(number: float) -> str:
    """Write a number so that 7, 7.0 and 7e0 are one text."""
    return str(int(number)) if number.is_integer() else repr(number)


def _canonical_text(text: str) -> str:
    """Write a text that is a number as `_canonical` does; any other stays as it is."""
    if not _NUMBER.fullmatch(text):
        return text
    if text.lstrip("-").isdecimal():
        return str(int(text))
    number = float(text)
    return _canonical(number) if math.isfinite(number) else text


def _bound(parameter: str, text: str) -> float:
    number = float(text) if _NUMBER.fullmatch(text) else math.inf
    if not math.isfinite(number):
        raise ConditionError(f"{parameter}: must be a number.")
    return number


def _fits(text: str) -> bool:
    return len(text) <= MAX_TEXT and "\x00" not in text
