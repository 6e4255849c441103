"""Deletion in the admin: asked first, then permanent, and never more than a bounded number at once."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import DELETION, LogEntry
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from assets.admin.display import asset_links, visible
from assets.models import Asset
from assets.services import delete_assets
from assets.services.lineage import used_by
from storagecache.errors import StorageError

MAX_DELETED: Final = 500  # assets in one action; the form that asks stays below DATA_UPLOAD_MAX_NUMBER_FIELDS
_SLICE: Final = 100  # assets in one section, so that uploads need not wait for all of them
_NAMED: Final = 50  # assets that the question names


def ask(admin: ModelAdmin[Any], request: HttpRequest, assets: list[Asset]) -> HttpResponse:
    """Ask whether these assets are to go for good."""
    context = {
        **admin.admin_site.each_context(request),
        "title": "Delete for good?",
        "opts": admin.opts,
        "media": admin.media,
        "assets": assets,
        "names": [visible(asset.name) for asset in assets[:_NAMED]],
        "unnamed": max(0, len(assets) - _NAMED),
        "used_by": asset_links(used_by([asset.pk for asset in assets], limit=_NAMED)),
        "checkbox": ACTION_CHECKBOX_NAME,
    }
    return TemplateResponse(request, "admin/assets/delete_confirmation.html", context)


def delete(request: HttpRequest, assets: list[Asset]) -> bool:
    """Delete for good what the user may delete; says on the next page what happened, and returns whether all went."""
    gone: list[Asset] = []
    try:
        for start in range(0, len(assets), _SLICE):
            gone += _delete_slice(request, assets[start : start + _SLICE])
    except StorageError as error:
        messages.error(request, f"Not everything was deleted: {error}")
        return False
    finally:
        if gone:
            messages.success(request, _report(gone))
    return True


def _delete_slice(request: HttpRequest, assets: list[Asset]) -> list[Asset]:
    everybodys = getattr(request.user, "is_superuser", False)
    ids = delete_assets([asset.pk for asset in assets], owner_id=None if everybodys else request.user.pk)
    gone = [asset for asset in assets if asset.pk in set(ids)]
    assert request.user.pk is not None
    LogEntry.objects.log_actions(user_id=request.user.pk, queryset=gone, action_flag=DELETION)
    return gone


def _report(gone: list[Asset]) -> str:
    return f"Deleted “{visible(gone[0].name)}”." if len(gone) == 1 else f"Deleted {len(gone)} assets."
