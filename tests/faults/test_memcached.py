"""The running service when its Memcached dies, stalls and comes back: nobody but its owner notices."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.faults.stand import Stand, body_of
from tests.servers import MemcachedServer

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]


def test_memcached_that_is_gone_costs_nobody_a_write_or_a_read(
    stands: Callable[..., Stand], memcached_server: MemcachedServer
) -> None:
    stand = stands(MEMCACHE_HOST=memcached_server.host, MEMCACHE_PORT=str(memcached_server.port))
    stand.put("k", body_of("old", 70_000))
    for how in (memcached_server.server.down, memcached_server.server.paused):
        with how():
            _write_and_read(stand, how.__name__)
        assert json.loads(stand.service.ask("GET", "/readyz").body)["cache"]["status"] == "ok"
        stand.recover()
        stand.look()


def _write_and_read(stand: Stand, name: str) -> None:
    for number in range(5):
        for key in ("k", f"{name}-{number}"):
            answer = stand.put(key, body_of(f"{name} {number}", 70_000))
            assert answer is not None
            assert answer.status in (200, 201)
        stand.read_all()
    ready = stand.service.ask("GET", "/readyz")
    assert ready.status == 200
    assert json.loads(ready.body)["cache"]["status"] == "degraded"
    stand.look()
