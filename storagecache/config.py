"""Environment -> Django's STORAGES, CACHES and DATABASES. Pure: no I/O, no clock, no process state."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from environ import Env

from storagecache.environment import Environment

S3_CACHE_PREFIX: Final = "cache/"  # big values of the node cache, inside the asset bucket
S3_TEMP_PREFIX: Final = "temp/"  # temp objects, when there is no bucket of their own
SQLITE_CONNECTIONS: Final = 4  # per process; readers wait for a free one rather than opening more
POSTGRES_CONNECTIONS: Final = 4  # per process
POSTGRES_WAIT: Final = 6.0  # seconds that a request waits for a free connection, or for a server that is gone
# Seconds after which a try to connect that keeps failing ends. The next request then begins a new one at once, while
# psycopg's pool itself waits twice as long before each try, minutes after a long outage.
_POSTGRES_RECONNECT: Final = 2.0

Settings = dict[str, Any]  # a settings dict of Django


def storages(environment: Environment) -> Settings:
    """Make STORAGES: the aliases `assets`, `temp` and `cache`, and Django's own."""
    return {
        "default": _storage(environment, "assets"),
        "assets": _storage(environment, "assets"),
        "temp": _storage(environment, "temp"),
        "cache": _storage(environment, "cache"),
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }


def _storage(environment: Environment, alias: str) -> Settings:
    kind = {"memory": memory_storage, "filesystem": filesystem_storage, "s3": s3_storage}
    return kind[environment.storage_kind](environment, alias)


def memory_storage(environment: Environment, alias: str) -> Settings:
    """Make the entry of a storage in process memory."""
    return {
        "BACKEND": "storagecache.storages.memory.MemoryObjectStorage",
        "OPTIONS": {"bucket": _folder_name(environment, alias)},
    }


def filesystem_storage(environment: Environment, alias: str) -> Settings:
    """Make the entry of a folder on disk, staged on its own filesystem."""
    folders = {"assets": environment.asset_folder, "temp": environment.temp_folder, "cache": environment.cache_folder}
    staging = environment.staging_folder if alias == "assets" else folders[alias] / ".staging"
    return {
        "BACKEND": "storagecache.storages.filesystem.FilesystemObjectStorage",
        "OPTIONS": {
            "location": str(folders[alias]),
            "bucket": _folder_name(environment, alias),
            "staging_folder": str(staging),
        },
    }


def s3_storage(environment: Environment, alias: str) -> Settings:
    """Make the entry of an S3 bucket; temp and cache share the asset bucket unless temp has its own."""
    own_temp = alias == "temp" and environment.asset_temp_bucket not in {None, environment.asset_bucket}
    domain = environment.asset_temp_domain if own_temp else environment.asset_domain
    prefixes = {"assets": "", "temp": "" if own_temp else S3_TEMP_PREFIX, "cache": S3_CACHE_PREFIX}
    return {
        "BACKEND": "storagecache.storages.s3.S3ObjectStorage",
        "OPTIONS": {
            "bucket": environment.asset_temp_bucket if own_temp else environment.asset_bucket,
            "object_prefix": prefixes[alias],
            "endpoint_url": environment.s3_endpoint_url,
            "access_key": environment.s3_access_key_id,
            "secret_key": environment.s3_secret_access_key,
            "region_name": environment.s3_region,
            "public_endpoint_url": domain,
        },
    }


def _folder_name(environment: Environment, alias: str) -> str:
    names = {"assets": environment.asset_bucket, "temp": environment.asset_temp_bucket or "temp", "cache": "cache"}
    return Path(names[alias]).name or alias


def caches(environment: Environment) -> Settings:
    """Make CACHES: `default` for Django itself; `nodes` for what workflow nodes computed."""
    return {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}, "nodes": _nodes(environment)}


def _nodes(environment: Environment) -> Settings:
    """Make the entry of the node cache: Memcached where there is one, else memory of this process."""
    if environment.memcache_servers:
        servers = [
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in environment.memcache_servers
        ]
        return {"BACKEND": "storagecache.node_cache.backends.NodeMemcachedCache", "LOCATION": servers}
    return {
        "BACKEND": "storagecache.node_cache.backends.NodeMemoryCache",
        "LOCATION": "nodes",
        "OPTIONS": {"max_bytes": environment.node_cache_bytes},
    }


def databases(environment: Environment) -> Settings:
    """Make DATABASES: PostgreSQL with a small pool, or SQLite in WAL with one."""
    if environment.database_url and environment.database_url.startswith("postgres"):
        return {"default": _postgres(environment.database_url)}
    return {"default": sqlite_database(environment.catalog_path)}


def sqlite_database(path: Path) -> Settings:
    """Make the entry of a SQLite file."""
    return {
        "ENGINE": "storagecache.sqlite",
        "NAME": str(path),
        "OPTIONS": {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": (
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-4000; PRAGMA temp_store=MEMORY;"
            ),
            "pool_size": SQLITE_CONNECTIONS,
        },
        "TEST": {"NAME": f"{path}.test"},
    }


def _postgres(url: str) -> Settings:
    settings: Settings = dict(Env.db_url_config(url))
    options = dict(settings.get("OPTIONS", {}))
    waits = {"timeout": POSTGRES_WAIT, "reconnect_timeout": _POSTGRES_RECONNECT}
    options.setdefault("pool", {"min_size": 0, "max_size": POSTGRES_CONNECTIONS, **waits})
    options.setdefault("connect_timeout", 5)
    # A round trip whenever a connection is lent: one that a restart of the server killed is replaced, not lent.
    engine = "django.db.backends.postgresql"
    return {**settings, "ENGINE": engine, "OPTIONS": options, "CONN_MAX_AGE": 0, "CONN_HEALTH_CHECKS": True}
