"""What is noted of every request, around the quick way and Django alike: its id, its numbers, one line when it failed.

An id that a proxy in front sends (`X-Request-ID`) is kept, else one is made. It stands in every log line of the request
and in its answer when that is an error, or when the request brought it.
"""

from __future__ import annotations

import functools
import itertools
import logging
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, Protocol

from django.http import HttpRequest, HttpResponseBase

from assets.serving.hot import Answer
from nodetool_site.logs import REQUEST_ID
from storagecache.metrics import RECEIVED, REQUEST_SECONDS, TALLY

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

Quick = Callable[["WSGIEnvironment"], Answer | None]
Application = Callable[["WSGIEnvironment", "StartResponse"], Iterable[bytes]]

HEADER: Final = "X-Request-ID"
_ROUTE: Final = "nodetool.route"
_UNKNOWN: Final = "none"  # the route of an address that is none of ours
_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_METHODS: Final = frozenset({"GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH"})
_begin: Final = secrets.token_hex(8)  # of the ids that this process makes
_numbers: Final = itertools.count()
logger = logging.getLogger(__name__)


def observed_quick(layer: Quick) -> Quick:
    """Count what the layer below Django answers; it has no log line and no time of its own."""

    def quick(environ: WSGIEnvironment) -> Answer | None:
        answer = layer(environ)
        if answer is None:
            return None
        body, brought = answer.body, environ.get("HTTP_X_REQUEST_ID")
        route = "storage" if environ["PATH_INFO"].startswith("/storage/") else "nodetool-storage"
        whole = isinstance(body, list)
        TALLY.answered(environ["REQUEST_METHOD"], route, answer.status[:3], sum(map(len, body)) if whole else 0)
        if brought and _ID.fullmatch(brought):
            answer.headers.append((HEADER, brought))
        return answer if whole else answer._replace(body=Counted(body, route))

    return quick


def observed(application: Application) -> Application:
    """Count, time and name what Django answers."""

    def observe(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        exchange = _Exchange(environ, start_response)
        body = application(environ, exchange.start)
        route = environ.get(_ROUTE, _UNKNOWN)
        exchange.note(route)
        return Counted(body, route)

    return observe


def request_id(environ: WSGIEnvironment) -> str:
    """Give the id that a request brings, if it is one, or a new one (unique in this run, and almost surely in all)."""
    brought = environ.get("HTTP_X_REQUEST_ID", "")
    return brought if _ID.fullmatch(brought) else f"{_begin}{next(_numbers):08x}"


class RouteMiddleware:
    """Tells the observer by which route an address was found; changes no answer."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Pass the request on and note its route."""
        response = self._get_response(request)
        match = request.resolver_match
        if match is not None:
            request.META[_ROUTE] = (match.url_name or _UNKNOWN) if match.route.startswith("^") else f"/{match.route}"
        return response


class _Exchange:
    """One request on its way through Django."""

    def __init__(self, environ: WSGIEnvironment, start_response: StartResponse) -> None:
        self._environ = environ
        self._start_response = start_response
        self._id = request_id(environ)
        self._input = environ["wsgi.input"] = CountedInput(environ["wsgi.input"])
        self._status = "500"
        self._started = time.perf_counter()
        REQUEST_ID.set(self._id)

    def start(self, status: str, headers: list[tuple[str, str]], *rest: Any) -> Callable[[bytes], object]:
        """WSGI's start_response: pass it on, with the id where the client has a use for it."""
        self._status = status[:3]
        if status >= "4" or self._environ.get("HTTP_X_REQUEST_ID") == self._id:
            headers = [*headers, (HEADER, self._id)]
        return self._start_response(status, headers, *rest)

    def note(self, route: str) -> None:
        """Count the answer. The address is logged without its query, which may be a signed one."""
        seconds, method = time.perf_counter() - self._started, self._environ["REQUEST_METHOD"]
        TALLY.answered(method if method in _METHODS else "other", route, self._status)
        REQUEST_SECONDS.labels(route).observe(seconds)
        if self._input.count:
            RECEIVED.labels(route).inc(self._input.count)
        level = logging.WARNING if self._status >= "500" else logging.DEBUG
        if logger.isEnabledFor(level):
            logger.log(
                level, "request answered method=%s path=%a status=%s ms=%.1f",
                method, self._environ.get("PATH_INFO", "")[:1000], self._status, seconds * 1000,
            )  # fmt: skip


class Counted:
    """A body whose bytes are counted as they are handed over; closing it closes what made them."""

    def __init__(self, body: Iterable[bytes], route: str) -> None:
        self._body = body
        self._blocks = iter(body)
        self._sent = functools.partial(TALLY.sent, route)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        """Give the next block."""
        block = next(self._blocks)
        self._sent(len(block))
        return block

    def close(self) -> None:
        """Close the body."""
        close = getattr(self._body, "close", None)
        if close is not None:
            close()


class Input(Protocol):
    """What a server hands over as `wsgi.input`, as far as it is asked."""

    def read(self, size: int, /) -> bytes:
        """Read at most `size` bytes."""
        ...

    def readline(self, size: int, /) -> bytes:
        """Read a line of at most `size` bytes."""
        ...


class CountedInput:
    """A request's body; `count` is how many of its bytes were read."""

    def __init__(self, stream: Input) -> None:
        self._stream = stream
        self.count = 0

    def read(self, size: int = -1, /) -> bytes:
        """Read as the server's own does."""
        block = self._stream.read(size)
        self.count += len(block)
        return block

    def readline(self, size: int = -1, /) -> bytes:
        """Read as the server's own does."""
        line = self._stream.readline(size)
        self.count += len(line)
        return line
