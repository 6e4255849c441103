"""What the page of an asset says beside its picture: what it is, where its bytes are, where it came from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import urlencode

from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from assets.admin import display
from assets.models import Asset
from assets.services.lineage import Uses
from assets.services.search import HOME, folder_chain

_METADATA: Final = 100  # entries that are shown
_VALUE: Final = 2000  # characters of one
_LIBRARY: Final = "admin:assets_asset_library"


@dataclass(frozen=True, slots=True)
class Fact:
    """A name and a value; what is copied when it is asked for ("": nothing is)."""

    name: str
    value: str | SafeString
    copied: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that is said of an asset, group by group; empty values are left out."""

    summary: str
    trail: Sequence[tuple[str, str]]  # address and name of the folders above
    about: Sequence[Fact]
    bytes: Sequence[Fact]
    origin: Sequence[Fact]
    metadata: Sequence[Fact]


def facts_of(asset: Asset, *, sources: Uses, outputs: Uses) -> Facts:
    """Gather what is said of an asset; costs one statement where it lies in a folder, and one for its owner."""
    trail = _trail(asset)
    return Facts(
        summary=" · ".join(_summary(asset)),
        trail=trail,
        about=_told(_about(asset, trail)),
        bytes=_told(_bytes(asset)),
        origin=_told(_origin(asset, sources, outputs)),
        metadata=list(_metadata(asset)),
    )


def _told(facts: Iterator[Fact]) -> list[Fact]:
    return [fact for fact in facts if fact.value]


def _trail(asset: Asset) -> list[tuple[str, str]]:
    """Give home and the folders above the asset."""
    library = reverse(_LIBRARY)
    above = folder_chain(asset.parent_id) if asset.parent_id else []
    return [(library, HOME), *((f"{library}?folder={i.hex}", display.visible(name, 40)) for i, name in above)]


def _summary(asset: Asset) -> Iterator[str]:
    yield "Folder" if asset.is_folder else asset.content_type
    if asset.size is not None:
        yield display.size(asset.size)
    if asset.width and asset.height:
        yield f"{asset.width} × {asset.height}"
    if asset.duration:
        whole = round(asset.duration)
        yield f"{whole // 60}:{whole % 60:02d}"


def _about(asset: Asset, trail: Sequence[tuple[str, str]]) -> Iterator[Fact]:
    yield Fact("Folder", format_html_join(" / ", '<a href="{}">{}</a>', trail))
    yield Fact("Owner", display.owner_link(asset.owner))
    yield Fact("State", _state(asset))
    yield Fact("Made", _time(asset.created_at))
    yield Fact("Changed", _time(asset.updated_at) if asset.updated_at != asset.created_at else "")
    yield Fact("Ends", _time(asset.expires_at))
    yield Fact("Tags", format_html_join(" ", '<a class="nt-tag" href="{}">{}</a>', map(_tag, asset.tags[:_METADATA])))
    yield Fact("Id", asset.pk.hex, copied=asset.pk.hex)


def _state(asset: Asset) -> str:
    """Say whether /storage/ answers with it, and to whom."""
    if asset.trashed_at is not None:
        return "in the trash"
    if asset.expires_at is not None and asset.expires_at <= timezone.now():
        return "expired"
    return "live, public" if asset.is_public else "live"


def _tag(tag: object) -> tuple[str, str]:
    return _found_by("tag", str(tag)), display.visible(str(tag), 60)


def _bytes(asset: Asset) -> Iterator[Fact]:
    stored = asset.object
    if stored is None:
        return
    yield Fact("Bucket", asset.bucket)
    yield Fact("Key", display.visible(asset.key or "", 1024), copied=asset.key or "")
    yield Fact("Size", f"{stored.size:,} bytes")
    yield Fact("SHA-256", stored.sha256, copied=stored.sha256)
    yield Fact("Object", display.object_link(stored))
    yield Fact("Written", _time(asset.content_changed_at))


def _origin(asset: Asset, sources: Uses, outputs: Uses) -> Iterator[Fact]:
    for name, parameter, value in (("Workflow", "workflow", asset.workflow_id), ("Job", "job", asset.job_id)):
        link = format_html('<a href="{}">{}</a>', _found_by(parameter, value), display.visible(value, 255))
        yield Fact(name, link if value else "")
    yield Fact("Node", display.visible(asset.node_id, 255))
    yield Fact("Made from", display.asset_links(sources))
    yield Fact("Used by", display.asset_links(outputs))


def _found_by(parameter: str, value: str) -> str:
    return f"{reverse(_LIBRARY)}?{urlencode({parameter: value})}"


def _metadata(asset: Asset) -> Iterator[Fact]:
    """Give the entries of the metadata; what is deeper as JSON."""
    for name, value in list(asset.metadata.items())[:_METADATA]:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        yield Fact(display.visible(name, 60), display.visible(text, _VALUE))


def _time(at: datetime | None) -> str:
    return date_format(timezone.localtime(at), "j M Y, H:i") if at else ""
