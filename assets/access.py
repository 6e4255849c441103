"""Who is asking, and may they: tokens, sessions, local callers, and the guards against other sites."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import CsrfViewMiddleware

from assets.api.errors import AccessDeniedError, AuthenticationRequiredError, TooManyAttemptsError
from assets.services.tokens import find_token
from assets.throttle import LOGIN_ADDRESSES, LOGINS, TOKENS
from storagecache.environment import Environment

if TYPE_CHECKING:
    from django.contrib.auth.models import User

LOCAL_USER_ID: Final = 1  # NodeTool's local user "1": the first admin

_PROXY_MARKS: Final = ("HTTP_FORWARDED", "HTTP_VIA")
_OWN_SITES: Final = frozenset({"", "same-origin", "none"})  # of Sec-Fetch-Site; absent outside browsers


def reader_id(request: HttpRequest) -> int | None:
    """Tell the id of the user who is reading, or None; costs no query for local callers."""
    bearer = _bearer(request)
    if bearer is not None:
        return bearer.pk
    if _has_session(request):
        return request.user.pk
    return LOCAL_USER_ID if is_local(request) else None


def writer(request: HttpRequest) -> User:
    """Give the user who is writing.

    Raises:
        AuthenticationRequiredError: nobody is known.
        AccessDeniedError: the request comes from another site's page, or a session sends no CSRF token.
    """
    bearer = _bearer(request)
    if bearer is not None:
        return bearer  # a page cannot send this header without being told the token, so there is nothing to forge
    if _has_session(request):
        _refuse_forged(request)
        return request.user  # type: ignore[return-value]  # authenticated, so not anonymous
    if is_local(request):
        _refuse_cross_site(request)
        return _local_user()
    raise AuthenticationRequiredError("Log in, or send a token as 'Authorization: Bearer <token>'.")


def is_local(request: HttpRequest) -> bool:
    """Tell whether the caller sits at this machine and AUTH_PROVIDER=local lets them in as the local user.

    What came through a proxy only looks local.
    """
    if Environment.current().auth != "local" or not _is_loopback(request.META.get("REMOTE_ADDR", "")):
        return False
    return not any(name in _PROXY_MARKS or name.startswith("HTTP_X_FORWARDED") for name in request.META)


def _bearer(request: HttpRequest) -> User | None:
    """Give the user of the request's token; None when it sends none.

    Raises:
        AuthenticationRequiredError: the token is unknown, expired or revoked: always the same text.
        TooManyAttemptsError: this address guessed too often.
    """
    scheme, _, text = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    address = request.META.get("REMOTE_ADDR", "")
    if TOKENS.is_blocked(address):
        raise TooManyAttemptsError("Too many wrong tokens from this address. Wait a minute.")
    token = find_token(text.strip())
    if token is None:
        TOKENS.note_failure(address)
        raise AuthenticationRequiredError("The token is unknown, expired or revoked.")
    return token.user


def _has_session(request: HttpRequest) -> bool:
    return settings.SESSION_COOKIE_NAME in request.COOKIES and request.user.is_authenticated


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _refuse_cross_site(request: HttpRequest) -> None:
    """Refuse a write that a page of another site makes in the user's browser (Fetch standard, Sec-Fetch-Site)."""
    origin = request.headers.get("Origin", "")
    foreign = bool(origin) and urlsplit(origin).netloc != request.get_host()
    if foreign or request.headers.get("Sec-Fetch-Site", "") not in _OWN_SITES:
        raise AccessDeniedError("Another site may not write here.")


class _CsrfCheck(CsrfViewMiddleware):
    def _reject(self, request: HttpRequest, reason: str) -> HttpResponse:
        raise AccessDeniedError(f"The session sent no valid CSRF token: {reason}")


def _refuse_forged(request: HttpRequest) -> None:
    check = _CsrfCheck(lambda _: HttpResponse())
    check.process_request(request)
    check.process_view(request, lambda _: HttpResponse(), (), {})


def _local_user() -> User:
    users = get_user_model().objects
    user = users.filter(pk=LOCAL_USER_ID).first()
    if user is None:
        raise AuthenticationRequiredError("There is no local user yet: run `python manage.py prepare`.")
    return user


class LoginForm(AdminAuthenticationForm):
    """The admin's login, which pauses for who guesses."""

    def clean(self) -> dict[str, Any]:
        """Check name and password unless this caller failed too often.

        Raises:
            ValidationError: wrong, or too many attempts; a blocked caller learns nothing about the password.
        """
        address = self.request.META.get("REMOTE_ADDR", "") if self.request else ""
        name = str(self.cleaned_data.get("username", ""))
        if LOGINS.is_blocked(name, address) or LOGIN_ADDRESSES.is_blocked(address):
            raise ValidationError("Too many failed logins. Wait five minutes.", code="throttled")
        try:
            return super().clean()
        except ValidationError:
            LOGINS.note_failure(name, address)
            LOGIN_ADDRESSES.note_failure(address)
            raise
