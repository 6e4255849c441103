"""Assets in the admin: a list, a page with a preview, an upload form and deletion.

Staff see what is theirs, superusers everything; another user's asset is 404. Services run in transactions of their
own, so the views that call them are ours here: Django's would hold a transaction around them.
"""

from __future__ import annotations

import re
from typing import Any, Final, cast
from urllib.parse import quote
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.utils import unquote
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.files.storage import storages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_safe

from assets.admin import deletion, display
from assets.admin.ancestry import LARGE, SMALL, picture_of
from assets.admin.columns import AssetColumns
from assets.admin.dashboard import DashboardPages
from assets.admin.facts import facts_of
from assets.admin.filters import AssetStateFilter, BucketFilter, ContentGroupFilter
from assets.admin.library import LibraryPages
from assets.admin.node_cache import NodeCachePages
from assets.admin.streams import send
from assets.admin.uploads import UploadForm
from assets.admin.viewer import view_of
from assets.admin.windows import BEFORE, CatalogAdmin, WindowedChangeList
from assets.models import Asset, fold_name
from assets.services import release_connection
from assets.services.lineage import made_from, trace, used_by
from assets.upload_handler import StagingUploadHandler
from storagecache.environment import Environment

OWNER: Final = "owner"  # query parameter: the id of the user whose assets are listed
_NAMED: Final = 5  # assets that a message names
_RELATED: Final = 20  # assets of a lineage on a page
_ID: Final = re.compile(r"(?<![0-9a-fA-F])[0-9a-fA-F]{32}(?![0-9a-fA-F])")
_OWNER_TERM: Final = re.compile(r"\s*owner:(\S+)\s*")


class AssetChangeList(WindowedChangeList):
    """The list of assets; superusers may narrow it to one owner."""

    own_parameters = (BEFORE, OWNER)

    def scope(self, request: HttpRequest, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Narrow to one owner, with the index `asset_owner`, which holds what is not in the trash."""
        owner_id = _wanted_owner(request.GET.get(OWNER), self.query)
        if owner_id is None or not _sees_all(request):
            return rows
        return rows.filter(owner_id=owner_id, trashed_at=None)

    def get_queryset(self, request: HttpRequest, exclude_parameters: list[str | None] | None = None) -> QuerySet[Any]:
        """Read what the columns show; owners by a query of their own, since a join would tempt the planner."""
        rows = super().get_queryset(request, exclude_parameters)
        return rows.defer("metadata", "tags", "name_folded").prefetch_related("owner")


@admin.register(Asset)
class AssetAdmin(LibraryPages, DashboardPages, NodeCachePages, AssetColumns, CatalogAdmin):
    """What people see and link to."""

    list_display = (
        "thumbnail",
        "short_name",
        "bucket",
        "content_type",
        "size_shown",
        "owner_link",
        "state",
        "created_at",
    )
    list_display_links = ("short_name",)
    list_filter = (AssetStateFilter, BucketFilter, ContentGroupFilter)
    search_help_text = "An id or a key, whole; or a part of a name, within the assets listed here. owner:NAME narrows."
    actions = ("delete_selected",)
    change_form_template = "admin/assets/asset/change_form.html"

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[AssetChangeList]:
        """Use the list of assets."""
        return AssetChangeList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Keep staff to their own assets; the trash is for superusers."""
        rows = super().get_queryset(request)
        return rows if _sees_all(request) else rows.filter(owner_id=request.user.pk, trashed_at=None)

    def has_delete_permission(self, request: HttpRequest, obj: Asset | None = None) -> bool:
        """Let files be deleted; a folder would need its children moved first."""
        return super().has_delete_permission(request, obj) and not (obj is not None and obj.is_folder)

    def get_urls(self) -> list[URLPattern]:
        """Add the library, and an asset's bytes: what those two send may be kept, but is asked for anew each time."""
        view = self.admin_site.admin_view
        return [
            path("library/", view(self.library_view), name="assets_asset_library"),
            path("dashboard/", view(self.dashboard_view), name="assets_asset_dashboard"),
            path("node-cache/", view(self.node_cache_view), name="assets_asset_node_cache"),
            path("dashboard/purge/", view(self.purge_view), name="assets_asset_purge"),
            path("node-cache/clear/", view(self.clear_cache_view), name="assets_asset_clear_cache"),
            path("library/zip/", view(self.zip_view), name="assets_asset_zip"),
            path("library/assets/", view(self.browse_view), name="assets_asset_browse"),
            path("<uuid:asset_id>/preview/", view(self.preview_view, cacheable=True), name="assets_asset_preview"),
            path("<uuid:asset_id>/content/", view(self.content_view, cacheable=True), name="assets_asset_content"),
            *super().get_urls(),
        ]

    def find_exactly(self, term: str) -> list[UUID]:
        """Find an asset by its id, or the two that may have a key. One query."""
        found = _ID.fullmatch(term.replace("-", ""))
        if found:
            return [UUID(found[0])]
        keys = Asset.objects.filter(bucket__in=Asset.Bucket.values, key=term, trashed_at=None)
        return list(keys.values_list("pk", flat=True))

    def search_window(self, rows: QuerySet[Any], term: str) -> QuerySet[Any]:
        """Search a part of the name; `owner:` has narrowed the window already."""
        text = fold_name(_OWNER_TERM.sub("", term))
        return rows.filter(name_folded__contains=text) if text else rows

    # --- bytes ----------------------------------------------------------------------------------

    @method_decorator(require_safe)
    def preview_view(self, request: HttpRequest, asset_id: UUID) -> HttpResponseBase:
        """Show what browsers show by themselves and cannot script; anything else is 404."""
        asset = self._find(request, asset_id.hex)
        if not display.is_shown_inline(asset):
            raise Http404("This asset has no preview.")
        return send(request, asset, download=False)

    @method_decorator(require_safe)
    def content_view(self, request: HttpRequest, asset_id: UUID) -> HttpResponseBase:
        """Send the bytes as an attachment."""
        return send(request, self._find(request, asset_id.hex), download=True)

    def _find(self, request: HttpRequest, object_id: str) -> Asset:
        """Find an asset that the user may see; costs one SELECT.

        Raises:
            Http404: none, or another user's.
            PermissionDenied: the user may see no assets at all.
        """
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            asset: Asset | None = self.get_queryset(request).select_related("object").filter(pk=object_id).first()
        except (ValidationError, ValueError) as error:
            raise Http404("No such asset.") from error
        if asset is None:
            raise Http404("No such asset.")
        return asset

    # --- pages ----------------------------------------------------------------------------------

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the page of an asset; another user's is 404, and what is sent to it is refused."""
        asset = self._find(request, unquote(object_id))
        if request.method not in ("GET", "HEAD"):
            raise PermissionDenied
        extent = LARGE if "lineage" in request.GET else SMALL
        sources, outputs = made_from(asset.pk, limit=_RELATED), used_by([asset.pk], limit=_RELATED)
        context = {
            **self.admin_site.each_context(request),
            "title": "Asset",
            "subtitle": display.visible(asset.name) or asset.pk.hex,
            "opts": self.opts,
            "is_nav_sidebar_enabled": False,
            "asset": asset,
            "facts": facts_of(asset, sources=sources, outputs=outputs),
            "lineage": picture_of(asset, trace(asset, depth=extent.depth), extent)
            if sources.assets or outputs.assets
            else None,
            "is_large": extent is LARGE,
            "may_delete": self.has_delete_permission(request, asset),
            **_links(request, asset),
            "viewed": view_of(asset),
            **(extra_context or {}),
        }
        return TemplateResponse(request, self.change_form_template, context)

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Ask, then delete one asset for good."""
        asset = self._find(request, unquote(object_id))
        if not self.has_delete_permission(request, asset):
            raise PermissionDenied
        if request.method != "POST":
            return deletion.ask(self, request, [asset])
        if deletion.delete(request, [asset]):
            return HttpResponseRedirect(reverse("admin:assets_asset_changelist"))
        return HttpResponseRedirect(request.path)

    @admin.action(description="Delete the selected assets for good", permissions=["delete"])
    def delete_selected(self, request: HttpRequest, queryset: QuerySet[Asset]) -> HttpResponse | None:
        """Ask, then delete several; folders stay."""
        chosen = list(queryset.filter(is_folder=False)[: deletion.MAX_DELETED + 1])
        if len(chosen) > deletion.MAX_DELETED:
            messages.error(request, f"Choose at most {deletion.MAX_DELETED} assets at once.")
        elif not chosen:
            messages.warning(request, "Folders cannot be deleted here.")
        elif "post" not in request.POST:
            return deletion.ask(self, request, chosen)
        else:
            deletion.delete(request, chosen)
        return None

    def response_action(  # type: ignore[override]  # the stubs know a later Django
        self, request: HttpRequest, queryset: QuerySet[Any]
    ) -> HttpResponse | None:
        """Run an action; ids that are none are said to be so."""
        try:
            return super().response_action(request, queryset)
        except ValidationError:
            messages.error(request, "What was selected is no asset.")
            return None

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show who uploaded an asset here."""
        asset = self._find(request, unquote(object_id))
        context = {"title": f"History of {display.visible(asset.name)}", **(extra_context or {})}
        return super().history_view(request, object_id, context)

    # --- upload ---------------------------------------------------------------------------------

    @method_decorator(csrf_exempt)  # checked inside: the check reads the form, and the handler must be there before
    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Take files; permission is judged before a byte of them is read."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        handler = StagingUploadHandler(request, storage=storages["assets"])
        request.upload_handlers = [handler]
        release_connection()
        try:
            return csrf_protect(self._upload)(request, handler)
        finally:
            handler.close()

    def _upload(self, request: HttpRequest, handler: StagingUploadHandler) -> HttpResponse:
        user = cast("AbstractBaseUser", request.user)
        sent = (request.POST, request.FILES) if request.method == "POST" else ()
        form = UploadForm(*sent, user=user, chooses_owner=_sees_all(request), refused=handler.refused)
        if form.is_valid():
            stored = form.store()
            self._note(request, stored)
            if form.is_valid():  # what could not be stored is an error now
                return HttpResponseRedirect(self._address_after(request, stored))
        return self._form_page(request, form)

    def _note(self, request: HttpRequest, stored: list[Asset]) -> None:
        for asset in stored:
            self.log_addition(request, asset, [{"added": {}}])
        names = ", ".join(f"“{display.visible(asset.name)}”" for asset in stored[:_NAMED])
        more = f" and {len(stored) - _NAMED} more" if len(stored) > _NAMED else ""
        if stored:
            messages.success(request, f"Uploaded {names}{more}.")

    def _address_after(self, request: HttpRequest, stored: list[Asset]) -> str:
        """Go to the asset, if it is one that the user may see; else to the list, or home."""
        if not self.has_view_permission(request):
            return reverse("admin:index")
        if len(stored) == 1:
            return reverse("admin:assets_asset_change", args=[stored[0].pk])
        return reverse("admin:assets_asset_changelist")

    def _form_page(self, request: HttpRequest, form: UploadForm) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": "Upload files",
            "form": form,
            "opts": self.opts,
            "media": self.media + form.media,
            "has_view_permission": self.has_view_permission(request),
            "limit": Environment.current().max_upload_bytes,
        }
        return TemplateResponse(request, "admin/assets/asset/add_form.html", context)


def _sees_all(request: HttpRequest) -> bool:
    return bool(getattr(request.user, "is_superuser", False))


def _links(request: HttpRequest, asset: Asset) -> dict[str, str]:
    """Give the addresses that the page of an asset offers."""
    if asset.object_id is None:
        return {}
    links = {
        "content_url": reverse("admin:assets_asset_content", args=[asset.pk]),
        "preview_url": reverse("admin:assets_asset_preview", args=[asset.pk]),
    }
    if asset.owner_id == request.user.pk and asset.trashed_at is None:
        links["shared_id"] = asset.pk.hex
    if asset.is_public or asset.owner_id == request.user.pk:
        links["storage_url"] = f"/storage/{asset.bucket}/{quote(asset.key or '')}"
    return links


def _wanted_owner(parameter: str | None, query: str) -> int | None:
    """Read whose assets are asked for; -1 is nobody.

    Raises:
        IncorrectLookupParameters: the parameter is no id.
    """
    named = _OWNER_TERM.match(query)
    if named:
        users = get_user_model()._default_manager.filter(username=named[1])
        return users.values_list("pk", flat=True).first() or -1
    if parameter is None:
        return None
    if not parameter.isascii() or not parameter.isdigit() or len(parameter) > 10:
        raise IncorrectLookupParameters(f"{parameter!r} is no id of a user")
    return int(parameter)
