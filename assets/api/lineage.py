"""/api/assets/{id}/lineage: what an asset was made from, and what was made of it."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from ninja import Query, Router, Schema
from pydantic import BaseModel, Field

from assets.api.numbers import QueryInt
from assets.api.requests import caller_id, errors, json_answer, reads, refuse_unknown
from assets.api.schemas import AssetOut, asset_out
from assets.links import current_links
from assets.services.lineage import trace
from assets.services.listing import find_asset

router = Router()


class LineageQuery(Schema):
    """How far to walk."""

    depth: QueryInt = Field(default=10, ge=1, le=100, description="steps in each direction")


class EdgeOut(BaseModel):
    """`target` was made from `source`; both are ids of nodes."""

    source: str
    target: str


class LineageOut(BaseModel):
    """The asset itself, then what lies around it, nearest first."""

    nodes: list[AssetOut]
    edges: list[EdgeOut]
    truncated: bool = Field(description="there are more than 500, which are left out")


@reads(
    router,
    "/assets/{asset_id}/lineage",
    response={200: LineageOut, **errors(404)},
    summary="Trace an asset",
    operation_id="asset_lineage",
)
def lineage(request: HttpRequest, asset_id: str, query: Query[LineageQuery]) -> HttpResponse:
    """Give the live assets of the user that this one was made from, directly or not, and those made of it."""
    refuse_unknown(request, LineageQuery)
    found = trace(find_asset(caller_id(request), asset_id), depth=query.depth)
    links = current_links()
    return json_answer(
        LineageOut(
            nodes=[asset_out(asset, links) for asset in found.nodes],
            edges=[EdgeOut(source=source.hex, target=target.hex) for source, target in found.edges],
            truncated=found.truncated,
        )
    )
