"""Who is asking, and may they: tokens, sessions, local callers, and the guards against other sites."""

from __future__ import annotations

import hmac
import ipaddress
from typing import TYPE_CHECKING, Any, Final, NoReturn
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import CsrfViewMiddleware

from assets.api.errors import AccessDeniedError, AuthenticationRequiredError, TooManyAttemptsError
from assets.prepared import Selection
from assets.services.tokens import find_token
from assets.throttle import LOGIN_ADDRESSES, LOGINS, TOKENS, network
from storagecache.environment import Environment

if TYPE_CHECKING:
    from django.contrib.auth.models import User

LOCAL_USER_ID: Final = 1  # NodeTool's local user "1": the first admin

_PROXY_MARKS: Final = frozenset(
    f"HTTP_{name}"  # the last five: what tunnels and content networks tell their origin
    for name in (
        "FORWARDED", "VIA", "X_REAL_IP", "CF_CONNECTING_IP", "TRUE_CLIENT_IP", "X_CLIENT_IP", "X_CLUSTER_CLIENT_IP",
        "FASTLY_CLIENT_IP",
    )
)  # fmt: skip
_OWN_SITES: Final = frozenset({"same-origin", "none"})  # of Sec-Fetch-Site
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


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
    return Environment.current().auth == "local" and _sits_here(request)


def require_overseer(request: HttpRequest) -> None:
    """Let pass who may read the numbers of the service: who sits at this machine, knows METRICS_TOKEN, or is staff.

    Raises:
        AuthenticationRequiredError: nobody is known.
        AccessDeniedError: the user is not staff.
    """
    if _sits_here(request) or _has_metrics_token(request):
        return
    user = _bearer(request) or (request.user if _has_session(request) else None)
    if user is None:
        raise AuthenticationRequiredError(
            "Send METRICS_TOKEN or a staff user's token: 'Authorization: Bearer <token>'."
        )
    if not (user.is_active and user.is_staff):
        raise AccessDeniedError("Only staff may read the metrics.")


def _has_metrics_token(request: HttpRequest) -> bool:
    token = Environment.current().metrics_token
    sent = request.META.get("HTTP_AUTHORIZATION", "").removeprefix("Bearer ").strip()
    return token is not None and hmac.compare_digest(sent.encode(), token.encode())


def _sits_here(request: HttpRequest) -> bool:
    if not _is_loopback(request.META.get("REMOTE_ADDR", "")):
        return False
    return not any(name in _PROXY_MARKS or name.startswith("HTTP_X_FORWARDED") for name in request.META)


def caller_address(request: HttpRequest) -> str:
    """Give the address that failures are counted under; an IPv6 caller stands for its /64. Never decides who may what.

    Behind a proxy on this machine or in TRUSTED_PROXIES, the last hop that the proxy noted counts.
    """
    address = request.META.get("REMOTE_ADDR", "")
    if _is_loopback(address) or _is_trusted(address):
        address = request.META.get("HTTP_X_FORWARDED_FOR", "").rpartition(",")[2].strip() or address
    return network(address)


def _bearer(request: HttpRequest) -> User | None:
    """Give the user of the request's token; None when it sends none.

    Raises:
        AuthenticationRequiredError: the token is unknown, expired or revoked: always the same text.
        TooManyAttemptsError: this address guessed too often.
    """
    scheme, _, text = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    token = find_token(text.strip())
    if token is None:
        _refuse_guess(caller_address(request))
    return token.user


def _refuse_guess(address: str) -> NoReturn:
    """Refuse a wrong token. A right one is never held up, else one guesser behind a proxy would lock out everybody."""
    if TOKENS.is_blocked(address):
        raise TooManyAttemptsError("Too many wrong tokens from this address. Wait a minute.")
    TOKENS.note_failure(address)
    raise AuthenticationRequiredError("The token is unknown, expired or revoked.")


def _has_session(request: HttpRequest) -> bool:
    return settings.SESSION_COOKIE_NAME in request.COOKIES and request.user.is_authenticated


def _is_loopback(address: str) -> bool:
    """Tell loopback, also as an IPv6 socket writes it (::ffff:127.0.0.1), which Python before 3.13 does not know."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_loopback


def _is_trusted(address: str) -> bool:
    """Tell whether a proxy of ours asks; only then its word about the caller counts."""
    trusted = Environment.current().trusted_proxies
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    plain = (parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None) or parsed
    return any(plain in network for network in trusted)


def _refuse_cross_site(request: HttpRequest) -> None:
    """Refuse a write that a page of another site makes in the user's browser (Fetch standard, Sec-Fetch-Site).

    Absent headers mean no browser. A header that is there and empty is one that the server could not decode: foreign.
    Another port of this machine is another site, for whoever runs there is not the user.
    """
    origin, site = request.META.get("HTTP_ORIGIN"), request.META.get("HTTP_SEC_FETCH_SITE")
    if origin is not None and origin in Environment.current().cors_allowed_origins:
        return
    foreign = origin is not None and _site_of(origin) != _site_of(f"{request.scheme}://{request.get_host()}")
    if foreign or (site is not None and site not in _OWN_SITES):
        raise AccessDeniedError("Another site may not write here.")


def _site_of(origin: str) -> tuple[str, str | None, int | None] | None:
    """Give scheme, host and port of an origin, default ports filled in; None for "null" and what is none."""
    try:
        parts = urlsplit(origin)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None
    return (parts.scheme, parts.hostname, port) if parts.hostname else None


class _CsrfCheck(CsrfViewMiddleware):
    def _reject(self, request: HttpRequest, reason: str) -> HttpResponse:
        raise AccessDeniedError(f"The session sent no valid CSRF token: {reason}")


def _refuse_forged(request: HttpRequest) -> None:
    check = _CsrfCheck(lambda _: HttpResponse())
    check.process_request(request)
    check.process_view(request, lambda _: HttpResponse(), (), {})


_LOCAL_USER: Final = Selection(lambda: get_user_model().objects.filter(pk=LOCAL_USER_ID))


def _local_user() -> User:
    user = _LOCAL_USER.first()
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
        address = caller_address(self.request) if self.request else ""
        name = str(self.cleaned_data.get("username", ""))
        if LOGINS.is_blocked(name, address) or LOGIN_ADDRESSES.is_blocked(address):
            raise ValidationError("Too many failed logins. Wait five minutes.", code="throttled")
        try:
            return super().clean()
        except ValidationError:
            LOGINS.note_failure(name, address)
            LOGIN_ADDRESSES.note_failure(address)
            raise
