"""The last word on every answer: what its headers say of a body that is not sent. Content is not decided here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from django.http import HttpRequest, HttpResponse, HttpResponseBase

_BODYLESS: Final = frozenset({204, 304})
_OF_A_BODY: Final = ("Content-Length", "Content-Type")


class FramingMiddleware:
    """Stands outermost, because Django's own middleware gives every answer a length and a type.

    204 and 304 carry neither: a length would have to be that of the 200 (RFC 9110 8.6). The answer to HEAD has the
    length of its GET, and sends nothing on any server. All others have a length, so that none goes out in chunks.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Pass the request on and frame its answer."""
        response = self._get_response(request)
        if response.status_code in _BODYLESS:
            for name in _OF_A_BODY:
                del response[name]
        elif isinstance(response, HttpResponse):  # not streaming
            response.setdefault("Content-Length", str(len(response.content)))
            if request.method == "HEAD":
                response.content = b""
        return response
