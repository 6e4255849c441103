"""How a request comes from granian to the application: what is quick at once, all else on a thread of its own.

Downloads that wait for their reader go to threads of ours. A request with a body stays on granian's: once its callback
returns, granian gives no more of the body. Apart from those, granian's threads only run `quick`, and stay few: they
take turns, so that with hundreds of them each is asleep and cold when its turn comes.

Replaces `granian.wsgi._callback_wrapper`, whose job and interface (`proto`, the WSGI environ as a dict) are granian's
own: read `install`, and `tests/server`, before an upgrade.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from granian.server import mp
from granian.wsgi import ResponseIterWrap

from nodetool_site.threads import ThreadStack

logger = logging.getLogger(__name__)

Header = tuple[str, str]
Environ = dict[str, Any]
Application = Callable[[Environ, Callable[..., None]], Iterable[bytes]]


class Answer(Protocol):
    """A whole answer: its status line, headers, and body; a body that is a list waits for nobody."""

    @property
    def status(self) -> str:
        """Code and phrase."""
        ...

    @property
    def headers(self) -> list[Header]:
        """Names and values."""
        ...

    @property
    def body(self) -> Iterable[bytes]:
        """The bytes."""
        ...


Quick = Callable[[Environ], Answer | None]


class Exchange(Protocol):
    """granian's side of one request; the first answer counts."""

    def response_bytes(self, status: int, headers: list[Header], body: bytes, /) -> None:
        """Answer in one piece."""
        ...

    def response_iter(self, status: int, headers: list[Header], body: object, /) -> None:
        """Answer block by block, and wait for the client."""
        ...


class Dispatcher:
    """Answers granian's requests with a WSGI application, before which `quick` is asked; called on its threads.

    `quick` gets what granian says of the request, before what is the same for all requests is added.
    """

    def __init__(self, application: Application, quick: Quick, transfers: ThreadStack) -> None:
        self._application = application
        self._quick = quick
        self._transfers = transfers

    def __call__(self, exchange: Exchange, environ: Environ) -> None:
        """Answer, or see to it that a thread does."""
        answer = self._quick(environ)
        if answer is None:
            environ.update(_BASE)
            environ["nodetool.asked"] = True  # so that the application does not ask again
            self._slowly(exchange, environ)
        elif isinstance(answer.body, list):
            _send(exchange, answer.status, answer.headers, answer.body)
        else:
            self._transfers.run(functools.partial(_send, exchange, *_parts(answer)))

    def _slowly(self, exchange: Exchange, environ: Environ) -> None:
        if environ.get("CONTENT_LENGTH", "0") == "0" and "HTTP_TRANSFER_ENCODING" not in environ:
            self._transfers.run(functools.partial(self._full, exchange, environ))
        else:
            self._full(exchange, environ)

    def _full(self, exchange: Exchange, environ: Environ) -> None:
        begun = _Begun()
        try:
            body = self._application(environ, begun)
        except Exception:  # the last resort: Django answers its own
            logger.exception("the application failed")
            exchange.response_bytes(500, [], b"")
            return
        _send(exchange, begun.status, begun.headers, body)


class _Begun:
    """WSGI's start_response: remembers what it is told."""

    def __init__(self) -> None:
        self.status = "500 Internal Server Error"
        self.headers: list[Header] = []

    def __call__(self, status: str, headers: list[Header], exc_info: object = None) -> None:
        self.status = status
        self.headers = headers


# PEP 3333, "environ Variables"; granian adds what the request says.
_BASE = {
    "SCRIPT_NAME": "",
    "GATEWAY_INTERFACE": "CGI/1.1",
    "SERVER_SOFTWARE": "Granian",
    "wsgi.errors": sys.stderr,
    "wsgi.input_terminated": True,
    "wsgi.multiprocess": True,
    "wsgi.multithread": True,
    "wsgi.run_once": False,
    "wsgi.version": (1, 0),
}


_NAME = "_wsgi_call_wrap"  # what granian's worker calls to make its callback of an application


def install(quick: Quick, transfers: int) -> None:
    """Let the granian server of this process dispatch this way; call it before the server makes its worker.

    `transfers` is how many threads of ours there may be.

    Raises:
        AttributeError: granian is another than the pinned one, and its requests come in another way.
    """
    stack = ThreadStack(transfers)
    if not hasattr(mp, _NAME):
        raise AttributeError(f"granian has no {_NAME} to replace: install the version that requirements.txt pins.")

    def wrap(application: Application, _options: object, _log_format: object = None) -> Dispatcher:
        return Dispatcher(application, quick, stack)

    setattr(mp, _NAME, wrap)


def _parts(answer: Answer) -> tuple[str, list[Header], Iterable[bytes]]:
    return answer.status, answer.headers, answer.body


def _send(exchange: Exchange, status: str, headers: list[Header], body: Iterable[bytes]) -> None:
    code = int(status[:3])
    if isinstance(body, list):
        exchange.response_bytes(code, headers, body[0] if len(body) == 1 else b"".join(body))
    else:
        exchange.response_iter(code, headers, ResponseIterWrap(body))  # type: ignore[no-untyped-call]
