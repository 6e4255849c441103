"""Bytes of an asset for the admin: by the plan that /storage/ follows, in blocks, and with no connection held."""

from __future__ import annotations

import time
from typing import BinaryIO

from django.http import HttpRequest, HttpResponseBase

from assets.models import Asset
from assets.services import open_asset, release_connection
from assets.serving.delivery import respond
from assets.serving.plan import Conditions, ServedObject, plan_get
from storagecache.errors import ObjectNotFoundError


def send(request: HttpRequest, asset: Asset, *, download: bool) -> HttpResponseBase:
    """Answer a GET or HEAD, ranges and conditions included; nosniff and a sandbox come from the plan.

    Raises:
        ObjectNotFoundError: a folder, or the bytes are gone.
        BackendUnavailableError
    """
    served = _served(asset)
    method = request.method or "GET"
    release_connection()
    plan = plan_get(
        method,
        Conditions.from_environ(request.META),
        served,
        now=int(time.time()),
        cache_control="private, no-cache",
        vary="Cookie",
        download=download,
    )

    def open_part(start: int, length: int) -> BinaryIO:
        return open_asset(asset, start=start, length=length)

    return respond(plan, open_part)


def _served(asset: Asset) -> ServedObject:
    if asset.object is None:
        raise ObjectNotFoundError("A folder has no bytes.")
    changed = asset.content_changed_at or asset.created_at
    return ServedObject(
        size=asset.object.size,
        etag=asset.object.etag,
        content_type=asset.content_type,
        modified_at=int(changed.timestamp()),
        name=asset.name,
    )
