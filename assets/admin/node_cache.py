"""The page of the node cache: its tiers, hits over time, the largest values, and clearing. For superusers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, cast

from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.views.decorators.http import require_POST, require_safe

from assets.admin.display import size, visible
from assets.admin.plots import Rate, rates
from assets.admin.windows import is_superuser
from storagecache.environment import Environment
from storagecache.errors import StorageError
from storagecache.node_cache.errors import ClearFailedError
from storagecache.node_cache.journal import HOUR, Entry, Hours
from storagecache.node_cache.statistics import TIERS, Stats

_HOURS: Final = 72  # of the plot
_PLACES: Final = {"l1": "L1, memory of the processes", "l2": "L2, shared, small", "l3": "L3, shared, large"}


@dataclass(frozen=True, slots=True)
class Tier:
    """A tier as the page shows it."""

    name: str
    hits: int
    misses: int
    rate: str
    served: str


class NodeCachePages:
    """The node cache's views of the admin of assets."""

    @method_decorator(require_safe)
    def node_cache_view(self, request: HttpRequest) -> HttpResponse:
        """Show what the cache did and holds."""
        _for_superusers(request)
        admin = cast("ModelAdmin[Any]", self)
        context = {
            **admin.admin_site.each_context(request),
            "title": "Node cache",
            "opts": admin.opts,
            "is_nav_sidebar_enabled": False,
            **_figures(timezone.now()),
        }
        return TemplateResponse(request, "admin/assets/asset/node_cache.html", context)

    @method_decorator(require_POST)
    def clear_cache_view(self, request: HttpRequest) -> HttpResponse:
        """Clear the node cache of a workflow, a node type, or all."""
        _for_superusers(request)
        workflow, node_type = (request.POST.get(name, "").strip()[:255] or None for name in ("workflow", "node_type"))
        if workflow is None and node_type is None and "all" not in request.POST:
            messages.error(request, "Name a workflow or a node type, or choose everything.")
        else:
            self._clear(request, workflow, node_type)
        return HttpResponseRedirect(reverse("admin:assets_asset_node_cache"))

    @staticmethod
    def _clear(request: HttpRequest, workflow: str | None, node_type: str | None) -> None:
        try:
            Environment.get_node_cache().clear(workflow=workflow, node_type=node_type)
        except ClearFailedError as error:
            messages.error(request, str(error))
        else:
            scope = " and ".join(
                f"{name} {visible(value)}"
                for name, value in (("workflow", workflow), ("node type", node_type))
                if value
            )
            messages.success(request, f"The node cache is cleared: {scope or 'everything'}.")


def _for_superusers(request: HttpRequest) -> None:
    if not is_superuser(request):
        raise PermissionDenied


def cache_told() -> str:
    """Say in a line what the cache did."""
    try:
        _, stats = Environment.get_node_cache().stats_of_all()
    except (StorageError, OSError) as error:
        return f"The statistics cannot be read: {error}"
    return f"{stats['hits']:,} hits, {stats['misses']:,} misses, {_spent(stats['seconds_saved'])} of computing saved."


def _figures(now: datetime) -> dict[str, Any]:
    try:
        cache = Environment.get_node_cache()
        processes, stats = cache.stats_of_all()
        hours, entries = cache.history()
    except (StorageError, OSError) as error:
        return {"trouble": f"The statistics cannot be read: {error}"}
    return {
        "tiles": list(_tiles(processes, stats)),
        "tiers": [_tier(name, stats) for name in TIERS],
        "rates": _rates(hours, now) if hours else "",
        "largest": [_row(entry) for entry in entries],
        "workflows": sorted({entry.workflow for entry in entries if entry.workflow}),
        "node_types": sorted({entry.node_type for entry in entries}),
    }


def _tiles(processes: int, stats: Stats) -> Iterator[tuple[str, str, str]]:
    hits, misses = int(stats["hits"]), int(stats["misses"])
    yield "Hit rate", _share(hits, misses) or "none yet", f"{hits:,} hits, {misses:,} misses"
    yield "Computing saved", _spent(float(stats["seconds_saved"])), f"{int(stats['computes']):,} values computed"
    yield "Stored", f"{int(stats['sets']):,}", f"{int(stats['uncacheable']):,} could not be"
    yield "Processes", f"{processes:,}", "that wrote figures in the last days"


def _tier(name: str, stats: Stats) -> Tier:
    hits, misses = int(stats[name]["hits"]), int(stats[name]["misses"])
    return Tier(_PLACES[name], hits, misses, _share(hits, misses), size(int(stats[name]["bytes"])))


def _share(hits: int, misses: int) -> str:
    return f"{100 * hits // (hits + misses)} %" if hits + misses else ""


def _spent(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds < 2 * HOUR else f"{seconds / HOUR:,.1f} h"


def _rates(hours: Hours, now: datetime) -> Any:
    last = int(now.timestamp() // HOUR)
    values = [Rate(_hour(hour), *hours.get(hour, (0, 0))) for hour in range(last - _HOURS + 1, last + 1)]
    return rates("Hits among look-ups by hour", values)


def _hour(hour: int) -> str:
    return datetime.fromtimestamp(hour * HOUR, UTC).strftime("%Y-%m-%d %H:00")


def _row(entry: Entry) -> tuple[str, str, str, str, str, str]:
    ends = _day(entry.ends) if entry.ends else "never"
    names = (visible(name) for name in (entry.node_type, entry.workflow, entry.user))
    return (*names, size(entry.bytes), _spent(entry.compute), ends)  # type: ignore[return-value]  # three names


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")
