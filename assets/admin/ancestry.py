"""Where an asset came from and what was made of it, as a picture: a column for each step, links in boxes. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from assets.admin.display import visible
from assets.models import Asset
from assets.services.lineage import Lineage
from assets.services.shown import AnyAsset

_WIDTH, _HEIGHT, _GAP, _STEP = 170, 34, 60, 44  # pixels of a box, between columns, from row to row
_NODE: Final = (
    '<a href="{}"><title>{}</title><rect class="lineage-{}" x="{}" y="{}" width="170" height="34" rx="6"/>'
    '<text x="{}" y="{}">{}</text></a>'
)
_EDGE: Final = '<path d="M{} {} C{} {} {} {} {} {}"/>'
_NAME: Final = 21  # characters that a box has room for


@dataclass(frozen=True, slots=True)
class Extent:
    """How far a picture goes: steps each way, and boxes in each step's column."""

    depth: int
    rows: int


SMALL: Final = Extent(depth=3, rows=6)  # 37 boxes at most
LARGE: Final = Extent(depth=6, rows=20)  # 241


@dataclass(frozen=True, slots=True)
class Picture:
    """The picture, and whether a larger one would show more."""

    svg: SafeString
    is_cut: bool


def picture_of(asset: Asset, found: Lineage, extent: Extent) -> Picture | None:
    """Draw what `trace` found as far as `extent` goes; None: there is nothing but the asset."""
    if len(found.nodes) < 2:
        return None
    steps = _steps(asset.pk, found.edges)
    columns: defaultdict[int, list[AnyAsset]] = defaultdict(list)
    for node in found.nodes:
        columns[steps.get(node.pk, 0)].append(node)
    shown = {step: nodes[: extent.rows] for step, nodes in columns.items()}
    is_cut = found.truncated or any(
        len(nodes) > extent.rows or abs(step) >= extent.depth for step, nodes in columns.items()
    )
    return Picture(_drawn(asset, shown, found.edges), is_cut)


def _steps(start: UUID, edges: Sequence[tuple[UUID, UUID]]) -> dict[UUID, int]:
    """Tell how many steps each asset is away: sources below nought, outputs above."""
    sources, outputs = defaultdict(set), defaultdict(set)
    for source, target in edges:
        sources[target].add(source)
        outputs[source].add(target)
    steps = {start: 0}
    for sign, beyond in ((-1, sources), (1, outputs)):
        reached, step = {start}, 0
        while reached:
            step += sign
            reached = {far for near in reached for far in beyond[near]} - steps.keys()
            steps |= dict.fromkeys(reached, step)
    return steps


def _drawn(asset: Asset, columns: dict[int, list[AnyAsset]], edges: Sequence[tuple[UUID, UUID]]) -> SafeString:
    rows, first = max(map(len, columns.values())), min(columns)
    places = dict(_places(columns, rows))
    lines = [_edge(places[source], places[target]) for source, target in edges if places.keys() >= {source, target}]
    nodes = [node for column in columns.values() for node in column]
    boxes = [_node(node, *places[node.pk], role="self" if node.pk == asset.pk else "other") for node in nodes]
    return format_html(
        '<svg class="lineage" viewBox="0 0 {0} {1}" width="{0}" height="{1}" role="group" aria-label="Lineage">'
        "{2}</svg>",
        (max(columns) - first + 1) * (_WIDTH + _GAP) - _GAP,
        rows * _STEP,
        format_html_join("", "{}", ((part,) for part in [*lines, *boxes])),
    )


def _places(columns: dict[int, list[AnyAsset]], rows: int) -> Iterator[tuple[UUID, tuple[int, int]]]:
    """Give the upper left corner of each box; columns are centred."""
    first = min(columns)
    for step, nodes in columns.items():
        top = (rows - len(nodes)) * _STEP // 2 + (_STEP - _HEIGHT) // 2
        for row, node in enumerate(nodes):
            yield node.pk, ((step - first) * (_WIDTH + _GAP), top + row * _STEP)


def _edge(source: tuple[int, int], target: tuple[int, int]) -> SafeString:
    left, right = source[0] + _WIDTH, target[0]
    start, end = source[1] + _HEIGHT // 2, target[1] + _HEIGHT // 2
    bend = (left + right) // 2
    return format_html(_EDGE, left, start, bend, start, bend, end, right, end)


def _node(asset: AnyAsset, x: int, y: int, *, role: str) -> SafeString:
    address = reverse("admin:assets_asset_change", args=[asset.pk.hex])
    name = visible(asset.name) or asset.pk.hex
    return format_html(_NODE, address, name, role, x, y, x + 10, y + 22, visible(asset.name, _NAME))
