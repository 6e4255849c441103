"""/api: what NodeTool's clients ask for. A route checks its arguments, calls a service and writes the answer.

Errors of services pass through to `assets.api.errors`; only ninja's own are put into words here.
"""

from __future__ import annotations

import time
from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError

from assets.api import archive, lineage, listing, records, summary, usage
from assets.api.errors import error_response
from assets.api.parsing import StrictParser, reason_of
from assets.api.requests import Caller, caller_id, errors, json_answer, refuse_unknown
from assets.api.schemas import UrlsIn, UrlsOut
from assets.api.thumbnails import router as thumbnails
from assets.links import Links
from assets.services.listing import find_assets
from storagecache.environment import SIGNED_URL_LIFE
from storagecache.errors import ObjectNotFoundError

_MAX_REASONS: Final = 3  # in the text of one error

api = NinjaAPI(
    title="NodeTool Storage",
    version="1",
    description='Assets of workflows: every error is `{"detail": "<text>"}`.',
    auth=Caller(),
    urls_namespace="api",
    parser=StrictParser(),
)


listing.join(api)


@api.post(
    "/assets/urls", response={200: UrlsOut, **errors(404, 408, 413)}, summary="Sign URLs", operation_id="asset_urls"
)
def sign_urls(request: HttpRequest, body: UrlsIn) -> HttpResponse:
    """Give URLs that work without any header, for many assets at once; what is absent is left out.

    The same URLs are given for a quarter of their life, at most 15 minutes, so that browsers cache what they name.
    """
    refuse_unknown(request)
    assets = find_assets(caller_id(request), set(body.asset_ids))
    if body.asset_ids and not assets:
        raise ObjectNotFoundError("None of the assets is there.")
    links = Links.at(time.time(), life=body.expires_in or SIGNED_URL_LIFE)
    urls = ((asset.pk.hex, links.url(asset)) for asset in assets)
    return json_answer(UrlsOut(urls={asset_id: url for asset_id, url in urls if url}))


api.add_router("", thumbnails)


@api.exception_handler(ValidationError)
def _invalid(request: HttpRequest, error: Exception) -> HttpResponse:
    assert isinstance(error, ValidationError)
    return error_response(422, "; ".join(_reason(part) for part in error.errors[:_MAX_REASONS]))


@api.exception_handler(HttpError)
def _refused(request: HttpRequest, error: Exception) -> HttpResponse:
    assert isinstance(error, HttpError)
    return reason_of(error) or error_response(error.status_code, str(error))


def _reason(error: dict[str, Any]) -> str:
    """Name the field and what is wrong with it; the value is not repeated."""
    place = [str(part) for part in error["loc"]]
    while len(place) > 1 and place[0] in ("query", "body", "path"):  # where it was, not what
        place = place[1:]
    return f"{'.'.join(place) or 'body'}: {error['msg']}"


# NodeTool's clients create at the address of the list; a path of ninja's belongs to one router.
for _path, _shown in (("/assets", True), ("/assets/", False)):
    api.post(
        _path,
        auth=records.UploadingCaller(),
        response=records.CREATED,
        summary="Create a file or a folder",
        operation_id="create_asset",
        include_in_schema=_shown,
        openapi_extra=records.FORM,
    )(records.create)
api.add_router("", archive.router)
api.add_router("", lineage.router)
api.add_router("", usage.router)
api.add_router("", summary.router)
api.add_router("", records.router)  # behind all others: it takes any word behind /assets/ for an id
