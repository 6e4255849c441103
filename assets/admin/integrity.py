"""Runs, their findings and what they set aside, in the admin: read-only, for superusers, as a history."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from assets.admin.display import size, visible
from assets.admin.windows import CatalogAdmin
from assets.models import IntegrityFinding, IntegrityRun, QuarantinedObject

SHOWN: Final = 200  # findings on the page of a run


class HistoryAdmin(CatalogAdmin):
    """What the three lists share: superusers look, nobody changes."""

    actions = None

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Show history to superusers."""
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: object | None = None) -> bool:
        """Show history to superusers."""
        return bool(request.user.is_active and getattr(request.user, "is_superuser", False))

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Runs come from verify."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object | None = None) -> bool:
        """Old runs are forgotten by new ones."""
        return False

    def find_exactly(self, term: str) -> list[UUID]:
        """Find a row by its id."""
        try:
            return [UUID(term)]
        except ValueError:
            return []


@admin.register(IntegrityRun)
class IntegrityRunAdmin(HistoryAdmin):
    """Comparisons and repairs, newest first."""

    list_display = ("started_at", "kind", "status", "deep", "objects_seen", "found", "ended_at", "undone_at")
    search_help_text = "The id of a run."
    fields = (
        "id", "kind", "status", "deep", "since", "started_at", "updated_at", "ended_at", "undone_at", "phase", "after",
        "objects_seen", "rows_seen", "leftovers", "hashed_bytes", "found", "message", "first_findings", "set_aside",
    )  # fmt: skip
    readonly_fields = fields

    @admin.display(description="findings")
    def found(self, run: IntegrityRun) -> str:
        """Count the findings by kind."""
        return ", ".join(f"{kind} {count}" for kind, count in sorted(run.counts.items())) or "none"

    @admin.display(description="the first findings")
    def first_findings(self, run: IntegrityRun) -> SafeString | str:
        """Name the first of them."""
        rows = run.findings.order_by("pk")[:SHOWN]
        lines = ((row.kind, visible(f"{row.bucket}/{row.key}", 1024), visible(row.detail, 200)) for row in rows)
        listed = format_html_join("", "<li>{} {} {}</li>", lines)
        return format_html("<ul>{}</ul>", listed) if listed else "none"

    @admin.display(description="set aside")
    def set_aside(self, run: IntegrityRun) -> str:
        """Count what this run set aside, by what became of it."""
        states = QuarantinedObject.State.values
        counts = {state: run.quarantined.filter(state=state).count() for state in states}
        return ", ".join(f"{state} {count}" for state, count in counts.items() if count) or "nothing"


@admin.register(IntegrityFinding)
class IntegrityFindingAdmin(HistoryAdmin):
    """What was found wrong, newest first."""

    list_display = ("kind", "short_key", "detail", "run_link")
    search_help_text = "The id of a finding."
    fields = ("kind", "bucket", "key", "row_id", "detail", "run_link")
    readonly_fields = fields

    @admin.display(description="key")
    def short_key(self, finding: IntegrityFinding) -> str:
        """Show bucket and key."""
        return visible(f"{finding.bucket}/{finding.key}")

    @admin.display(description="run")
    def run_link(self, finding: IntegrityFinding) -> SafeString:
        """Link to the run."""
        return _run_link(finding.run_id)


@admin.register(QuarantinedObject)
class QuarantinedObjectAdmin(HistoryAdmin):
    """What repairs set aside, newest first."""

    list_display = ("short_key", "size_shown", "state", "state_changed_at", "run_link")
    search_help_text = "The id of an entry."
    fields = ("bucket", "key", "size_shown", "state", "state_changed_at", "run_link")
    readonly_fields = fields

    @admin.display(description="key")
    def short_key(self, held: QuarantinedObject) -> str:
        """Show bucket and key."""
        return visible(str(held))

    @admin.display(description="size")
    def size_shown(self, held: QuarantinedObject) -> str:
        """Show the size as people read it."""
        return size(held.size)

    @admin.display(description="run")
    def run_link(self, held: QuarantinedObject) -> SafeString:
        """Link to the run."""
        return _run_link(held.run_id)


def _run_link(run_id: UUID) -> SafeString:
    return format_html('<a href="{}">{}</a>', reverse("admin:assets_integrityrun_change", args=[run_id]), run_id.hex)
