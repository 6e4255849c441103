"""Memcached: each node answers, takes and gives back a value, holds large enough items, and evicts when it is full."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any, Final

from pymemcache.client.base import Client
from pymemcache.exceptions import MemcacheError

from storagecache.doctor.registry import Outcome, failed, ok, part, warning
from storagecache.environment import Environment
from storagecache.node_cache.memcached import MAX_ITEM_BYTES

_SECONDS: Final = 2.0  # to connect, and for each answer
_PROBE_BYTES: Final = 64 << 10
_CROWDED: Final = 0.1  # evictions for each value that was stored


@part("memcached", seconds=15)
def try_memcached(environment: Environment) -> Iterator[Outcome]:
    """Ask each node."""
    if not environment.memcache_servers:
        yield ok("Memcached is used", "no: MEMCACHE_HOST is not set, so each process has its own node cache")
    for server in environment.memcache_servers:
        client = Client(server, connect_timeout=_SECONDS, timeout=_SECONDS, no_delay=True)
        name = f"{server[0]}:{server[1]}"
        try:
            yield from _try_node(client, name)
        except (MemcacheError, OSError) as error:
            detail = f"{type(error).__name__}: {error}".rstrip(": ")
            remedy = f"Start it, or correct MEMCACHE_HOST (from {environment.source_of('MEMCACHE_HOST')})."
            yield failed(f"Memcached {name} answers", f"{detail}. Until then its share of the cache misses.", remedy)
        finally:
            client.close()


def _try_node(client: Any, name: str) -> Iterator[Outcome]:
    version = client.version()
    yield ok(f"Memcached {name} answers", f"version {_text(version)}")
    yield _try_value(client, name)
    settings = {_text(key): _text(value) for key, value in client.stats("settings").items()}
    yield _judge_item_size(name, int(settings.get("item_size_max", "0")))
    yield _judge_eviction(name, settings.get("evictions", "on"))
    yield _judge_room(name, {_text(key): value for key, value in client.stats().items()})


def _try_value(client: Any, name: str) -> Outcome:
    tried = f"Memcached {name} gives back what it takes"
    key, value = f"doctor-{secrets.token_hex(8)}", secrets.token_bytes(_PROBE_BYTES)
    took = client.set(key, value, expire=60, noreply=False)
    same = client.get(key) == value
    client.delete(key, noreply=False)
    if took and same:
        return ok(tried)
    return failed(tried, f"A value of {_PROBE_BYTES >> 10} KiB did not come back.", "Give it more memory (-m).")


def _judge_item_size(name: str, largest: int) -> Outcome:
    tried = f"Memcached {name} takes items of {MAX_ITEM_BYTES >> 20} MiB"
    if largest >= MAX_ITEM_BYTES:
        return ok(tried)
    detail = f"It takes at most {largest:,} bytes; larger results go to the slower cache area."
    return warning(tried, detail, "Start it with -I 1m.")


def _judge_eviction(name: str, evictions: str) -> Outcome:
    tried = f"Memcached {name} evicts what is old when it is full"
    if evictions in {"on", "1", "True"}:
        return ok(tried)
    return warning(tried, "It refuses new values instead (-M).", "Start it without -M.")


def _judge_room(name: str, stats: dict[str, Any]) -> Outcome:
    tried = f"Memcached {name} has room"
    evicted, stored = int(stats.get("evictions", 0)), int(stats.get("cmd_set", 0))
    limit = int(stats.get("limit_maxbytes", 0)) >> 20
    if stored and evicted / stored > _CROWDED:
        detail = f"It evicted {evicted:,} of {stored:,} values to stay within {limit:,} MiB."
        return warning(tried, detail, f"Give it more memory than -m {limit}.")
    return ok(tried, f"{limit:,} MiB, {evicted:,} of {stored:,} values evicted")


def _text(value: object) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
