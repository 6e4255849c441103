"""The addresses that clients are given: they resolve, and what answers there is this service or the bucket."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

from storagecache.doctor import web
from storagecache.doctor.registry import MISSING_URLS, Outcome, failed, ok, part, warning
from storagecache.environment import Environment


@part("addresses", seconds=15)
def try_addresses(environment: Environment) -> Iterator[Outcome]:
    """Try the base of absolute URLs and, with S3, the public domains (the part `s3` fetches an object through them)."""
    yield from _try_service(environment)
    if environment.storage_kind == "s3":
        domains = {"ASSET_DOMAIN": environment.asset_domain, "ASSET_TEMP_DOMAIN": environment.asset_temp_domain}
        yield from (_try_name(environment, name, url) for name, url in domains.items() if url)


def _try_service(environment: Environment) -> Iterator[Outcome]:
    resolved = _try_name(environment, "NODETOOL_API_URL", environment.base_url)
    yield resolved
    if not resolved.remedy:
        yield _try_health(environment)


def _try_name(environment: Environment, name: str, url: str) -> Outcome:
    parts = urlsplit(url)
    source = environment.source_of(name)
    tried = f"{name} is an absolute URL whose host is known: {url} (from {source})"
    try:
        socket.getaddrinfo(parts.hostname, parts.port or 443, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        detail = f"The host {parts.hostname} is not known here: {reason}. Links to assets lead nowhere."
        return failed(tried, detail, f"Correct {name}, or the name service.", trouble=MISSING_URLS)
    return ok(tried)


def _try_health(environment: Environment) -> Outcome:
    """Ask this service by its own address."""
    url, tried = environment.base_url, f"this service answers at {environment.base_url}"
    reply = web.get(f"{url}/healthz")
    remedy = "Set NODETOOL_API_URL to the address by which clients reach this service."
    if reply.status == 0:
        detail = f"Nobody answers: {reply.problem}."
        return warning(tried, detail, f"Start the service. If it runs: {remedy}", trouble=MISSING_URLS)
    if reply.status == 400:
        detail = f"It refuses the host name {urlsplit(url).hostname}."
        return failed(tried, detail, "Add the name to ALLOWED_HOSTS.", trouble=MISSING_URLS)
    if not _is_ours(reply):
        detail = f"Something else answers there (status {reply.status}): links to assets lead to it."
        return failed(tried, detail, remedy, trouble=MISSING_URLS)
    return ok(tried)


def _is_ours(reply: web.Reply) -> bool:
    try:
        return reply.status == 200 and json.loads(reply.body) == {"status": "ok"}
    except ValueError:
        return False
