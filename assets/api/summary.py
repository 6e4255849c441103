"""/api/assets/{id}/summary: where an asset lies, how much a folder holds, and what was made of it, by counters."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from ninja import Router

from assets.api.record_schemas import MAX_USES, AssetRef, SummaryOut, asset_ref
from assets.api.requests import caller_id, errors, json_answer, reads, refuse_unknown
from assets.api.schemas import AmountOut
from assets.models import Asset
from assets.services.folders import breadcrumbs
from assets.services.lineage import used_by
from assets.services.listing import find_asset, home_since
from assets.services.search import HOME
from assets.services.usage import Amount, folder_totals, tree_total, usage_of

router = Router()


@reads(
    router,
    "/assets/{asset_id}/summary",
    response={200: SummaryOut, **errors(404)},
    summary="Sum up an asset or a folder",
    operation_id="asset_summary",
)
def summary(request: HttpRequest, asset_id: str) -> HttpResponse:
    """Tell where an asset lies, how many files and bytes a folder holds, and what was made of it.

    The figures come from counters that follow every change. The user's own id sums up all there is.
    """
    refuse_unknown(request)
    caller = caller_id(request)
    return json_answer(_of_home(caller) if asset_id == str(caller) else _of(caller, find_asset(caller, asset_id)))


def _of_home(caller: int) -> SummaryOut:
    home_since(caller)
    return SummaryOut(
        breadcrumbs=[],
        content=_amount(folder_totals(caller, [None])[None]),
        total=_amount(usage_of(caller, now=timezone.now()).live),
        used_by=[],
        used_by_more=False,
    )


def _of(caller: int, asset: Asset) -> SummaryOut:
    uses = used_by([asset.pk], limit=MAX_USES)
    return SummaryOut(
        breadcrumbs=[AssetRef(id=str(caller), name=HOME), *map(asset_ref, breadcrumbs(asset))],
        content=_amount(folder_totals(caller, [asset.pk])[asset.pk]) if asset.is_folder else None,
        total=_amount(tree_total(caller, asset.pk)) if asset.is_folder else None,
        used_by=[asset_ref(found) for found in uses.assets],
        used_by_more=uses.more,
    )


def _amount(amount: Amount) -> AmountOut:
    return AmountOut(bytes=amount.bytes, count=amount.count)
