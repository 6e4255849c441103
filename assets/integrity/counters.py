"""Counters that must equal what they count. A new counter joins by an entry in CHECKS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from django.db.models import OuterRef, Subquery, Sum
from django.db.models.functions import Coalesce

from assets.models import Account, Asset
from assets.services.quota import recount
from assets.services.sections import release_connection

_PAGE: Final = 500  # accounts


@dataclass(frozen=True, slots=True)
class Difference:
    """A counter that is wrong: whose it is, what it says and what there is."""

    owner_id: int
    counted: int
    actual: int


@dataclass(frozen=True, slots=True)
class CounterCheck:
    """How one kind of counter is compared with what it counts, and set right."""

    name: str
    differing: Callable[[], Iterator[Difference]]
    mend: Callable[[int], object]


def _differing_accounts() -> Iterator[Difference]:
    """Compare each account with its owner's assets: in pages, then each suspect in one statement, so in one moment."""
    last = -1
    while page := list(Account.objects.filter(pk__gt=last).order_by("pk").values_list("pk", "used_bytes")[:_PAGE]):
        owners = [owner_id for owner_id, _ in page]
        sums = dict(
            Asset.objects.filter(owner_id__in=owners).order_by().values_list("owner_id").annotate(total=Sum("size"))
        )
        suspects = [owner_id for owner_id, used in page if used != (sums.get(owner_id) or 0)]
        yield from _judged(suspects)
        release_connection()
        last = owners[-1]


def _judged(owners: list[int]) -> list[Difference]:
    if not owners:
        return []
    assets = Asset.objects.filter(owner_id=OuterRef("pk")).order_by().values("owner_id")
    total = Coalesce(Subquery(assets.annotate(total=Sum("size")).values("total")), 0)
    accounts = Account.objects.filter(pk__in=owners).annotate(actual=total).values_list("pk", "used_bytes", "actual")
    return [Difference(*account) for account in accounts if account[1] != account[2]]


CHECKS: Final = (CounterCheck("quota", _differing_accounts, recount),)
