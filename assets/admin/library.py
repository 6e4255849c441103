"""The library: one page, and the JSON that fills it as it is scrolled. What changes assets is asked of `/api`.

Staff look through what is theirs; a superuser may look through another's, but changes nothing there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final, cast
from urllib.parse import urlsplit
from uuid import UUID

from django.contrib.admin import ModelAdmin
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views.decorators.http import require_POST, require_safe

from assets.admin.display import visible
from assets.api.errors import error_response
from assets.links import Links, current_links
from assets.models import Asset, StoredObject
from assets.services.archive import ArchiveError, plan_archive
from assets.services.archive_stream import ArchiveStream
from assets.services.cursors import CursorError
from assets.services.listing import Filters, Order, Page, find_assets, list_assets
from assets.services.previews import ask, shows_picture
from assets.services.search import HOME, MIN_TERM, folder_chain, search_assets
from assets.services.trash_listing import list_trash
from assets.services.usage import group_of
from assets.serving.disposition import content_disposition
from storagecache.errors import ObjectNotFoundError

PAGE: Final = 120  # assets in one answer
ORDERS: Final = {"-created": "newest", "created": "oldest", "name": "name", "-size": "largest"}
GROUPS: Final = {
    "image/": "Images", "video/": "Videos", "audio/": "Sounds", "text/": "Texts", "application/": "Data and documents",
    "model/": "Models", "folder": "Folders",
}  # fmt: skip
_NAME: Final = 255  # characters of a name in a cell
_MAX_TEXT: Final = 1024
_MAX_IDS: Final = 200
_MAX_ZIPPED: Final = 10_000
_NUMBER: Final = re.compile(r"[0-9]{1,18}", re.ASCII)
_MILLISECONDS_AT: Final = 80  # bit of a UUID of version 7 (RFC 9562 5.7)


class AskedError(ValueError):
    """What was asked for cannot be read; the text names the parameter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One page of the library, as it was asked for."""

    owner_id: int
    filters: Filters
    order: Order
    term: str
    cursor: str
    in_trash: bool
    ids: tuple[str, ...]

    def page(self) -> Page[Asset]:
        """Find the assets; statements as `list_assets`, `search_assets` or `list_trash` say.

        Raises:
            CursorError: the cursor is another list's.
            ObjectNotFoundError: the folder is not there.
        """
        if self.ids:
            return Page(tuple(find_assets(self.owner_id, self.ids)), "")
        if self.in_trash:
            return list_trash(self.owner_id, term=self.term, filters=self.filters, cursor=self.cursor, size=PAGE)
        if self.term:
            found = search_assets(self.owner_id, self.term, filters=self.filters, cursor=self.cursor, size=PAGE)
            return Page(found.assets, found.next)
        return list_assets(self.owner_id, self.filters, order=self.order, cursor=self.cursor, size=PAGE)


class LibraryPages:
    """The library's views of the admin of assets."""

    @method_decorator(require_safe)
    def library_view(self, request: HttpRequest) -> HttpResponse:
        """Show the page; its assets are fetched behind it."""
        admin = cast("ModelAdmin[Any]", self)
        if not admin.has_view_permission(request):
            raise PermissionDenied
        context = {
            **admin.admin_site.each_context(request),
            "title": "Library",
            "opts": admin.opts,
            "is_nav_sidebar_enabled": False,
            "browse_url": reverse("admin:assets_asset_browse"),
            "groups": GROUPS.items(),
            "orders": ORDERS.items(),
            "sees_all": bool(getattr(request.user, "is_superuser", False)),
        }
        return TemplateResponse(request, "admin/assets/asset/library.html", context)

    @method_decorator(require_safe)
    def browse_view(self, request: HttpRequest) -> HttpResponse:
        """Give one page of assets as JSON."""
        if not cast("ModelAdmin[Any]", self).has_view_permission(request):
            raise PermissionDenied
        try:
            asked = read_asked(request)
            return JsonResponse(answer(asked), headers={"Cache-Control": "private, no-store"})
        except (AskedError, CursorError) as error:
            return error_response(400, str(error))

    @method_decorator(require_POST)
    def zip_view(self, request: HttpRequest) -> HttpResponseBase:
        """Send the user's assets whose ids stand in the field `ids` as one zip, as the API does for scripts."""
        if not cast("ModelAdmin[Any]", self).has_view_permission(request):
            raise PermissionDenied
        try:
            ids = [UUID(hex=text) for text in request.POST.get("ids", "").split(",")[: _MAX_ZIPPED + 1]]
            if len(ids) > _MAX_ZIPPED:
                raise ArchiveError(f"Choose at most {_MAX_ZIPPED} assets.")
            archive = plan_archive(cast("int", request.user.pk), ids)
        except ArchiveError as error:
            return error_response(422, str(error))
        except ValueError:
            return error_response(400, "ids: these are none.")
        disposition = content_disposition("attachment", archive.name)
        headers = {"Content-Disposition": disposition, "Cache-Control": "private, no-store"}
        return StreamingHttpResponse(
            ArchiveStream(archive),
            content_type="application/zip",
            headers={**headers, "Cache-Control": "private, no-store"},
        )


def answer(asked: Asked) -> dict[str, Any]:
    """Write one page, and with the first one the way to its folder."""
    page = asked.page()
    unasked = [asset.object.pk for asset in page.assets if asset.object and _is_unasked(asset.object)]
    if unasked:
        ask(unasked)
    links = current_links()
    return {
        "assets": [_cell(asset, links) for asset in page.assets],
        "next": page.next,
        "order": asked.order,
        "everywhere": bool(asked.term) or asked.filters.parent_id is None or asked.in_trash,
        "path": [] if asked.cursor or asked.ids else _path(asked),
    }


# --- what is asked ----------------------------------------------------------------------------


def read_asked(request: HttpRequest) -> Asked:
    """Read what is asked for; only superusers name an owner. No statement, or one for the owner's name.

    Raises:
        AskedError: naming the parameter.
    """
    sent = {name: request.GET[name] for name in request.GET}
    for name, value in sent.items():
        if len(value) > (_MAX_IDS * 33 if name == "ids" else _MAX_TEXT) or "\x00" in value:
            raise AskedError(f"{visible(name, 32)}: too long, or not text.")
    owner_id = _owner(request, sent.get("owner", ""))
    filters = _filters(owner_id, sent)
    return Asked(
        owner_id=owner_id,
        filters=filters,
        order=_order(sent, filters),
        term=term if len(term := sent.get("q", "").strip()) >= MIN_TERM else "",
        cursor=sent.get("cursor", ""),
        in_trash=sent.get("state") == "trash",
        ids=tuple(sent["ids"].split(",")[:_MAX_IDS]) if sent.get("ids") else (),
    )


def _owner(request: HttpRequest, name: str) -> int:
    mine = cast("int", request.user.pk)
    if not name or not getattr(request.user, "is_superuser", False):
        return mine
    users = get_user_model()._default_manager.filter(username=name)
    found: int | None = users.values_list("pk", flat=True).first()
    if found is None:
        raise AskedError("owner: there is no such user.")
    return found


def _filters(owner_id: int, sent: dict[str, str]) -> Filters:
    """Read the filters; they look everywhere unless a folder is named. With none it is home."""
    filters = Filters(
        content_type=sent.get("type", ""),
        workflow_id=sent.get("workflow", ""),
        job_id=sent.get("job", ""),
        tag=sent.get("tag", ""),
        bucket=_bucket(sent.get("storage", "")),
        first_id=_first_id("from", sent.get("from", "")),
        end_id=_first_id("to", sent.get("to", ""), days=1),
        least_size=_number("min", sent.get("min", "")),
        most_size=_number("max", sent.get("max", "")),
        parent_id=sent.get("folder") or None,
    )
    return Filters(parent_id=str(owner_id)) if filters == Filters() else filters


def _order(sent: dict[str, str], filters: Filters) -> Order:
    """Read the order. What no index gives in that order is given newest first; what is bounded by size, by size."""
    if len(sent.get("q", "").strip()) >= MIN_TERM:
        return "created"
    if filters.least_size is not None or filters.most_size is not None:
        return "-size"
    text = sent.get("order", "")
    if text not in ORDERS or (filters.parent_id is None and text == "name") or sent.get("state") == "trash":
        return "-created"
    return cast("Order", text)


def _bucket(text: str) -> str:
    if text and text not in Asset.Bucket.values:
        raise AskedError("storage: assets or temp.")
    return text


def _number(name: str, text: str) -> int | None:
    if text and not _NUMBER.fullmatch(text):
        raise AskedError(f"{name}: must be a number of bytes.")
    return int(text) if text else None


def _first_id(name: str, text: str, *, days: int = 0) -> UUID | None:
    """Give the least id of a day (UTC), or of the day `days` later."""
    if not text:
        return None
    try:
        day = date.fromisoformat(text) + timedelta(days=days)
    except (ValueError, OverflowError) as error:
        raise AskedError(f"{name}: must be a day, such as 2026-05-31.") from error
    milliseconds = int(datetime.combine(day, time(), UTC).timestamp() * 1000)
    return UUID(int=max(0, milliseconds) << _MILLISECONDS_AT)


# --- what is answered -------------------------------------------------------------------------


def _is_unasked(stored: StoredObject) -> bool:
    return stored.preview == StoredObject.Preview.UNASKED and shows_picture(stored)


def _path(asked: Asked) -> list[dict[str, str]]:
    """Give the folders from home to the one that is shown; home has no id here."""
    home = {"id": "", "name": HOME}
    parent = asked.filters.parent_id
    if parent in (None, str(asked.owner_id)) or asked.term or asked.in_trash:
        return [home]
    try:
        return [home, *({"id": i.hex, "name": visible(name, _NAME)} for i, name in folder_chain(UUID(hex=parent)))]
    except ValueError as error:
        raise ObjectNotFoundError("folder: there is none with this id.") from error


def _cell(asset: Asset, links: Links) -> dict[str, Any]:
    """Write an asset for a cell; the address of its picture stays on this site, whatever name it is reached by."""
    stored = asset.object
    is_made = stored is not None and stored.preview == StoredObject.Preview.MADE
    picture = urlsplit((links.thumbnail(asset) or "") if is_made and asset.trashed_at is None else "")
    return {
        "id": asset.pk.hex,
        "name": visible(asset.name, _NAME) or asset.pk.hex,
        "folder": asset.is_folder,
        "kind": "folder" if asset.is_folder else group_of(asset.content_type),
        "type": "folder" if asset.is_folder else asset.content_type,
        "size": asset.size,
        "created": asset.created_at.isoformat(),
        "tags": asset.tags,
        "temp": asset.bucket == Asset.Bucket.TEMP,
        "duration": asset.duration,
        "color": stored.color if stored else "",
        "thumb": f"{picture.path}?{picture.query}" if picture.path else "",
        "pending": bool(stored and stored.preview == StoredObject.Preview.WANTED and shows_picture(stored)),
        "url": reverse("admin:assets_asset_change", args=[asset.pk]),
    }
