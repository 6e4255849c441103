"""Hits by the hour and the largest values, as the page of the node cache shows them."""

from __future__ import annotations

from storagecache.node_cache.journal import LARGEST, Entry, Journal, summed
from storagecache.node_cache.keys import NodeCacheKey
from tests.node_cache.conftest import MakeCache
from tests.node_cache.parts import Clock


def key(number: int, workflow: str = "w") -> NodeCacheKey:
    return NodeCacheKey("1", workflow, "test.Node", f"{number:064x}")


def test_history_sums_the_hours_and_names_the_largest_of_all_processes(file_cache: MakeCache, clock: Clock) -> None:
    first, second = file_cache(), file_cache()
    first.set(key(1), b"x" * 1000)
    second.set(key(2), b"x" * 5_000_000)
    for cache in (first, second):
        assert cache.get(key(1)) is not None
        assert cache.get(key(9)) is None
        cache.flush()
    hours, entries = first.history()
    assert list(hours.values()) == [(2, 2)]
    assert [entry.key for entry in entries] == [key(2), key(1)]
    assert entries[0].bytes > 5_000_000


def test_history_leaves_out_what_was_cleared_or_is_over(file_cache: MakeCache, clock: Clock) -> None:
    cache = file_cache()
    cache.set(key(1, "gone"), b"x")
    cache.set(key(2), b"x", ttl=60)
    cache.set(key(3), b"x", ttl=None)
    cache.clear(workflow="gone")
    assert {entry.key for entry in cache.history()[1]} == {key(2), key(3)}
    clock.now += 61
    assert {entry.key for entry in cache.history()[1]} == {key(3)}


def test_journal_tells_hours_apart_and_forgets_those_of_last_week() -> None:
    journal = Journal()
    journal.count(3, 1, 0.0)
    journal.count(5, 1, 3600.0)
    assert summed([journal.tree()])[0] == {0: (3, 1), 1: (2, 0)}
    journal.count(6, 1, 3600.0 * 24 * 8)
    assert summed([journal.tree()])[0] == {24 * 8: (1, 0)}


def test_journal_of_many_values_stays_small(file_cache: MakeCache) -> None:
    cache = file_cache()
    for number in range(5 * LARGEST):
        cache.set(key(number), b"x" * number)
    entries = cache.history()[1]
    assert [entry.digest for entry in entries] == [key(5 * LARGEST - 1 - n).digest for n in range(LARGEST)]


def test_files_that_are_not_ours_are_left_out() -> None:
    entry = ["1", "w", "t", "d", 5, 1.0, 0.0, 0.0]
    trees = [{}, {"hours": "x", "largest": [[1, 2], "y", [*entry[:4], "5", *entry[5:]]]}, {"hours": [[1, 2, "3"]]}]
    assert summed([*trees, {"largest": [entry, [*entry[:4], 7, 2.0, 0.0, 0.0]]}]) == (
        {},
        [Entry("1", "w", "t", "d", 7, 2.0, 0.0, 0.0)],
    )
