"""/api: what NodeTool's clients ask for. A route checks its arguments, calls a service and writes the answer.

Errors of services pass through to `assets.api.errors`; only ninja's own are put into words here.
"""

from __future__ import annotations

import time
from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from ninja import NinjaAPI, Query
from ninja.errors import HttpError, ValidationError
from ninja.security.base import AuthBase
from pydantic import BaseModel

from assets.access import reader_id, writer
from assets.api.errors import AuthenticationRequiredError, UnprocessableError, error_response
from assets.api.parsing import StrictParser, reason_of
from assets.api.schemas import AssetOut, AssetPage, ErrorOut, ListQuery, UrlsIn, UrlsOut, asset_out, home_out
from assets.links import Links, current_links
from assets.services.listing import CursorError, Filters, find_asset, find_assets, home_since, list_assets
from storagecache.errors import ObjectNotFoundError

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_ERRORS: Final = {400: ErrorOut, 401: ErrorOut, 403: ErrorOut, 404: ErrorOut, 422: ErrorOut}
_MAX_REASONS: Final = 3  # in the text of one error


class Caller(AuthBase):
    """Whoever `assets.access` knows: by token, session, or as the local user. The answer is the user's id."""

    openapi_type = "http"
    openapi_scheme = "bearer"

    def __call__(self, request: HttpRequest) -> int:
        """Give the caller's id.

        Raises:
            AuthenticationRequiredError, AccessDeniedError: see `assets.access`; whatever is no GET counts as a write.
        """
        if request.method not in _SAFE:
            return writer(request).pk
        caller = reader_id(request)
        if caller is None:
            raise AuthenticationRequiredError("Log in, or send a token as 'Authorization: Bearer <token>'.")
        return caller


api = NinjaAPI(
    title="NodeTool Storage",
    version="1",
    description='Assets of workflows: every error is `{"detail": "<text>"}`.',
    auth=Caller(),
    urls_namespace="api",
    parser=StrictParser(),
)


@api.get("/assets", response={200: AssetPage, **_ERRORS}, summary="List assets", operation_id="list_assets")
@api.get("/assets/", response=AssetPage, include_in_schema=False)
def list_page(request: HttpRequest, query: Query[ListQuery]) -> HttpResponse:
    """List assets, newest last unless ordered otherwise; with no filter those in the home folder."""
    _refuse_unknown(request, ListQuery)
    filters = Filters(
        parent_id=query.parent_id,
        content_type=query.content_type or "",
        workflow_id=query.workflow_id or "",
        job_id=query.job_id or "",
        node_id=query.node_id or "",
    )
    try:
        page = list_assets(_caller(request), filters, order=query.order, cursor=query.cursor, size=query.page_size)
    except CursorError as error:
        raise UnprocessableError(str(error)) from error
    links = current_links()
    return _json(AssetPage(next=page.next, assets=[asset_out(asset, links) for asset in page.assets]))


@api.post("/assets/urls", response={200: UrlsOut, **_ERRORS}, summary="Sign URLs", operation_id="asset_urls")
def sign_urls(request: HttpRequest, body: UrlsIn) -> HttpResponse:
    """Give URLs that work without any header, for many assets at once; what is absent is left out.

    The same URLs are given for a quarter of their life, at most 15 minutes, so that browsers cache what they name.
    """
    _refuse_unknown(request, None)
    assets = find_assets(_caller(request), set(body.asset_ids))
    if body.asset_ids and not assets:
        raise ObjectNotFoundError("None of the assets is there.")
    links = Links.at(time.time(), life=body.expires_in)
    urls = ((asset.pk.hex, links.url(asset)) for asset in assets)
    return _json(UrlsOut(urls={asset_id: url for asset_id, url in urls if url}))


@api.get("/assets/{asset_id}", response={200: AssetOut, **_ERRORS}, summary="Get an asset", operation_id="get_asset")
def get_asset(request: HttpRequest, asset_id: str) -> HttpResponse:
    """Give one asset; the user's own id gives the home folder."""
    _refuse_unknown(request, None)
    caller = _caller(request)
    if asset_id == str(caller):
        return _json(home_out(caller, home_since(caller)))
    return _json(asset_out(find_asset(caller, asset_id), current_links()))


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
    place = [str(part) for part in error["loc"] if part not in ("query", "body", "path")]
    return f"{'.'.join(place) or 'body'}: {error['msg']}"


def _refuse_unknown(request: HttpRequest, known: type[BaseModel] | None) -> None:
    """Refuse query parameters that would silently do nothing, or say two things.

    Raises:
        UnprocessableError: naming the parameter.
    """
    fields = known.model_fields if known else {}
    for name, values in request.GET.lists():
        if name not in fields:
            raise UnprocessableError(f"{name[:64]}: there is no such query parameter.")
        if len(values) > 1:
            raise UnprocessableError(f"{name}: given {len(values)} times.")


def _caller(request: HttpRequest) -> int:
    caller: int = request.auth  # type: ignore[attr-defined]  # ninja keeps the answer of Caller there
    return caller


def _json(answer: BaseModel) -> HttpResponse:
    """Write an answer as it is: a second validation by ninja would cost more than the query."""
    return HttpResponse(
        answer.model_dump_json(), content_type="application/json", headers={"Cache-Control": "private, no-store"}
    )
