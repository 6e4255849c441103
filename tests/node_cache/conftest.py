"""Caches over real parts: files in a folder of the test's own, or a real Memcached."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from storagecache.node_cache import references
from storagecache.node_cache.area import CacheArea
from storagecache.node_cache.cache import NodeCache
from storagecache.node_cache.frames import mac_key
from storagecache.node_cache.memcached import Memcached
from storagecache.node_cache.tiers import FileTier, MemcachedTier
from storagecache.storages.filesystem import FilesystemObjectStorage
from tests.node_cache.parts import SECRET, Clock
from tests.servers import MemcachedServer

ROOT = Path(__file__).resolve().parents[2]
MakeCache = Callable[..., NodeCache]
Run = Callable[..., str]


@pytest.fixture(autouse=True)
def _no_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no catalog be registered but a test's own, and the app's again for the tests behind it."""
    monkeypatch.setattr(references, "_registered", None)


@pytest.fixture
def clock() -> Clock:
    """Give a clock that a test moves."""
    return Clock()


@pytest.fixture
def area(tmp_path: Path) -> CacheArea:
    """Give an empty `cache` area on disk."""
    return CacheArea(FilesystemObjectStorage(location=tmp_path / "cache"))


@pytest.fixture
def file_cache(area: CacheArea, clock: Clock) -> Iterator[MakeCache]:
    """Give a maker of caches over one folder: each is as another process, with a memory of its own."""

    made: list[NodeCache] = []

    def make(max_bytes: int = 64 << 20, max_disk_bytes: int = 10 << 30) -> NodeCache:
        cache = NodeCache(
            tier=FileTier(area, clock),
            area=area,
            secret=mac_key(SECRET),
            max_bytes=max_bytes,
            max_disk_bytes=max_disk_bytes,
            clock=clock,
        )
        made.append(cache)
        return cache

    yield make
    for cache in made:
        cache.close()


@pytest.fixture
def memcached_cache(memcached_server: MemcachedServer, area: CacheArea, clock: Clock) -> Iterator[MakeCache]:
    """Give a maker of caches over the real Memcached, in a namespace of the test's own."""
    namespace = secrets.token_hex(4)
    clients: list[Memcached] = []
    made: list[NodeCache] = []

    def make(max_bytes: int = 64 << 20) -> NodeCache:
        client = Memcached([(memcached_server.host, memcached_server.port)])
        clients.append(client)
        cache = NodeCache(
            tier=MemcachedTier(client, namespace),
            area=area,
            secret=mac_key(SECRET),
            max_bytes=max_bytes,
            clock=clock,
        )
        made.append(cache)
        return cache

    yield make
    for cache in made:
        cache.close()
    for client in clients:
        client.close()


@pytest.fixture(params=["files", "memcached"])
def make_cache(request: pytest.FixtureRequest) -> MakeCache:
    """Give both kinds of cache, one after the other."""
    name = {"files": "file_cache", "memcached": "memcached_cache"}[request.param]
    made: MakeCache = request.getfixturevalue(name)
    return made


@pytest.fixture(params=["files", "memcached"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Give a runner of commands and scripts, each in a process of its own, on one shared cache."""
    extra = {
        "ENV": "development",
        "NODETOOL_CONFIG_DIR": str(tmp_path),
        "DJANGO_SETTINGS_MODULE": "nodetool_site.settings",
    }
    if request.param == "memcached":
        server: MemcachedServer = request.getfixturevalue("memcached_server")
        extra |= {"MEMCACHE_HOST": server.host, "MEMCACHE_PORT": str(server.port)}
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "ENV", "MEMCACHE"))
    }

    def run(*arguments: str, script: str = "") -> str:
        command = [sys.executable, "-c", PRELUDE + script] if script else [sys.executable, "manage.py", *arguments]
        if not script and not (ROOT / "manage.py").exists():
            command = [sys.executable, "-m", "django", *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=inherited | extra, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


PRELUDE = """
import django; django.setup()
from storagecache.environment import Environment
from storagecache.node_cache import MISS, node_cache_key
from tests.node_cache.parts import Node
cache = Environment.get_node_cache()
"""
