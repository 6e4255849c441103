"""How long assets are kept: of one asset, and by rules for all that lies in a folder, or comes of a workflow or a job.

There is one end, `Asset.expires_at`, which readers and purge obey. An asset's own end is never touched here. Rules are
applied before each purge, in pages, so that uploads and moves pay nothing for them; what they wrote is marked, and
goes when its rule does, or when the asset leaves the folder. Whatever a rule meets for the first time is kept for
another day at least: a wrong rule can be taken back.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Final
from uuid import UUID

from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from assets.models import Asset, RetentionMark, RetentionRule
from assets.services.folders import find_folder
from assets.services.sections import release_connection, write_section
from storagecache.errors import ObjectNotFoundError, StorageError

logger = logging.getLogger(__name__)
Scope = RetentionRule.Scope

NOTICE: Final = timedelta(hours=24)  # between the first sight of an asset and its end; no rule keeps for less
_NO_RULE: Final = 0
_PAGE: Final = 200  # assets changed in one section: uploads wait for it on SQLite
_FOLDERS: Final = 500  # in one statement
_Rows = QuerySet[Asset, Asset]


class InvalidRetentionError(StorageError, ValueError):
    """A rule that cannot be kept."""

    status = 422


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What applying the rules changed: assets that got an end or another one, and those that have none any more."""

    ended: int = 0
    freed: int = 0


# --- what people ask ----------------------------------------------------------------------------


def set_rule(*, owner_id: int, scope: str, value: str, keep: timedelta) -> RetentionRule:
    """Keep a user's assets of a folder, workflow or job for this long; replaces an earlier rule of the same.

    Raises:
        InvalidRetentionError: it keeps for less than a day, or names nothing.
        ObjectNotFoundError, NoFolderError: there is no such folder of this user.
    """
    if keep < NOTICE:
        raise InvalidRetentionError("A rule keeps assets for a day at least.")
    if scope not in Scope.values or not value or len(value) > 255:
        raise InvalidRetentionError("A rule names the id of a folder, a workflow or a job.")
    if scope == Scope.FOLDER and find_folder(owner_id, value) is None:
        raise InvalidRetentionError("Home is no folder with a rule: name one in it.")
    with write_section():
        fields = {"seconds": int(keep.total_seconds()), "created_at": timezone.now()}
        rule, _ = RetentionRule.objects.update_or_create(owner_id=owner_id, scope=scope, value=value, defaults=fields)
    release_connection()
    return rule


def remove_rule(rule_id: int) -> None:
    """Take a rule back: the ends that it gave go before the next purge ends anything.

    Raises:
        ObjectNotFoundError
    """
    with write_section():
        if not RetentionRule.objects.filter(pk=rule_id).delete()[0]:
            raise ObjectNotFoundError(f"There is no rule {rule_id}.")
    release_connection()


def set_end(asset_id: UUID, keep: timedelta | None) -> datetime | None:
    """Give a live file its own end, so long from now; None: none, whatever the rules say. Returns the end.

    Raises:
        ObjectNotFoundError: absent, a folder, trashed or expired.
        InvalidRetentionError: it is in temp, which ends after TEMP_TTL.
    """
    now = timezone.now()
    with write_section():
        asset = Asset.objects.alive(now).filter(pk=asset_id, is_folder=False).select_for_update().first()
        if asset is None:
            raise ObjectNotFoundError("There is no file with this id.")
        if asset.bucket == Asset.Bucket.TEMP:
            raise InvalidRetentionError("Files in temp end after TEMP_TTL at the latest.")
        end = None if keep is None else now + keep
        RetentionMark.objects.filter(pk=asset_id).delete()
        if end is None:
            RetentionMark.objects.create(asset_id=asset_id, rule_id=_NO_RULE, seconds=0)
        Asset.objects.filter(pk=asset_id).update(expires_at=end, updated_at=now, revision=asset.revision + 1)
    release_connection()
    return end


# --- applying -----------------------------------------------------------------------------------


def apply_rules(now: datetime) -> Applied:
    """Bring every asset's end into line with the rules. Repeatable; killed in the middle the next call goes on.

    Costs two statements without rules; with them a page by keyset of what each one covers and has not marked.

    Raises:
        BackendUnavailableError: the catalog does not answer.
    """
    rules = list(RetentionRule.objects.order_by("owner_id", "pk"))
    plans = {owner_id: _Plan.of(list(found)) for owner_id, found in groupby(rules, key=lambda rule: rule.owner_id)}
    release_connection()
    ended, freed = _look_again(plans, now)
    for plan in plans.values():
        ended += sum(_cover(plan, rows, now) for rows in plan.covered())
    if ended or freed:
        logger.info("retention applied ended=%d freed=%d", ended, freed)
    return Applied(ended=ended, freed=freed)


@dataclass(frozen=True, slots=True)
class _Plan:
    """One user's rules, and which folder lies under which of them."""

    owner_id: int
    by_job: dict[str, RetentionRule]
    by_workflow: dict[str, RetentionRule]
    by_folder: dict[UUID, RetentionRule]

    @classmethod
    def of(cls, rules: list[RetentionRule]) -> _Plan:
        """Sort the rules, and look up the folders below the ruled ones: the nearest rule counts."""
        kinds = {scope: {rule.value: rule for rule in rules if rule.scope == scope} for scope in Scope}
        roots = {UUID(value): rule for value, rule in kinds[Scope.FOLDER].items()}
        return cls(rules[0].owner_id, kinds[Scope.JOB], kinds[Scope.WORKFLOW], _spread(roots))

    def rule_for(self, asset: Asset) -> RetentionRule | None:
        """Give the rule that decides about an asset."""
        folder = self.by_folder.get(asset.parent_id) if asset.parent_id else None
        return self.by_job.get(asset.job_id) or self.by_workflow.get(asset.workflow_id) or folder

    def covered(self) -> Iterator[_Rows]:
        """Yield queries of the assets that rules cover and that have no end."""
        marked = Exists(RetentionMark.objects.filter(asset_id=OuterRef("pk")))
        endless = Asset.objects.filter(
            ~marked, owner_id=self.owner_id, bucket=Asset.Bucket.ASSETS, is_folder=False, trashed_at=None,
            expires_at=None,
        )  # fmt: skip
        for job in self.by_job:
            yield endless.filter(job_id=job)
        for workflow in self.by_workflow:
            yield endless.filter(workflow_id=workflow)
        for folders in _chunks(list(self.by_folder)):
            yield endless.filter(folder__in=folders)


def _spread(roots: dict[UUID, RetentionRule]) -> dict[UUID, RetentionRule]:
    """Give every live folder below the ruled ones its rule; one statement for each level and 500 folders."""
    spread, level = dict(roots), list(roots)
    while level:
        below: list[UUID] = []
        for parents in _chunks(level):
            folders = Asset.objects.filter(parent__in=parents, is_folder=True, trashed_at=None)
            for pk, parent_id in folders.values_list("pk", "parent_id"):
                if pk not in spread and parent_id is not None:
                    spread[pk] = spread[parent_id]
                    below.append(pk)
        level = below
    return spread


def _chunks(ids: list[UUID]) -> Iterable[list[UUID]]:
    return (ids[start : start + _FOLDERS] for start in range(0, len(ids), _FOLDERS))


def _look_again(plans: dict[int, _Plan], now: datetime) -> tuple[int, int]:
    """Judge what is marked: the rule may be gone or changed, the asset moved, ended, or given an end of its own."""
    ended, freed, last = 0, 0, UUID(int=0)
    while page := list(RetentionMark.objects.filter(pk__gt=last).order_by("pk")[:_PAGE]):
        last = page[-1].pk
        assets = Asset.objects.in_bulk([mark.pk for mark in page])
        release_connection()
        if not all(_is_in_line(mark, assets.get(mark.pk), plans) for mark in page):
            with write_section():
                more, fewer = _bring_into_line(page, plans, now)
            ended, freed = ended + more, freed + fewer
    release_connection()
    return ended, freed


def _rule_for(asset: Asset, plans: dict[int, _Plan]) -> RetentionRule | None:
    plan = plans.get(asset.owner_id)
    return plan.rule_for(asset) if plan else None


def _is_in_line(mark: RetentionMark, asset: Asset | None, plans: dict[int, _Plan]) -> bool:
    if asset is None or asset.expires_at != mark.expires_at:
        return False
    rule = _rule_for(asset, plans)
    same = rule is not None and (rule.pk, rule.seconds) == (mark.rule_id, mark.seconds)
    return same or mark.rule_id == _NO_RULE


def _bring_into_line(page: list[RetentionMark], plans: dict[int, _Plan], now: datetime) -> tuple[int, int]:
    """Judge a page again under lock, and write; returns how many assets got another end, and how many lost theirs."""
    ids = [mark.pk for mark in page]
    locked = {asset.pk: asset for asset in Asset.objects.filter(pk__in=ids).order_by("pk").select_for_update()}
    ended, freed, void = [], [], []
    for mark in page:
        asset = locked.get(mark.pk)
        if _is_in_line(mark, asset, plans):
            continue
        if asset is None or asset.expires_at != mark.expires_at:
            void.append(mark.pk)
        elif (rule := _rule_for(asset, plans)) is not None:
            ended.append((asset, rule))
        else:
            freed.append(asset.pk)
    Asset.objects.filter(pk__in=freed).update(expires_at=None)
    RetentionMark.objects.filter(pk__in=[*void, *freed]).delete()
    _end(ended, now)
    return len(ended), len(freed)


def _cover(plan: _Plan, rows: _Rows, now: datetime) -> int:
    """Give an end to what a rule covers and nothing ends yet."""
    done, last = 0, UUID(int=0)
    while ids := list(rows.filter(pk__gt=last).order_by("pk").values_list("pk", flat=True)[:_PAGE]):
        last = ids[-1]
        release_connection()
        with write_section():
            locked = rows.filter(pk__in=ids).order_by("pk").select_for_update()
            found = [(asset, rule) for asset in locked if (rule := plan.rule_for(asset)) is not None]
            _end(found, now)
        done += len(found)
    release_connection()
    return done


def _end(found: list[tuple[Asset, RetentionRule]], now: datetime) -> None:
    """Write ends and marks of locked assets."""
    if not found:
        return
    marks = []
    for asset, rule in found:
        asset.expires_at = max(asset.created_at + timedelta(seconds=rule.seconds), now + NOTICE)
        marks.append(
            RetentionMark(asset_id=asset.pk, rule_id=rule.pk, seconds=rule.seconds, expires_at=asset.expires_at)
        )
    Asset.objects.bulk_update([asset for asset, _ in found], ["expires_at"])
    fields = ["rule_id", "seconds", "expires_at"]
    RetentionMark.objects.bulk_create(marks, update_conflicts=True, unique_fields=["asset_id"], update_fields=fields)
