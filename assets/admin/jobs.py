"""Jobs in the admin: read-only, for superusers, since a log may hold anything."""

from __future__ import annotations

import re
from typing import Any, Final
from uuid import UUID

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from assets.admin.display import size, visible
from assets.admin.filters import ClosedFilter
from assets.admin.windows import CatalogAdmin
from assets.models import Job

_ID: Final = re.compile(r"[0-9a-fA-F]{32}")


class JobStateFilter(ClosedFilter):
    """Where a job stands."""

    title = "state"
    parameter_name = "state"
    names = tuple((value, value) for value in Job.State.values)


class StrategyFilter(ClosedFilter):
    """How a job was run."""

    title = "strategy"
    parameter_name = "strategy"
    names = tuple((value, value) for value in ("threaded", "subprocess", "docker"))


@admin.register(Job)
class JobAdmin(CatalogAdmin):
    """What ran, how it ended and what it left."""

    list_display = ("short_task", "user", "short_workflow", "strategy", "state", "started_at", "ended_at", "exit_code")
    list_filter = (JobStateFilter, StrategyFilter)
    list_select_related = ("user",)
    search_help_text = "A job's id, whole; or a part of a workflow, a node or a task."
    actions = None
    fields = (
        "id", "user", "workflow_id", "node_id", "strategy", "task", "state", "host", "started_at", "seen_at",
        "ended_at", "exit_code", "error", "outputs_shown", "problems_shown", "log_shown",
    )  # fmt: skip
    readonly_fields = fields

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Show jobs to superusers."""
        return bool(request.user.is_active and getattr(request.user, "is_superuser", False))

    def has_view_permission(self, request: HttpRequest, obj: Job | None = None) -> bool:
        """Show jobs to superusers."""
        return self.has_module_permission(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """No page starts a job."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Job | None = None) -> bool:
        """A record stays."""
        return False

    def find_exactly(self, term: str) -> list[UUID]:
        """Find a job by its id. One query."""
        found = _ID.fullmatch(term.replace("-", ""))
        return [UUID(found[0])] if found else []

    def search_window(self, rows: QuerySet[Any], term: str) -> QuerySet[Any]:
        """Search workflow, node and task."""
        return rows.filter(Q(workflow_id__icontains=term) | Q(node_id__icontains=term) | Q(task__icontains=term))

    @admin.display(description="task")
    def short_task(self, job: Job) -> str:
        """Show the task, cut."""
        return visible(job.task)

    @admin.display(description="workflow")
    def short_workflow(self, job: Job) -> str:
        """Show workflow and node."""
        return visible(" / ".join(part for part in (job.workflow_id, job.node_id) if part))

    @admin.display(description="outputs")
    def outputs_shown(self, job: Job) -> SafeString | str:
        """Name the assets it left, with links; some may be deleted by now."""
        rows = ((_asset_url(each["id"]), visible(each["name"]), size(each["size"])) for each in job.outputs)
        return format_html("<ul>{}</ul>", format_html_join("", '<li><a href="{}">{}</a> {}</li>', rows))

    @admin.display(description="problems")
    def problems_shown(self, job: Job) -> SafeString:
        """Name what could not be registered."""
        return format_html(
            "<ul>{}</ul>", format_html_join("", "<li>{}</li>", ((visible(p, 500),) for p in job.problems))
        )

    @admin.display(description="end of the log")
    def log_shown(self, job: Job) -> SafeString:
        """Show the end of the log."""
        lines = (visible(line, 2000) for line in job.log_tail.splitlines())
        return format_html("<pre>{}</pre>", "\n".join(lines))


def _asset_url(asset_id: str) -> str:
    return reverse("admin:assets_asset_change", args=[UUID(asset_id)])
