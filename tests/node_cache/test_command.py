"""`manage.py node_cache`, as another process sees the cache."""

from __future__ import annotations

import io
import json

from django.core.management import call_command

from storagecache.environment import Environment
from storagecache.node_cache import MISS, node_cache_key
from tests.node_cache.conftest import Run
from tests.node_cache.parts import Node


def test_command_sees_and_clears_what_other_processes_did(run: Run) -> None:
    run(script="cache.get_or_compute(node_cache_key(Node({'a': 1}), user='7'), lambda: b'x' * 2_000_000)")
    found = run(script="print(len(cache.get(node_cache_key(Node({'a': 1}), user='7'))))")
    assert found.strip() == "2000000"
    stats = json.loads(run("node_cache", "stats", "--json"))
    assert stats["computes"] == 1
    assert stats["l3"]["hits"] == 1
    assert stats["processes"] >= 2
    run("node_cache", "clear", "--user", "8")
    lookup = "print(cache.get(node_cache_key(Node({'a': 1}), user='7'), MISS) is MISS)"
    assert run(script=lookup).strip() == "False"
    run("node_cache", "clear", "--user", "7", "--node-type", "test.Node")
    assert run(script=lookup).strip() == "True"
    run(script="cache.get(node_cache_key(Node({'a': 2}), user='7'))")
    told = run("node_cache", "explain", "test.Node", "--user", "7")
    assert "properties.a" in told
    assert "before: 1" in told


def test_command_that_looks_does_not_count(run: Run) -> None:
    run(script="cache.set('k', 1)")
    told = [json.loads(run("node_cache", "stats", "--json"))["processes"] for _ in range(2)]
    assert told == [1, 1]


def test_command_in_this_process_counts_this_process() -> None:
    cache = Environment.get_node_cache()
    cache.set(node_cache_key(Node({"b": 1}), user="u1"), 1)
    cache.set(node_cache_key(Node({"b": 2}), user="u1"), 1)
    out = io.StringIO()
    call_command("node_cache", "explain", "test.Node", "--user", "u1", stdout=out)
    assert "properties.b" in out.getvalue()
    call_command("node_cache", "clear", "--user", "u1", stdout=out)
    assert cache.get(node_cache_key(Node({"b": 2}), user="u1"), MISS) is MISS
    out = io.StringIO()
    call_command("node_cache", "stats", stdout=out)
    assert "l1" in out.getvalue()
    call_command("node_cache", "explain", "no.such.Type", stdout=out)
    assert "No key" in out.getvalue()
