"""Counters of quota and usage are held against the assets in one moment, without a lock."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from assets.integrity import counters
from assets.integrity.counters import differing
from assets.integrity.repair import repair
from assets.integrity.verify import Verification
from assets.models import Account, Asset, UsageDelta, UsageTotal
from assets.services import delete_assets
from assets.services.trash import trash_tree
from assets.services.usage_upkeep import fold
from tests.integrity.conftest import in_memory, upload


@pytest.fixture
def library(settings: Any, owner: User) -> list[Asset]:
    """Give a library of two users with folders, temp and trash, half of it folded."""
    settings.STORAGES = {**settings.STORAGES, **in_memory()}
    other = User.objects.create_user("bob")
    made = [upload(who, b"%d" % number) for number in range(8) for who in (owner, other)]
    list(trash_tree(made[0].owner_id, made[0].pk))
    fold()
    upload(owner, b"temp", bucket="temp")
    upload(other, b"more bytes")
    delete_assets([made[2].pk])
    return made


def test_counters_that_agree_are_no_findings(library: list[Asset]) -> None:
    assert differing() == []
    fold()
    assert differing() == []


@pytest.mark.parametrize("dimension", UsageTotal.Dimension.values)
def test_counters_wrong_figure_of_usage_is_found_once_and_counted_anew(library: list[Asset], dimension: str) -> None:
    row = UsageTotal.objects.filter(dimension=dimension).first()
    assert row is not None
    UsageTotal.objects.filter(pk=row.pk).update(bytes=row.bytes + 3)
    (found,) = Verification().findings()
    assert (found.kind, found.key, found.id) == ("counter_differs", f"usage of user {row.owner_id}", str(row.owner_id))
    assert repair()[1].counters == 1
    assert differing() == []


def test_counters_lost_delta_and_lost_totals_are_found(library: list[Asset], owner: User) -> None:
    UsageDelta.objects.filter(owner=owner).delete()
    assert [found.counter for found in differing()] == ["usage"]
    UsageTotal.objects.all().delete()
    UsageDelta.objects.all().delete()
    Account.objects.update(used_bytes=0)
    assert sorted(found.counter for found in differing()) == ["quota", "quota", "usage", "usage"]
    repair()
    assert differing() == []


def test_counters_of_a_user_without_assets_are_judged_too(library: list[Asset]) -> None:
    ghost = User.objects.create_user("ghost")
    UsageTotal.objects.create(owner=ghost, dimension="place", value="assets", bytes=1, count=1)
    Account.objects.create(user=ghost, used_bytes=5)
    assert [(found.counter, found.owner_id) for found in differing()] == [("quota", ghost.pk), ("usage", ghost.pk)]


def test_counters_are_compared_without_a_writing_transaction(library: list[Asset]) -> None:
    with CaptureQueriesContext(connection) as queries:
        differing()
    said = [query["sql"] for query in queries]
    assert not any("IMMEDIATE" in sql for sql in said)
    # PostgreSQL declares cursors for them.
    assert sum("SELECT" in sql for sql in said) == 3 + len(UsageTotal.Dimension)


def test_counters_written_meanwhile_are_seen_as_at_one_moment(library: list[Asset], owner: User) -> None:
    def write() -> None:
        upload(owner, b"meanwhile")
        connection.close()

    with counters.reading_section():
        entries = counters._by_owner()
        first = next(entries)
        thread = threading.Thread(target=write)  # waits for nobody
        thread.start()
        thread.join(20)
        assert not thread.is_alive()
        books = [first, *entries]
    assert [found for owner_id, book in books for found in counters._judged(owner_id, book)] == []
