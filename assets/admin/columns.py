"""What the list and the page of an asset show, column by column.

Columns of the list read no more than the row and what it points to; lineage is shown on the page only.
"""

from __future__ import annotations

import json
from typing import Final

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.forms import CheckboxInput
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from assets.admin import display
from assets.models import Asset
from assets.services.lineage import made_from, used_by

_METADATA_LENGTH: Final = 4000  # characters of metadata on a page
_RELATED: Final = 20  # assets of a lineage on a page


class AssetColumns:
    """Columns and read-only fields of an asset."""

    @admin.display(description=SafeString('<input type="checkbox" id="action-toggle">'))  # as Django's own
    def action_checkbox(self, asset: Asset) -> SafeString:
        """Choose the asset for an action; Django's own says the name as it is."""
        label = f"Select this asset for an action: {display.visible(asset.name)}"
        checkbox = CheckboxInput({"class": "action-select", "aria-label": label}, lambda value: False)
        return checkbox.render(ACTION_CHECKBOX_NAME, str(asset.pk))

    @admin.display(description="")
    def thumbnail(self, asset: Asset) -> str:
        """Show a small image itself."""
        return display.image(asset, largest=display.THUMBNAIL_BYTES, css_class="asset-thumbnail")

    @admin.display(description="name")
    def short_name(self, asset: Asset) -> str:
        """Show the name, cut."""
        return display.visible(asset.name) or asset.pk.hex

    @admin.display(description="name")
    def full_name(self, asset: Asset) -> str:
        """Show the whole name."""
        return display.visible(asset.name, 1024)

    @admin.display(description="key")
    def full_key(self, asset: Asset) -> str:
        """Show the whole key."""
        return display.visible(asset.key or "", 1024)

    @admin.display(description="size")
    def size_shown(self, asset: Asset) -> str:
        """Show the size as people read it."""
        return display.size(asset.size)

    @admin.display(description="owner")
    def owner_link(self, asset: Asset) -> SafeString:
        """Link to what the owner has."""
        return display.owner_link(asset.owner)

    @admin.display
    def state(self, asset: Asset) -> str:
        """Say whether /storage/ answers with it."""
        if asset.trashed_at is not None:
            return "in the trash"
        return "expired" if asset.expires_at is not None and asset.expires_at <= timezone.now() else "live"

    @admin.display
    def folder(self, asset: Asset) -> str:
        """Link to the folder it is in."""
        return display.asset_link(asset.parent) if asset.parent is not None else "Home"

    @admin.display(description="SHA-256")
    def sha256(self, asset: Asset) -> str:
        """Show the digest of the bytes."""
        return asset.object.sha256 if asset.object is not None else ""

    @admin.display(description="object")
    def object_link(self, asset: Asset) -> str:
        """Name the object, and link to it (superusers only may follow)."""
        return display.object_link(asset.object) if asset.object is not None else ""

    @admin.display(description="made from")
    def made_from(self, asset: Asset) -> str:
        """Link to the live assets it was made from."""
        return display.asset_links(made_from(asset.pk, limit=_RELATED))

    @admin.display(description="used by")
    def used_by(self, asset: Asset) -> str:
        """Link to the live assets that were made from it."""
        return display.asset_links(used_by([asset.pk], limit=_RELATED))

    @admin.display(description="width and height")
    def pixels(self, asset: Asset) -> str:
        """Show the size of an image in pixels."""
        return f"{asset.width} × {asset.height}" if asset.width and asset.height else ""

    @admin.display(description="metadata")
    def metadata_json(self, asset: Asset) -> str:
        """Show the beginning of the metadata."""
        text = json.dumps(asset.metadata, ensure_ascii=False, indent=1)
        return format_html("<pre>{}</pre>", text[:_METADATA_LENGTH])
