"""The short way below Django: GET and HEAD of what is public or named by a valid link, from a disk or by redirect.

It answers as the Django view does, from the same plan, or not at all: everything else (other methods, sessions, tokens,
404, every error) falls through to Django, so that the rules of access exist once and a fault makes answers slower, not
different. The catalog is asked for each request; what is kept is only what follows from a row.
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
from assets.serving.delegation import delegate, served_object
from assets.serving.delivery import Blocks
from assets.serving.heads import refused_status
from assets.serving.plan import Body, Conditions, Part, Plan, ServedObject, plan_get
from assets.signing import Grant, verify
from storagecache.capabilities import LocalFiles
from storagecache.environment import Environment
from storagecache.errors import StorageError

Header = tuple[str, str]

WHOLE: Final = 256 << 10  # bytes; up to here a body is handed over in one piece, and holds no thread
KNOWN: Final = 4096  # rows of which it is kept what follows from them
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


@dataclass(frozen=True, slots=True)
class _Known:
    """What follows from a row of the catalog; `ends_at` in seconds since 1970, `path` where the bytes lie here."""

    located: Located
    served: ServedObject
    ends_at: float
    path: str | None


class _Request(NamedTuple):
    """What a request names, and by which right beside that of being public."""

    bucket: str
    key: str
    grant: Grant | None
    download: bool
    now: float


class HotLayer:
    """Answers what it can; made once in a process, once Django is set up. Thread-safe."""

    def __init__(self, lookups: Lookups) -> None:
        self._lookups = lookups
        self._keys = current_keys()
        self._vary = "origin" if Environment.current().cors_allowed_origins else ""
        self._is_delegated = Environment.current().accel_redirect is not None
        self._everywhere = _headers_of_middleware()
        self._know = functools.lru_cache(maxsize=KNOWN)(_known)
        self._is_host = functools.lru_cache(maxsize=256)(_is_host)

    def answer(self, environ: Mapping[str, Any]) -> Answer | None:
        """Give the answer to a request; None: let Django answer. Costs one SELECT where it may be one of ours."""
        try:
            request = self._read(environ)
            return None if request is None else self._serve(environ, request)
        except (StorageError, OSError):
            return None

    def _read(self, environ: Mapping[str, Any]) -> _Request | None:
        """Understand a request that this layer is for. Nothing is looked up yet."""
        if environ["REQUEST_METHOD"] not in _READS or not environ.get("PATH_INFO", "").startswith(_PLACES):
            return None
        if not self._is_plain(environ):
            return None
        address, query, now = (
            split_path(environ["PATH_INFO"].encode("latin-1")),
            environ.get("QUERY_STRING", ""),
            time.time(),
        )
        if address is None:
            return None
        download = _UNSIGNED.get(query)
        if download is not None:
            return _Request(*address, None, download, now)
        grant = verify(query, keys=self._keys, bucket=address[0], key=address[1], now=now)
        return _Request(*address, grant, grant.download, now) if grant else None

    def _is_plain(self, environ: Mapping[str, Any]) -> bool:
        """Tell whether nothing about the head is for Django's middleware to refuse or to add to."""
        if environ.get("CONTENT_LENGTH") or "HTTP_TRANSFER_ENCODING" in environ:
            return False
        if self._vary and "HTTP_ORIGIN" in environ:
            return False
        if "HTTP_COOKIE" in environ and _has_broken_cookie(environ["HTTP_COOKIE"]):
            return False
        return refused_status(environ) is None and self._is_host(environ.get("HTTP_HOST", ""))

    def _serve(self, environ: Mapping[str, Any], request: _Request) -> Answer | None:
        row = self._lookups.row(request.bucket, request.key)
        known = self._know(row) if row else None
        if known is None or known.ends_at <= request.now or not _may_read(known.located, request.grant):
            return None
        plan = plan_get(
            environ["REQUEST_METHOD"],
            Conditions.from_environ(environ),
            known.served,
            now=int(request.now),
            cache_control=_policy(request),
            vary=self._vary,
            download=request.download,
        )
        if known.path is None or self._is_delegated:
            return self._elsewhere(environ, request, known, plan)
        return self._here(plan, known.path)

    def _elsewhere(self, environ: Mapping[str, Any], request: _Request, known: _Known, plan: Plan) -> Answer | None:
        until = request.grant.expires_at if request.grant else None
        answer = delegate(environ, known.located, plan, until=until, download=request.download)
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


def _policy(request: _Request) -> str:
    return PUBLIC_POLICY if request.grant is None else cache_control(request.grant.expires_at - request.now)


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
