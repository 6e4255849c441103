"""What the list of assets shows, column by column: no more than the row and what it points to."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.forms import CheckboxInput
from django.utils import timezone
from django.utils.safestring import SafeString

from assets.admin import display
from assets.models import Asset


class AssetColumns:
    """The columns."""

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
