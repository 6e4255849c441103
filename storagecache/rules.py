"""What cannot be served although each variable by itself is right. Pure: a rule gives its refusal, or None."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from storagecache import casts
from storagecache.sources import PYTEST_SOURCE

if TYPE_CHECKING:
    from storagecache.environment import Environment


def refusals(environment: Environment) -> Iterator[str]:
    """Give what keeps this environment from being served, the first of which is told."""
    return filter(None, (rule(environment) for rule in _RULES))


def _production_needs(environment: Environment) -> str | None:
    if environment.env != "production":
        return None
    missing = [name for name, value in _needed_in_production(environment).items() if not value]
    if not missing:
        return None
    return (
        f"ENV=production needs {' and '.join(missing)}. Set SECRET_KEY to 50 or more random characters "
        "and ALLOWED_HOSTS to the host names of this service, such as files.example.org."
    )


def _needed_in_production(environment: Environment) -> dict[str, object]:
    return {"SECRET_KEY": environment.secret_key, "ALLOWED_HOSTS": environment.allowed_hosts}


def _grace_outlives_urls(environment: Environment) -> str | None:
    needed = environment.least_grace
    if environment.grace_time >= needed:
        return None
    source = environment.source_of("GRACE_TIME")
    return (
        f"GRACE_TIME (from {source}) is {environment.grace_time} s, but must be at least {needed} s: "
        "the life of a signed URL and its window, so that no link loses its bytes."
    )


def _memory_forgets(environment: Environment) -> str | None:
    under_pytest = environment.source_of("ENV") == PYTEST_SOURCE
    if under_pytest or environment.storage_kind != "memory":
        return None
    kept = {"DATABASE_URL": environment.database_url, "DB_PATH": environment.db_path}
    named = [name for name, value in kept.items() if value]
    if not named:
        return None
    return (
        f"ASSET_STORAGE=memory forgets its bytes at each start, so its catalog must be thrown away too: "
        f"unset {' and '.join(named)} (from {environment.source_of(named[0])}), "
        "or choose ASSET_STORAGE=filesystem or s3."
    )


def _loopback_only(environment: Environment) -> str | None:
    if environment.auth != "local" or casts.is_loopback(environment.host):
        return None
    source = environment.source_of("HOST")
    return (
        f"HOST (from {source}) is {environment.host!r}, but AUTH_PROVIDER=local lets every caller in as the local "
        "user, so it only serves 127.0.0.1. Set AUTH_PROVIDER=token to serve other machines."
    )


def _hosts_are_named(environment: Environment) -> str | None:
    """A page whose name is made to point at 127.0.0.1 (DNS rebinding) would be the local user."""
    if environment.auth != "local" or "*" not in environment.allowed_hosts:
        return None
    source = environment.source_of("ALLOWED_HOSTS")
    return (
        f"ALLOWED_HOSTS (from {source}) has '*', but AUTH_PROVIDER=local trusts every page that this machine's browser "
        "shows under an allowed name. Name the hosts, or set AUTH_PROVIDER=token."
    )


def _buckets_are_names(environment: Environment) -> str | None:
    buckets = {"ASSET_BUCKET": environment.asset_bucket, "ASSET_TEMP_BUCKET": environment.asset_temp_bucket}
    for name, bucket in buckets.items():
        if environment.storage_kind == "s3" and bucket and bucket.startswith("/"):
            source = environment.source_of(name)
            return f"{name} (from {source}) is the path {bucket!r}, but S3 needs the name of a bucket."
    return None


def _folders_differ(environment: Environment) -> str | None:
    if environment.storage_kind != "filesystem":
        return None
    folders = {environment.asset_folder, environment.temp_folder, environment.cache_folder}
    if len(folders) == 3:
        return None
    return (
        f"Assets ({environment.asset_folder}), temp objects ({environment.temp_folder}) and the node cache "
        f"({environment.cache_folder}) need three folders. Set ASSET_FOLDER or TEMP_FOLDER, "
        "ASSET_BUCKET or ASSET_TEMP_BUCKET to another one."
    )


_RULES: Final = (
    _production_needs,
    _grace_outlives_urls,
    _memory_forgets,
    _loopback_only,
    _hosts_are_named,
    _buckets_are_names,
    _folders_differ,
)
