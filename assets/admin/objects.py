"""Objects in the admin: read-only, for superusers, since an object has no owner of its own."""

from __future__ import annotations

import re
from typing import Final
from uuid import UUID

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from assets.admin.display import asset_link, size, visible
from assets.admin.filters import ContentGroupFilter, ObjectStateFilter, StorageFilter
from assets.admin.windows import CatalogAdmin, is_superuser
from assets.models import Asset, StoredObject

REFERENCES: Final = 50  # assets that the page of an object names
_MATCHES: Final = 100
_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}")
_ID: Final = re.compile(r"[0-9a-fA-F]{32}")


@admin.register(StoredObject)
class StoredObjectAdmin(CatalogAdmin):
    """What lies in the buckets, as the catalog records it."""

    list_display = ("short_key", "storage", "content_type", "size_shown", "state", "created_at")
    list_filter = (ObjectStateFilter, StorageFilter, ContentGroupFilter)
    search_help_text = "An id, a key or a SHA-256, whole."
    actions = None
    fields = (
        "storage", "bucket", "key", "size", "size_shown", "sha256", "content_type", "state", "state_changed_at",
        "referenced_at", "deletes_left", "deleted_at", "upload_id", "created_at", "references",
    )  # fmt: skip
    readonly_fields = fields

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Show objects to superusers."""
        return is_superuser(request)

    def has_view_permission(self, request: HttpRequest, obj: StoredObject | None = None) -> bool:
        """Show objects to superusers."""
        return is_superuser(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Objects come with uploads."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: StoredObject | None = None) -> bool:
        """Objects go by purge, once nothing refers to them."""
        return False

    def find_exactly(self, term: str) -> list[UUID]:
        """Find objects by digest, or by the id, which is also a part of every key. One query."""
        if _SHA256.fullmatch(term):
            rows = StoredObject.objects.filter(sha256=term.lower())
            return list(rows.values_list("pk", flat=True)[:_MATCHES])
        found = _ID.search(term.replace("-", ""))
        return [UUID(found[0])] if found else []

    @admin.display(description="key")
    def short_key(self, stored: StoredObject) -> str:
        """Show bucket and key."""
        return visible(str(stored))

    @admin.display(description="size")
    def size_shown(self, stored: StoredObject) -> str:
        """Show the size as people read it."""
        return size(stored.size)

    @admin.display(description="assets")
    def references(self, stored: StoredObject) -> SafeString | str:
        """Name the assets that refer to it, some fifty; unordered, so that a much shared object costs no sort."""
        found = list(Asset.objects.filter(object=stored).order_by()[: REFERENCES + 1])
        lines = format_html_join("", "<li>{}</li>", ((asset_link(asset),) for asset in found[:REFERENCES]))
        more = f"and more than these {REFERENCES}" if len(found) > REFERENCES else ""
        return format_html("<ul>{}</ul>{}", lines, more) if found else "none"
