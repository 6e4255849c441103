"""GET /api/assets/{id}/thumbnail: the small picture of an asset, for whoever may read the asset's own bytes.

It is served as those are (`assets.serving`): ETag, conditions, signed links. A picture that is not made yet is waited
for shortly, and then is 404 like one that never will be.
"""

from __future__ import annotations

import functools
import time
from enum import IntEnum
from typing import Final

from django.http import HttpRequest, HttpResponseBase
from ninja import Router

from assets.access import reader_id
from assets.api.requests import refuse_unknown
from assets.api.schemas import ErrorOut
from assets.links import cache_control, current_keys, thumbnail_key
from assets.media.kinds import PICTURE_TYPE
from assets.models import Asset, StoredObject
from assets.services import open_object, release_connection
from assets.services.previews import ask, await_picture, find_shown, no_picture
from assets.serving.delivery import respond
from assets.serving.plan import Conditions, ServedObject, plan_get
from assets.serving.signed import InvalidLinkError, claims_to_be_signed, one_refusal
from assets.signing import PARAMETERS, Grant, verify
from storagecache.errors import ObjectNotFoundError

WAIT: Final = 1.0  # seconds
_KNOWN: Final = PARAMETERS | {"size"}

router = Router()


class Size(IntEnum):
    """Pixels of the longer side, at most."""

    SMALL = 128
    MEDIUM = 256
    LARGE = 512


@router.api_operation(["HEAD"], "/assets/{asset_id}/thumbnail", auth=None, include_in_schema=False)
@router.get(
    "/assets/{asset_id}/thumbnail",
    auth=None,  # as the asset's bytes: public, signed, or the owner's
    response={401: ErrorOut, 404: ErrorOut, 422: ErrorOut},
    summary="Get a small picture",
    operation_id="asset_thumbnail",
    openapi_extra={"responses": {200: {"description": "The picture", "content": {PICTURE_TYPE: {}}}}},
)
def thumbnail(request: HttpRequest, asset_id: str, size: Size = Size.MEDIUM) -> HttpResponseBase:
    """Give a picture of at most `size` pixels a side, as WebP; 404 when there is none, or none yet."""
    refuse_unknown(request, names=_KNOWN)
    if claims_to_be_signed(request):
        with one_refusal():
            return _answer(request, find_shown(asset_id), size)
    return _answer(request, _find(request, asset_id), size)


def _find(request: HttpRequest, asset_id: str) -> Asset:
    try:
        return find_shown(asset_id)
    except ObjectNotFoundError:
        reader_id(request)  # a wrong token is refused here as there, so that nothing is learnt from it
        raise


def _answer(request: HttpRequest, asset: Asset, size: int) -> HttpResponseBase:
    """Judge the reader first: who may not read neither waits nor has anything made."""
    policy, vary = _reading(request, asset, size)
    assert asset.object is not None  # as selected
    picture = await_picture(asset.object, size, seconds=WAIT)
    release_connection()
    if picture is None:
        raise no_picture()
    plan = plan_get(
        request.method or "GET",
        Conditions.from_environ(request.META),
        _served(asset, picture),
        now=int(time.time()),
        cache_control=policy,
        vary=vary,
    )
    try:
        return respond(plan, functools.partial(open_object, picture))
    except ObjectNotFoundError:
        ask([asset.object.pk])  # its bytes were lost: they are made again
        raise no_picture() from None


def _reading(request: HttpRequest, asset: Asset, size: int) -> tuple[str, str]:
    """Give Cache-Control and Vary for this reader.

    Raises:
        ObjectNotFoundError: neither the owner, nor a valid link, nor a public asset.
    """
    grant = _grant(request, asset, size)
    if grant is not None:
        return cache_control(grant.expires_at - time.time()), ""
    if asset.is_public:
        return "public, no-cache", ""
    if reader_id(request) != asset.owner_id:
        raise no_picture()
    return "private, no-cache", "Cookie, Authorization"


def _grant(request: HttpRequest, asset: Asset, size: int) -> Grant | None:
    """Give what the link grants; None for an unsigned request.

    Raises:
        InvalidLinkError: it names another picture, or nothing.
    """
    if not claims_to_be_signed(request):
        return None
    start, query = f"size={size}&", str(request.META.get("QUERY_STRING", ""))
    bucket, key = thumbnail_key(asset, size)
    signed = query.removeprefix(start) if query.startswith(start) else ""
    grant = verify(signed, keys=current_keys(), bucket=bucket, key=key, now=time.time())
    if grant is None or asset.object_id is None or grant.object_id != asset.object_id.hex:
        raise InvalidLinkError
    return grant


def _served(asset: Asset, picture: StoredObject) -> ServedObject:
    return ServedObject(
        size=picture.size,
        etag=picture.etag,
        content_type=PICTURE_TYPE,
        modified_at=int(picture.created_at.timestamp()),
        name=f"{asset.name}.webp",
    )
