"""The dashboard: what is stored, by type, day and user; the largest files; purge and integrity.

Everybody sees their own figures. What concerns the whole service is for superusers; a purge shows what it would take
before it asks to be confirmed. Counts come from counters and indexes: the page costs the same at a million assets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST, require_safe

from assets.admin.display import asset_link, size, visible
from assets.admin.node_cache import cache_told
from assets.admin.plots import Bar, bars, columns
from assets.admin.windows import is_superuser
from assets.models import Account, Asset, IntegrityRun
from assets.services import PurgeReport, purge, release_connection
from assets.services.usage import TRASH, Amount, Usage, places_of_everybody, usage_of
from storagecache.errors import StorageError

DAYS: Final = 60
LARGEST: Final = 10
PURGED: Final = 5_000  # objects that one confirmed purge takes
_TYPES: Final = 8
_USERS: Final = 10
_RUNS: Final = 5
_PASSING: Final = ("temp", TRASH)  # the places that a purge empties
_PLACES: Final = ("assets", *_PASSING)


class DashboardPages:
    """The dashboard's views of the admin of assets."""

    @method_decorator(require_safe)
    def dashboard_view(self, request: HttpRequest) -> HttpResponse:
        """Show the figures; with `?figures`, also what a purge would take."""
        admin = cast("ModelAdmin[Any]", self)
        if not admin.has_view_permission(request):
            raise PermissionDenied
        owner_id = cast("int", request.user.pk)
        context = {
            **admin.admin_site.each_context(request),
            "title": "Dashboard",
            "is_nav_sidebar_enabled": False,
            "opts": admin.opts,
            **own_figures(owner_id, timezone.now()),
            **(service_figures(with_purge="figures" in request.GET) if is_superuser(request) else {}),
        }
        return TemplateResponse(request, "admin/assets/asset/dashboard.html", context)

    @method_decorator(require_POST)
    def purge_view(self, request: HttpRequest) -> HttpResponse:
        """Purge, once it is confirmed."""
        for_superusers(request)
        release_connection()
        try:
            report = purge(limit=PURGED)
        except StorageError as error:
            messages.error(request, str(error))
        else:
            messages.success(request, f"Purged {_told(report)}.")
            for failure in report.failures[:3]:
                messages.warning(request, visible(failure, 300))
        return HttpResponseRedirect(reverse("admin:assets_asset_dashboard"))


def for_superusers(request: HttpRequest) -> None:
    """Refuse anybody else.

    Raises:
        PermissionDenied
    """
    if not is_superuser(request):
        raise PermissionDenied


# --- figures ----------------------------------------------------------------------------------


def own_figures(owner_id: int, now: datetime) -> dict[str, Any]:
    """Give what one user stores; two statements."""
    usage = usage_of(owner_id, now=now)
    groups = sorted(usage.groups.items(), key=lambda item: -item[1].bytes)[:_TYPES]
    return {
        "places": list(_places(usage.places, _PLACES)),
        "types": bars("Bytes by type", [Bar(name, amount.bytes) for name, amount in groups]) if groups else "",
        "days": _days(usage, now),
        "largest": list(_largest(owner_id, now)),
    }


def _places(amounts: dict[str, Amount], names: Sequence[str]) -> Iterator[tuple[str, str, int]]:
    for name in names:
        amount = amounts.get(name, Amount())
        yield name.capitalize(), size(amount.bytes), amount.count


def _days(usage: Usage, now: datetime) -> SafeString:
    today = now.astimezone(UTC).date()
    days = [(today - timedelta(days=back)).isoformat() for back in range(DAYS - 1, -1, -1)]
    return columns("Bytes by day", [Bar(day, usage.days.get(day, Amount()).bytes) for day in days])


def _largest(owner_id: int, now: datetime) -> Iterator[tuple[SafeString, str]]:
    """Give the largest files, by the index `asset_size`; one statement."""
    live = Asset.objects.filter(owner_id=owner_id, size__gte=0).alive(now).defer("metadata", "tags")
    for asset in live.order_by("-size", "-pk")[:LARGEST]:
        yield asset_link(asset), size(asset.size)


def service_figures(*, with_purge: bool) -> dict[str, Any]:
    """Give what concerns the whole service; four statements, and those of a dry run when it is asked for."""
    accounts = Account.objects.select_related("user").order_by("-used_bytes")[:_USERS]
    users = [Bar(account.user.get_username(), account.used_bytes) for account in accounts]
    return {
        "is_superuser": True,
        "users": bars("Bytes by user", users) if users else "",
        "runs": list(IntegrityRun.objects.order_by("-pk")[:_RUNS]),
        "passing": list(_places(places_of_everybody(), _PASSING)),
        "purge": _told(purge(dry_run=True)) if with_purge else "",
        "purge_limit": PURGED,
        "cache": cache_told(),
    }


def _told(report: PurgeReport) -> str:
    return f"{report.objects} objects, {size(report.bytes)}; {report.expired} expired or trashed assets"
