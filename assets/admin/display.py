"""How values look on the pages of the admin: names that cannot lie, sizes, links. Reads no database."""

from __future__ import annotations

import re
from typing import Final

from django.contrib.auth.models import AbstractBaseUser
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from assets.models import Asset, StoredObject
from assets.services.lineage import Uses
from assets.serving.disposition import INLINE_TYPES

NAME_LENGTH: Final = 80  # characters of a name in a list, a title or a message
PREVIEW_BYTES: Final = 32 << 20  # the largest image that a page shows by itself
THUMBNAIL_BYTES: Final = 256 << 10  # the largest that a list of a hundred shows

# Controls, line separators, marks and overrides of direction, BOM, lone surrogates: what a reader does not see.
_INVISIBLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def visible(text: str, length: int = NAME_LENGTH) -> str:
    """Give text for a page: nothing invisible in it, and not longer than `length` characters."""
    shown = _INVISIBLE.sub("\N{REPLACEMENT CHARACTER}", text[: length + 1])
    return shown if len(shown) <= length else shown[: length - 1] + "…"


def is_previewable(asset: Asset) -> bool:
    """Tell whether the asset is an image of a kind that cannot script."""
    kind = essence(asset)
    return asset.object_id is not None and kind.startswith("image/") and kind in INLINE_TYPES


def essence(asset: Asset) -> str:
    """Give the content type without its parameters."""
    return asset.content_type.partition(";")[0].strip().lower()


def is_shown_inline(asset: Asset) -> bool:
    """Tell whether browsers show the bytes by themselves: an image, film or sound that cannot script, or a PDF."""
    kind = essence(asset)
    is_media = kind.partition("/")[0] in ("image", "audio", "video") or kind == "application/pdf"
    return asset.object_id is not None and is_media and kind in INLINE_TYPES


def image(asset: Asset, *, largest: int, css_class: str) -> SafeString | str:
    """Show the image itself, when it is one and has at most `largest` bytes."""
    if not is_previewable(asset) or (asset.size or 0) > largest:
        return ""
    url = reverse("admin:assets_asset_preview", args=[asset.pk])
    return format_html('<img class="{}" src="{}" alt="" loading="lazy">', css_class, url)


def size(size: int | None) -> str:
    """Give a size in bytes as people read it."""
    return "" if size is None else filesizeformat(size)


def asset_link(asset: Asset) -> SafeString:
    """Link to the page of an asset."""
    url = reverse("admin:assets_asset_change", args=[asset.pk])
    return format_html('<a href="{}">{}</a>', url, visible(asset.name) or asset.pk.hex)


def asset_links(uses: Uses) -> SafeString:
    """Link to the pages of several assets."""
    links = format_html_join(", ", "{}", ((asset_link(asset),) for asset in uses.assets))
    return format_html("{} and more", links) if uses.more else links


def object_link(stored: StoredObject) -> SafeString:
    """Link to the page of an object."""
    url = reverse("admin:assets_storedobject_change", args=[stored.pk])
    return format_html('<a href="{}">{}</a>', url, visible(str(stored), 255))


def owner_link(owner: AbstractBaseUser) -> SafeString:
    """Link to the list of the assets of one user."""
    url = reverse("admin:assets_asset_changelist", query={"owner": owner.pk})
    return format_html('<a href="{}">{}</a>', url, visible(owner.get_username()))
