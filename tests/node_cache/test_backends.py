"""Django's face of the node cache: bytes only, bounded, misses instead of errors."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import caches
from django.core.cache.backends.base import BaseCache

from storagecache.errors import UnsupportedCapabilityError
from storagecache.node_cache.backends import NodeMemcachedCache, NodeMemoryCache
from tests.ports import free_ports
from tests.servers import MemcachedServer


@pytest.fixture(params=["memory", "memcached"])
def backend(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Give both backends, each with a name space of its own."""
    prefix = {"KEY_PREFIX": request.node.name}
    if request.param == "memory":
        yield NodeMemoryCache(request.node.name, {"OPTIONS": {"max_bytes": 1_000_000}, **prefix})
        return
    server: MemcachedServer = request.getfixturevalue("memcached_server")
    made = NodeMemcachedCache([f"{server.host}:{server.port}"], prefix)
    yield made
    made.client.close()


def test_backend_holds_bytes_as_they_are(backend: BaseCache) -> None:
    planted = pickle.dumps({"a": 1})
    backend.set("k", planted)
    assert backend.get("k") == planted
    assert backend.get_many(["k", "absent"]) == {"k": planted}
    assert backend.add("k", b"other") is False
    assert backend.add("new", b"x") is True
    assert backend.touch("k", 100) is True
    assert backend.delete("k") is True
    assert backend.delete("k") is False
    assert backend.get("k", "default") == "default"
    backend.set_many({"a": b"1", "b": b"2"})
    assert backend.get_many(["a", "b"]) == {"a": b"1", "b": b"2"}


@pytest.mark.parametrize("value", [{"a": 1}, "text", 5, None, object()], ids=lambda value: type(value).__name__)
def test_backend_refuses_what_is_no_bytes(backend: BaseCache, value: object) -> None:
    with pytest.raises(TypeError):
        backend.set("k", value)


@pytest.mark.parametrize("timeout", [1, 0.5, 60 * 60 * 24 * 31, 60 * 60 * 24 * 400, None])
def test_backend_timeout_never_becomes_a_date(backend: BaseCache, timeout: float | None) -> None:
    backend.set("k", b"x", timeout)
    assert backend.get("k") == b"x"


def test_backend_timeout_of_nought_stores_nothing(backend: BaseCache) -> None:
    backend.set("k", b"x", 0)
    assert backend.get("k") is None


def test_backend_drops_the_old_value_when_a_new_one_does_not_fit(backend: BaseCache) -> None:
    backend.set("k", b"x")
    backend.set("k", b"y" * 3_000_000)
    assert backend.get("k") is None


def test_memory_backend_stays_in_its_budget() -> None:
    backend = NodeMemoryCache("bounded", {"OPTIONS": {"max_bytes": 100_000}})
    for number in range(100):
        backend.set(str(number), b"x" * 5_000)
    assert backend.store.usage()["bytes"] <= 100_000
    backend.clear()
    assert backend.store.usage()["entries"] == 0


def test_memcached_backend_is_never_flushed(memcached_server: MemcachedServer) -> None:
    backend = NodeMemcachedCache(f"{memcached_server.host}:{memcached_server.port}", {})
    with pytest.raises(UnsupportedCapabilityError):
        backend.clear()


def test_memcached_backend_without_a_server_misses() -> None:
    backend = NodeMemcachedCache(f"127.0.0.1:{free_ports(1)}", {})
    backend.set("k", b"x")
    assert backend.get("k") is None
    assert backend.add("k", b"x") is False
    assert backend.get_many(["k"]) == {}
    assert backend.delete("k") is False


def test_alias_nodes_is_ours() -> None:
    assert isinstance(caches["nodes"], NodeMemoryCache | NodeMemcachedCache)
