"""Lineage: what is recorded, how far a walk goes, and what it costs."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone

from assets.ids import new_id
from assets.models import Asset, Derivation
from assets.services import delete_assets, lineage
from assets.services.lineage import SourcesError, check_sources, made_from, record_sources, trace, used_by
from assets.services.sections import write_section
from storagecache.errors import ObjectNotFoundError
from tests.assets.conftest import Buckets, put, statements


def copies(model: Asset, count: int) -> list[Asset]:
    """Make rows that share an asset's object."""
    fields = [field.attname for field in Asset._meta.concrete_fields if not field.generated]
    rows = [Asset(**{name: getattr(model, name) for name in fields}) for _ in range(count)]
    for row in rows:
        row.pk = new_id()
        row.key = row.name = row.pk.hex
    return Asset.objects.bulk_create(rows)


def derive(*pairs: tuple[Asset, Asset]) -> None:
    """Note (source, target) pairs."""
    Derivation.objects.bulk_create(Derivation(source=source, asset=target) for source, target in pairs)


@pytest.fixture
def model(memory: Buckets, owner: User) -> Asset:
    return put(owner, "model", b"x")


def ids(assets: Any) -> set[UUID]:
    return {asset.pk for asset in assets}


def test_trace_walks_both_ways_and_knows_every_edge_between(model: Asset) -> None:
    a, b, c, d, sibling = copies(model, 5)
    derive((a, b), (b, c), (c, d), (a, d), (a, sibling))
    found = trace(c, depth=10)
    assert [asset.pk for asset in found.nodes] == [c.pk, *sorted([b.pk, d.pk]), a.pk]
    assert set(found.edges) == {(a.pk, b.pk), (b.pk, c.pk), (c.pk, d.pk), (a.pk, d.pk)}
    assert not found.truncated
    assert all(asset.object is not None for asset in found.nodes)


def test_trace_ends_at_its_depth(model: Asset) -> None:
    chain = copies(model, 9)
    derive(*pairwise(chain))
    found = trace(chain[4], depth=2)
    assert ids(found.nodes) == ids(chain[2:7])
    assert len(found.edges) == 4
    assert not found.truncated


def test_trace_of_an_asset_alone_is_the_asset(model: Asset) -> None:
    found = trace(model, depth=10)
    assert (ids(found.nodes), found.edges, found.truncated) == ({model.pk}, (), False)


def test_trace_of_a_ring_ends(model: Asset) -> None:
    a, b, c = copies(model, 3)
    derive((a, b), (b, c), (c, a))
    found = trace(a, depth=100)
    assert (ids(found.nodes), len(found.edges)) == (ids([a, b, c]), 3)


def test_trace_passes_by_what_is_trashed_expired_or_foreign(model: Asset, stranger: User) -> None:
    start, trashed, expired, foreign, *behind = copies(model, 7)
    derive(*((start, hidden) for hidden in (trashed, expired, foreign)))
    derive(*zip((trashed, expired, foreign), behind, strict=True))
    now = timezone.now()
    Asset.objects.filter(pk=trashed.pk).update(trashed_at=now)
    Asset.objects.filter(pk=expired.pk).update(expires_at=now - timedelta(seconds=1))
    Asset.objects.filter(pk=foreign.pk).update(owner=stranger)
    assert ids(trace(start, depth=10).nodes) == {start.pk}


@pytest.mark.parametrize(("count", "truncated"), [(499, False), (500, True)])
def test_trace_is_cut_at_five_hundred_nodes_and_says_so(model: Asset, count: int, truncated: bool) -> None:
    outputs = copies(model, count)
    derive(*((model, output) for output in outputs))
    found = trace(model, depth=10)
    assert (len(found.nodes), len(found.edges), found.truncated) == (500, 499, truncated)


def test_trace_of_a_level_beyond_what_is_read_says_so(model: Asset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineage, "_EDGES", 5)
    outputs = copies(model, 6)
    derive(*((model, output) for output in outputs))
    found = trace(model, depth=10)
    assert (len(found.nodes), found.truncated) == (6, True)


def test_trace_costs_two_statements_for_a_level_however_wide(model: Asset) -> None:
    costs = []
    for width in (1, 40):
        top, middle, bottom = (copies(model, width) for _ in range(3))
        derive(*((source, target) for source in top[:2] for target in middle))
        derive(*zip(middle, bottom, strict=True))
        with statements() as seen:
            trace(top[0], depth=10)
        costs.append(len([sql for sql in seen if sql.lstrip().startswith("SELECT")]))
    assert costs[0] == costs[1] <= 2 * 3 + 2


@pytest.mark.parametrize("near", ["asset_id", "source_id"])
def test_each_direction_is_read_from_one_index(model: Asset, near: str) -> None:
    rows = Derivation.objects.filter(**{f"{near}__in": [model.pk]}).values_list("source_id", "asset_id")
    if connection.vendor == "sqlite":
        assert "USING COVERING INDEX" in rows.explain()
        return
    with connection.cursor() as cursor:
        cursor.execute("SET enable_seqscan = off")
        plan = rows.explain()
        cursor.execute("RESET enable_seqscan")
    assert "derivation_" in plan


# --- recording --------------------------------------------------------------------------------


def test_record_sources_notes_each_once_with_its_origin(model: Asset) -> None:
    a, b, made = copies(model, 3)
    for _ in range(2):
        with write_section():
            record_sources(made.pk, [a.pk, b.pk, a.pk], owner_id=made.owner_id, job_id="j", node_id="n")
    links = Derivation.objects.filter(asset=made).values_list("source_id", "job_id", "node_id")
    assert sorted(links) == sorted([(a.pk, "j", "n"), (b.pk, "j", "n")])


@pytest.mark.parametrize("state", ["absent", "foreign", "trashed", "expired"])
def test_record_sources_that_are_not_there_are_refused_and_named(model: Asset, stranger: User, state: str) -> None:
    made, kept, gone = copies(model, 3)
    rows = Asset.objects.filter(pk=gone.pk)
    if state == "absent":
        delete_assets([gone.pk])
    elif state == "foreign":
        rows.update(owner=stranger)
    else:
        rows.update(**{f"{state}_at" if state == "trashed" else "expires_at": timezone.now()})
    with pytest.raises(ObjectNotFoundError, match=f"sources: .*{gone.pk.hex}"), write_section():
        record_sources(made.pk, [kept.pk, gone.pk], owner_id=made.owner_id)
    with pytest.raises(ObjectNotFoundError, match=gone.pk.hex):
        check_sources(made.owner_id, [kept.pk, gone.pk])
    assert not Derivation.objects.exists()


def test_record_sources_refuses_the_asset_itself_and_too_many(model: Asset) -> None:
    many = [new_id() for _ in range(1001)]
    with pytest.raises(SourcesError, match="itself"), write_section():
        record_sources(model.pk, [model.pk], owner_id=model.owner_id)
    with pytest.raises(SourcesError, match="1001"), write_section():
        record_sources(model.pk, many, owner_id=model.owner_id)
    with pytest.raises(SourcesError, match="1001"):
        check_sources(model.owner_id, many)


def test_record_sources_of_none_costs_nothing(model: Asset) -> None:
    with statements() as seen:
        record_sources(model.pk, [], owner_id=model.owner_id)
        check_sources(model.owner_id, [])
    assert seen == []


# --- used by ----------------------------------------------------------------------------------


def test_used_by_names_live_outputs_beside_the_given_ones(model: Asset) -> None:
    a, b, out, trashed = copies(model, 4)
    derive((a, b), (a, out), (b, out), (a, trashed))
    Asset.objects.filter(pk=trashed.pk).update(trashed_at=timezone.now())
    with statements() as seen:
        uses = used_by([a.pk, b.pk], limit=10)
    assert (ids(uses.assets), uses.more) == ({out.pk}, False)
    assert len([sql for sql in seen if sql.startswith("SELECT")]) == 2
    assert ids(used_by([a.pk], limit=10).assets) == {b.pk, out.pk}
    assert ids(made_from(out.pk, limit=10).assets) == {a.pk, b.pk}


def test_used_by_more_than_asked_for_says_so(model: Asset) -> None:
    outputs = copies(model, 3)
    derive(*((model, output) for output in outputs))
    assert [(len(found.assets), found.more) for found in (used_by([model.pk], limit=n) for n in (2, 3))] == [
        (2, True),
        (3, False),
    ]
    assert used_by([], limit=3).assets == ()
