"""GET /api/assets and GET /api/assets/search: their parameters, all of them known or refused, and their pages."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from ninja import NinjaAPI, Query, Schema
from pydantic import BaseModel, ConfigDict, Field

from assets.api.errors import BadRequestError, UnprocessableError
from assets.api.numbers import QueryInt
from assets.api.requests import caller_id, errors, json_answer, reads, refuse_unknown, shown
from assets.api.schemas import AssetOut, Text, asset_out
from assets.attributes import COMPARISONS, MAX_CONDITIONS, MAX_KEY, MAX_TEXT, META, Condition, ConditionError, condition
from assets.links import Links, current_links
from assets.models import Asset
from assets.services.cursors import CursorError
from assets.services.listing import MAX_PAGE, Filters, Order, list_shown
from assets.services.search import MIN_TERM, Place, search_assets

_META_PARAMETERS: Final = [
    {
        "in": "query",
        "name": f"{META}<name>",
        "schema": {"type": "string", "maxLength": MAX_TEXT},
        "description": "the value of a metadata key; numbers are compared as numbers",
    },
    *(
        {
            "in": "query",
            "name": f"{META}<name>__{comparison}",
            "schema": {"type": "number"},
            "description": "a bound of a metadata key that is a number",
        }
        for comparison in COMPARISONS
    ),
]


class AssetPage(BaseModel):
    """One page of assets; `next` is the `cursor` of the page behind it, "" on the last one."""

    next: str
    assets: list[AssetOut]


class ListQuery(Schema):
    """What a list may be narrowed to. Without any filter it is the home folder."""

    parent_id: Text | None = None
    content_type: Text | None = Field(default=None, description="prefix, such as `image` or `image/png`")
    workflow_id: Text | None = None
    job_id: Text | None = None
    node_id: Text | None = None
    tag: Text | None = None
    cursor: str = Field(default="", description="`next` of the page before, of the same list")
    page_size: QueryInt = Field(default=1000, ge=1, le=MAX_PAGE)
    order: Order = "created"
    duration: str | None = Field(default=None, description="accepted and ignored", deprecated=True)


class FoundAsset(AssetOut):
    """An asset, and where it lies: `folder_path` begins with Home, `folder_id` is the user's id for home."""

    model_config = ConfigDict(title="FoundAsset")

    folder_name: str
    folder_path: str = Field(description='such as "Home / A / B"')
    folder_id: str


class SearchPage(BaseModel):
    """One page of what was found; `next_cursor` is "" on the last one, `total_count` counts this page."""

    assets: list[FoundAsset]
    next_cursor: str
    total_count: int
    is_global_search: bool = True


class SearchQuery(Schema):
    """What is searched: a part of a name, in any case of any script; wildcards mean themselves."""

    query: str = Field(min_length=MIN_TERM, max_length=255, pattern=r"^[^\x00]*$")
    content_type: Text | None = Field(default=None, description="prefix, such as `image` or `image/png`")
    cursor: str = Field(default="", description="`next_cursor` of the page before, of the same search")
    page_size: QueryInt = Field(default=200, ge=1, le=MAX_PAGE)


def join(api: NinjaAPI) -> None:
    """Add the routes. Not a Router: other routers that share an address would refuse its other methods."""
    listed: dict[str, Any] = {"summary": "List assets", "operation_id": "list_assets"}
    parameters = {"parameters": _META_PARAMETERS}
    reads(api, "/assets", response={200: AssetPage, **errors(404)}, openapi_extra=parameters, **listed)(list_page)
    reads(api, "/assets/", response=AssetPage, include_in_schema=False)(list_page)
    reads(
        api,
        "/assets/search",
        response={200: SearchPage, **errors()},
        summary="Search names",
        operation_id="search_assets",
    )(search_page)


def list_page(request: HttpRequest, query: Query[ListQuery]) -> HttpResponse:
    """List assets, newest last unless ordered otherwise; with no filter those in the home folder. Filters combine."""
    filters = Filters(
        parent_id=query.parent_id,
        content_type=query.content_type or "",
        workflow_id=query.workflow_id or "",
        job_id=query.job_id or "",
        node_id=query.node_id or "",
        tag=query.tag or "",
        attributes=_conditions(refuse_unknown(request, ListQuery, dynamic=META)),
    )
    try:
        page = list_shown(caller_id(request), filters, order=query.order, cursor=query.cursor, size=query.page_size)
    except CursorError as error:
        raise BadRequestError(str(error)) from error
    links = current_links()
    return json_answer(AssetPage(next=page.next, assets=[asset_out(asset, links) for asset in page.assets]))


def search_page(request: HttpRequest, query: Query[SearchQuery]) -> HttpResponse:
    """Find assets in all folders by a part of their name, newest last."""
    refuse_unknown(request, SearchQuery)
    try:
        found = search_assets(
            caller_id(request),
            query.query,
            filters=Filters(content_type=query.content_type or ""),
            cursor=query.cursor,
            size=query.page_size,
        )
    except CursorError as error:
        raise BadRequestError(str(error)) from error
    links = current_links()
    assets = [_found(asset, found.places[asset.parent_id], links) for asset in found.assets]
    return json_answer(SearchPage(assets=assets, next_cursor=found.next, total_count=len(assets)))


def _found(asset: Asset, place: Place, links: Links) -> FoundAsset:
    record = asset_out(asset, links)
    return FoundAsset.model_construct(
        **record.__dict__, folder_name=place.name, folder_path=place.path, folder_id=place.id
    )


def _conditions(parameters: dict[str, str]) -> tuple[Condition, ...]:
    """Read `meta.<name>` and `meta.<name>__<comparison>`.

    Raises:
        UnprocessableError: a comparison that is none, a bound that is no number, too many; the text names it.
    """
    asked: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for parameter, text in parameters.items():
        name, _, comparison = parameter.removeprefix(META).partition("__")
        if not name or len(name) > MAX_KEY or ((comparison or "__" in parameter) and comparison not in COMPARISONS):
            raise UnprocessableError(f"{shown(parameter)}: there is no such query parameter.")
        if len(text) > MAX_TEXT or "\x00" in parameter + text:
            raise UnprocessableError(f"{shown(parameter)}: must have at most {MAX_TEXT} characters, and no NUL.")
        asked[name].append((comparison, text))
    if len(asked) > MAX_CONDITIONS:
        raise UnprocessableError(f"{META}*: at most {MAX_CONDITIONS} keys in one list.")
    try:
        return tuple(condition(name, asked[name]) for name in sorted(asked))
    except ConditionError as error:
        raise UnprocessableError(str(error)) from error
