"""One GET of a URL, bounded in time and size, with whatever came of it as a value."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

SECONDS: Final = 5.0
_MOST: Final = 64 << 10  # bytes of a body that are read


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, or the reason why there is none (then the status is 0)."""

    status: int
    body: bytes = field(default=b"", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)  # names in lower case
    problem: str = ""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: object, **_options: object) -> None:
        return None


def get(url: str, headers: Mapping[str, str] | None = None) -> Reply:
    """Ask once; redirects are not followed. Only for http(s), which the casts of the variables see to."""
    request = urllib.request.Request(url, headers=dict(headers or {}))  # noqa: S310
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=SECONDS) as answer:
            return _reply(answer.status, answer)
    except urllib.error.HTTPError as error:
        with error:
            return _reply(error.code, error)
    except urllib.error.URLError as error:
        return Reply(0, problem=_reason(error.reason))
    except (OSError, http.client.HTTPException) as error:
        return Reply(0, problem=_reason(error))


def _reply(status: int, answer: http.client.HTTPResponse | urllib.error.HTTPError) -> Reply:
    headers = {name.lower(): value for name, value in answer.headers.items()}
    return Reply(status, answer.read(_MOST), headers)


def _reason(error: object) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {SECONDS:g} s"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
