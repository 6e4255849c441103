"""The work of the background worker in the admin: when it ran, what came of it, when it runs next; and the rules by
which it ends assets. Read-only.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from django.contrib import admin

from assets.admin.integrity import HistoryAdmin
from assets.models import RetentionRule, ScheduledWork


@admin.register(ScheduledWork)
class ScheduledWorkAdmin(HistoryAdmin):
    """What workers do again and again."""

    list_display = ("name", "status", "started_at", "ended_at", "next_at", "short_result")
    search_help_text = "There are only a few."
    fields = ("name", "status", "holder", "seen_at", "started_at", "ended_at", "next_at", "result")
    readonly_fields = fields

    def find_exactly(self, term: str) -> list[UUID]:
        """Find nothing by id."""
        return []

    @admin.display(description="result")
    def short_result(self, work: ScheduledWork) -> str:
        """Show the beginning of what came of it."""
        return work.result[:100]


@admin.register(RetentionRule)
class RetentionRuleAdmin(HistoryAdmin):
    """How long assets of a folder, a workflow or a job are kept; `manage.py retention` changes it."""

    list_display = ("scope", "value", "keep", "owner", "created_at")
    search_help_text = "There are only a few."
    fields = ("owner", "scope", "value", "keep", "created_at")
    readonly_fields = fields

    def find_exactly(self, term: str) -> list[UUID]:
        """Find nothing by id."""
        return []

    @admin.display(description="kept for")
    def keep(self, rule: RetentionRule) -> str:
        """Show how long."""
        return str(timedelta(seconds=rule.seconds))
