"""The short way below Django: GET and HEAD of what is public or named by a valid link, from a disk or by redirect.

It answers as the Django view does, from the same plan, or not at all: everything else (other methods, sessions, tokens,
404, every error) falls through to Django, so that the rules of access exist once and a fault makes answers slower, not
different. Nothing about the catalog is kept here; what is kept is what follows from a row, a link, and both of them.
"""

from __future__ import annotations

import functools
import os
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.http.cookie import parse_cookie
from django.http.request import split_domain_port, validate_host

from assets.links import PUBLIC_POLICY, cache_control, current_keys
from assets.services import Located, Lookups, located, storage_of
from assets.serving.address import split_path
from assets.serving.conditions import UNCONDITIONAL
from assets.serving.delegation import delegate, served_object
from assets.serving.delivery import Blocks
from assets.serving.heads import refused_status
from assets.serving.plan import Body, Conditions, Part, Plan, ServedObject, plan_get
from assets.signing import Grant, read_link
from storagecache.capabilities import LocalFiles
from storagecache.environment import Environment
from storagecache.errors import StorageError

Header = tuple[str, str]

WHOLE: Final = 256 << 10  # bytes; up to here a body is handed over in one piece, and holds no thread
KEPT: Final = 4096  # of each: rows, links and plans
SHORT: Final = 1024  # characters of path and query; of longer ones nothing is kept
_READS: Final = frozenset({"GET", "HEAD"})
_PLACES: Final = ("/storage/", "/api/storage/")
_UNSIGNED: Final = {"": False, "download=1": True}  # query -> download
_STATUS_LINES: Final = {200: "200 OK", 302: "302 Found"}
_CSRF_TOKEN: Final = re.compile(r"[A-Za-z0-9]{32}(?:[A-Za-z0-9]{32})?")
_FOR_EVER: Final = float("inf")
_EMPTY: Final = ("Content-Length", "0")


class Answer(NamedTuple):
    """A whole answer: status line, headers, and the body in blocks."""

    status: str
    headers: list[Header]
    body: Iterable[bytes]


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    """What follows from a row of the catalog; `ends_at` in seconds since 1970, `path` where the bytes lie here.

    One is made for each row, and equal to itself only.
    """

    located: Located
    served: ServedObject
    ends_at: float
    path: str | None


class _Target(NamedTuple):
    """What path and query name, and by which right beside that of being public."""

    bucket: str
    key: str
    grant: Grant | None
    download: bool


class HotLayer:
    """Answers what it can; made once in a process, once Django is set up. Thread-safe."""

    def __init__(self, lookups: Lookups) -> None:
        self._lookups = lookups
        self._keys = current_keys()
        self._vary = "origin" if Environment.current().cors_allowed_origins else ""
        self._is_delegated = Environment.current().accel_redirect is not None
        self._everywhere = _headers_of_middleware()
        self._know = functools.lru_cache(maxsize=KEPT)(_known)
        self._target_kept = functools.lru_cache(maxsize=KEPT)(self._target)
        self._plan_kept = functools.lru_cache(maxsize=KEPT)(self._plan)
        self._is_host = functools.lru_cache(maxsize=256)(_is_host)

    def answer(self, environ: Mapping[str, Any]) -> Answer | None:
        """Give the answer to a request; None: let Django answer. Costs at most one SELECT."""
        try:
            target = self._read(environ)
            return None if target is None else self._serve(environ, target, time.time())
        except (StorageError, OSError):
            return None

    def _read(self, environ: Mapping[str, Any]) -> _Target | None:
        """Understand a request that this layer is for. Nothing is looked up yet."""
        path, query = environ.get("PATH_INFO", ""), environ.get("QUERY_STRING", "")
        if environ["REQUEST_METHOD"] not in _READS or not path.startswith(_PLACES) or not self._is_plain(environ):
            return None
        return (self._target_kept if len(path) + len(query) <= SHORT else self._target)(path, query)

    def _target(self, path: str, query: str) -> _Target | None:
        """Read an address and a link, whose time may be over.

        Raises:
            InvalidKeyError: what the grammar of keys refuses.
        """
        address = split_path(path.encode("latin-1"))
        if address is None:
            return None
        download = _UNSIGNED.get(query)
        if download is not None:
            return _Target(*address, None, download)
        grant = read_link(query, keys=self._keys, bucket=address[0], key=address[1])
        return _Target(*address, grant, grant.download) if grant else None

    def _is_plain(self, environ: Mapping[str, Any]) -> bool:
        """Tell whether nothing about the head is for Django's middleware to refuse or to add to."""
        if environ.get("CONTENT_LENGTH") or "HTTP_TRANSFER_ENCODING" in environ:
            return False
        if self._vary and "HTTP_ORIGIN" in environ:
            return False
        if "HTTP_COOKIE" in environ and _has_broken_cookie(environ["HTTP_COOKIE"]):
            return False
        return refused_status(environ) is None and self._is_host(environ.get("HTTP_HOST", ""))

    def _serve(self, environ: Mapping[str, Any], target: _Target, now: float) -> Answer | None:
        grant = target.grant
        if grant is not None and not grant.holds(now):
            return None
        row = self._lookups.row(target.bucket, target.key)
        known = self._know(row) if row else None
        if known is None or known.ends_at <= now or not _may_read(known.located, grant):
            return None
        policy = PUBLIC_POLICY if grant is None else cache_control(grant.expires_at - now)
        conditions = Conditions.from_environ(environ)
        plan_of = self._plan_kept if conditions is UNCONDITIONAL else self._plan
        plan = plan_of(environ["REQUEST_METHOD"], conditions, known, policy, target.download, int(now))
        if known.path is None or self._is_delegated:
            return self._elsewhere(environ, target, known, plan)
        return self._here(plan, known.path)

    def _plan(self, method: str, conditions: Conditions, known: _Known, policy: str, download: bool, now: int) -> Plan:
        return plan_get(
            method, conditions, known.served, now=now, cache_control=policy, vary=self._vary, download=download
        )

    def _elsewhere(self, environ: Mapping[str, Any], target: _Target, known: _Known, plan: Plan) -> Answer | None:
        until = target.grant.expires_at if target.grant else None
        answer = delegate(environ, known.located, plan, until=until, download=target.download)
        if answer is None:
            return self._here(plan, known.path)
        varied = [("Vary", self._vary)] if self._vary and answer.status == 302 else []
        return Answer(_STATUS_LINES[answer.status], [*answer.headers, *varied, _EMPTY, *self._everywhere], [])

    def _here(self, plan: Plan, path: str | None) -> Answer | None:
        if plan.body is Body.NONE:
            return Answer(plan.status_line, [*plan.headers, *self._everywhere], [])
        if plan.body is not Body.RUN or path is None:
            return None
        body = _body(path, plan.parts[0])
        return None if body is None else Answer(plan.status_line, [*plan.headers, *self._everywhere], body)


def _may_read(located: Located, grant: Grant | None) -> bool:
    """Tell whether the link is for the object that is there now, or without a link the asset is public."""
    return located.is_public if grant is None else grant.object_id == located.object_id


def _known(row: tuple[Any, ...]) -> _Known:
    """Read a row.

    Raises:
        BackendUnavailableError: the recorded bucket is not configured now.
    """
    found = located(row)
    storage = storage_of(found)
    return _Known(
        located=found,
        served=served_object(found),
        ends_at=found.expires_at.timestamp() if found.expires_at else _FOR_EVER,
        path=storage.local_path(found.key) if isinstance(storage, LocalFiles) else None,
    )


def _body(path: str, part: Part) -> Iterable[bytes] | None:
    """Open a run of bytes: whole in one piece, or in blocks that follow the reader; None: the file is too short.

    Raises:
        OSError: the file is gone or cannot be read.
    """
    if not part.length:
        return []
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    if part.length > WHOLE:
        stream = os.fdopen(descriptor, "rb", buffering=0)
        stream.seek(part.start)
        return Blocks(stream, part.length)
    try:
        data = os.pread(descriptor, part.length, part.start)
    finally:
        os.close(descriptor)
    return [data] if len(data) == part.length else None


def _is_host(host: str) -> bool:
    """Tell whether Django's own check of the Host lets it pass."""
    domain, _ = split_domain_port(host)
    return bool(domain) and validate_host(domain, settings.ALLOWED_HOSTS)


def _has_broken_cookie(header: str) -> bool:
    """Tell whether Django takes away or renews a cookie: it does where the session or CSRF token can be none of its."""
    cookies = parse_cookie(header)
    session, token = cookies.get(settings.SESSION_COOKIE_NAME), cookies.get(settings.CSRF_COOKIE_NAME)
    if session is not None and SessionBase(session).is_empty():
        return True
    return token is not None and _CSRF_TOKEN.fullmatch(token) is None


def _headers_of_middleware() -> tuple[Header, ...]:
    """Give what Django's middleware adds to every answer here; a test compares both ways header by header."""
    return (
        ("Referrer-Policy", settings.SECURE_REFERRER_POLICY),
        ("Cross-Origin-Opener-Policy", settings.SECURE_CROSS_ORIGIN_OPENER_POLICY),
        ("X-Frame-Options", settings.X_FRAME_OPTIONS),
    )
