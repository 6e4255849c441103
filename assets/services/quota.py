"""How much each user stores, and may: charged in the section that changes their assets, so that it is exact.

What counts is the size of every asset row, temp and trash included. Bytes that two assets of a user share count
twice, and bytes that wait for purge do not count (docs/decisions/0012-quota.md).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from django.db.models import BigIntegerField, F, Q, Sum

from assets.models import Account, Asset
from assets.prepared import Change, Given
from assets.services.sections import release_connection, write_section
from storagecache.environment import Environment
from storagecache.errors import StorageFullError

_WORTH_ASKING: Final = 256 << 10  # bytes; smaller uploads are judged only when they are charged
_MOST: Final = BigIntegerField.MAX_BIGINT  # bytes


def charge(owner_id: int, change: int) -> None:
    """Add `change` bytes to what an owner uses; one UPDATE. Call it inside the section, behind its other changes.

    Behind them, because the row it locks is then held for the shortest time, and because an account that is opened
    here counts what the section has written. Less than before is never refused.

    Raises:
        StorageFullError: the owner's quota does not allow it; the section rolls back.
    """
    if not change or _add(owner_id, change):
        return
    account, opened = Account.objects.get_or_create(pk=owner_id, defaults={"used_bytes": _count(owner_id)})
    if opened and (change < 0 or _room(account) >= 0):
        return
    if opened or not _add(owner_id, change):  # else another section opened it at the same moment
        raise _full(account, change, counted=change if opened else 0)


def refund(assets: Iterable[Asset]) -> None:
    """Take removed assets off their owners' accounts, in the order of owners; see `charge`."""
    freed: Counter[int] = Counter()
    for asset in assets:
        freed[asset.owner_id] += asset.size or 0
    for owner_id in sorted(freed):
        charge(owner_id, -freed[owner_id])


def refuse_if_full(owner_id: int, bucket: str, key: str | None, size: int) -> None:
    """Refuse bytes that the section would refuse, before they are sent or stored; one SELECT, none for small ones.

    Raises:
        StorageFullError: the asset at this address would grow beyond the owner's quota.
    """
    if size < _WORTH_ASKING:
        return
    account = Account.objects.filter(pk=owner_id).first()
    if account is not None and size > (room := _room(account)):
        there = Asset.objects.at(bucket, key).filter(owner_id=owner_id) if key else Asset.objects.none()
        growth = size - (there.values_list("size", flat=True).first() or 0)
        if growth > max(room, 0):
            raise _full(account, growth)
    release_connection()


def set_quota(owner_id: int, quota_bytes: int | None) -> Account:
    """Set what a user may store; None is the default, USER_QUOTA_BYTES. What is there stays, even when it is more."""
    with write_section():
        account = _locked(owner_id)
        account.quota_bytes = quota_bytes
        account.save(update_fields=["quota_bytes"])
    return account


def recount(owner_id: int) -> tuple[int, int]:
    """Count an owner's assets anew; returns the bytes on the account before and now. They differ only after a fault."""
    with write_section():
        account = _locked(owner_id)
        before, account.used_bytes = account.used_bytes, _count(owner_id)  # counted behind the lock
        account.save(update_fields=["used_bytes"])
    return before, account.used_bytes


def quota_of(account: Account) -> int | None:
    """Give the quota in force, in bytes; None is no limit."""
    return Environment.current().user_quota_bytes if account.quota_bytes is None else account.quota_bytes


def _add(owner_id: int, change: int) -> bool:
    """Add to the account if it is there and has room, in one statement, which two sections cannot both pass."""
    default = Environment.current().user_quota_bytes
    if change <= 0:
        found = _ADD.run(user=owner_id, change=change)
    elif default is None:
        found = _ADD_WITHIN_OWN.run(user=owner_id, change=change)
    else:
        found = _ADD_WITHIN.run(user=owner_id, change=change, most=min(default - change, _MOST))
    return bool(found)


def _bytes(name: str) -> Given:
    return Given(Account, "used_bytes", name)


def _adding(room: Callable[[], Q]) -> Change:
    return Change(
        lambda: Account.objects.filter(room(), pk=Given(Account, "user")),
        lambda: {"used_bytes": F("used_bytes") + _bytes("change")},
    )


def _within_own() -> Q:
    return Q(quota_bytes__gte=F("used_bytes") + _bytes("change"))


_ADD: Final = _adding(Q)
_ADD_WITHIN_OWN: Final = _adding(lambda: Q(quota_bytes=None) | _within_own())
_ADD_WITHIN: Final = _adding(lambda: Q(quota_bytes=None, used_bytes__lte=_bytes("most")) | _within_own())


def _room(account: Account) -> float:
    """Give the bytes that are free; infinite without a quota, since a request may announce any length."""
    quota = quota_of(account)
    return math.inf if quota is None else quota - account.used_bytes


def _locked(owner_id: int) -> Account:
    Account.objects.get_or_create(pk=owner_id, defaults={"used_bytes": _count(owner_id)})
    return Account.objects.select_for_update().get(pk=owner_id)


def _count(owner_id: int) -> int:
    return Asset.objects.filter(owner_id=owner_id).aggregate(total=Sum("size"))["total"] or 0


def _full(account: Account, growth: int, *, counted: int = 0) -> StorageFullError:
    return StorageFullError(
        f"Your storage is full: {account.used_bytes - counted} of {quota_of(account)} bytes are used, and this needs "
        f"{growth} more. Delete something, or ask the administrator for a larger quota."
    )
