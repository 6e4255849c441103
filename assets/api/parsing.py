"""How ninja reads the bodies of requests: strict JSON, and a text of its own for each refusal."""

from __future__ import annotations

from typing import Any, cast

from django.http import HttpRequest, HttpResponse
from ninja.errors import HttpError
from ninja.parser import Parser

from assets.api.errors import refusal
from assets.services.metadata import parse_json


class StrictParser(Parser):
    """Reads JSON by `assets.services.metadata.parse_json`, so that a body means the same to everybody."""

    def parse_body(self, request: HttpRequest) -> dict[str, Any]:
        """Read a body.

        Raises:
            InvalidJsonError
        """
        return cast("dict[str, Any]", parse_json(request.body))


def reason_of(error: HttpError) -> HttpResponse | None:
    """Give the answer to what made ninja refuse a request, when that is more than "cannot parse"."""
    return refusal(error.__cause__) if error.__cause__ is not None else None
