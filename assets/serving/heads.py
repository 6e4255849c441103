"""The bounds of a request's head: how long its target, how large and how many its headers. Bodies have others.

The web server has bounds too (nodetool_site/web.py), but they follow how the bytes happen to arrive. These do not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from django.http import HttpRequest, HttpResponseBase

from assets.api.errors import error_response

MAX_TARGET: Final = 24 << 10  # bytes of path and query; the longest that is of use holds the cursor of a list (16 KiB)
MAX_HEADERS: Final = 100  # what the web server takes
MAX_HEADER_BYTES: Final = 32 << 10  # of all names and values


def refused_status(environ: Mapping[str, str]) -> int | None:
    """Give the status that a head out of bounds is answered with, by the WSGI environ (`request.META` is one)."""
    path = environ.get("nodetool.path_info") or environ.get("PATH_INFO", "")
    if len(path) + len(environ.get("QUERY_STRING", "")) > MAX_TARGET:
        return 414
    number = size = 0
    for name, value in environ.items():  # of which not every value is text
        if name[:5] == "HTTP_":
            number += 1
            size += len(name) + len(value)
    return 431 if number > MAX_HEADERS or size > MAX_HEADER_BYTES else None


class HeadMiddleware:
    """Refuses what is out of bounds before anything looks at it, with 414 and 431 (RFC 9110 15.5.15, RFC 6585 5)."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Pass the request on if its head is within bounds."""
        status = refused_status(request.META)
        if status == 414:
            return error_response(414, f"The address is longer than {MAX_TARGET} bytes.")
        if status == 431:
            return error_response(
                431, f"The headers are too many or too large: {MAX_HEADERS} and {MAX_HEADER_BYTES} bytes are the most."
            )
        return self._get_response(request)
