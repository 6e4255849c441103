"""The content security policy of every page of the admin, Django's own among them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from django.contrib import admin
from django.http import HttpRequest
from django.http.response import HttpResponseBase

POLICY: Final = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'"


class PolicyMiddleware:
    """Lets the admin's pages run and load only what this site serves as files; bytes of assets bring a stricter policy.

    Django's admin needs neither inline script nor inline style, its calendar and its pop-ups included.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer, with the policy on what a view of the admin answered."""
        answer = self._get_response(request)
        match = request.resolver_match
        if match is not None and match.app_name == admin.site.name:
            answer.headers.setdefault("Content-Security-Policy", POLICY)
        return answer
