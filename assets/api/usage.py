"""/api/usage: what the user has, by type, folder and day."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from ninja import Router
from pydantic import Field

from assets.api.requests import caller_id, errors, json_answer, reads, refuse_unknown
from assets.api.schemas import AmountOut
from assets.models import Asset
from assets.services.listing import find_assets
from assets.services.usage import DAYS, FOLDERS, TRASH, Amount, Usage, usage_of

router = Router()


class TypeUsageOut(AmountOut):
    """What there is of one group of content types."""

    type: str = Field(description="such as `image`")


class FolderUsageOut(AmountOut):
    """What lies directly in one folder."""

    folder_id: str = Field(description="the user's id for the home folder")
    name: str | None = Field(description="null when the folder is gone")


class DayUsageOut(AmountOut):
    """What was made on one day (UTC) and is still there."""

    day: str = Field(description="ISO 8601")


class UsageOut(AmountOut):
    """Live files, temp included; what is in the trash is told apart."""

    user_id: str
    temp: AmountOut = Field(description="the part of it that is in the temp bucket; counts until a purge ends it")
    trash: AmountOut
    by_type: list[TypeUsageOut] = Field(description="largest first")
    by_folder: list[FolderUsageOut] = Field(description=f"the {FOLDERS} largest, largest first")
    by_day: list[DayUsageOut] = Field(description=f"of the last {DAYS} days, latest first")


@reads(router, "/usage", response={200: UsageOut, **errors()}, summary="Usage", operation_id="usage")
def usage(request: HttpRequest) -> HttpResponse:
    """Give bytes and counts of the user's files, from counters that follow every change."""
    refuse_unknown(request)
    caller = caller_id(request)
    return json_answer(_usage_out(caller, usage_of(caller, now=timezone.now())))


def _usage_out(user_id: int, found: Usage) -> UsageOut:
    places = {Asset.Bucket.TEMP: Amount(), TRASH: Amount()} | found.places
    folders = _largest(found.folders)[:FOLDERS]
    names = {asset.pk.hex: asset.name for asset in find_assets(user_id, [text for text, _ in folders])}
    names[str(user_id)] = "Home"
    return UsageOut(
        user_id=str(user_id),
        **_amount(found.live),
        temp=AmountOut(**_amount(places[Asset.Bucket.TEMP])),
        trash=AmountOut(**_amount(places[TRASH])),
        by_type=[TypeUsageOut(type=name, **_amount(amount)) for name, amount in _largest(found.groups)],
        by_folder=[FolderUsageOut(folder_id=i, name=names.get(i), **_amount(amount)) for i, amount in folders],
        by_day=[DayUsageOut(day=day, **_amount(amount)) for day, amount in sorted(found.days.items(), reverse=True)],
    )


def _largest(amounts: dict[str, Amount]) -> list[tuple[str, Amount]]:
    return sorted(amounts.items(), key=lambda item: (-item[1].bytes, item[0]))


def _amount(amount: Amount) -> dict[str, int]:
    return {"bytes": amount.bytes, "count": amount.count}
