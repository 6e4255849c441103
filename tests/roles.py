"""Everybody who may ask the service: each role is a client that carries what that caller would send."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client
from django.utils import timezone

from assets.models import ApiToken, Asset
from assets.services import put_content
from assets.services.tokens import create_token, revoke_token
from storagecache.environment import Environment

ELSEWHERE = "192.0.2.7"  # an address that is not loopback (RFC 5737)
PASSWORD = "correct horse battery staple"
SECRET = b"the owner's bytes"


@dataclass(frozen=True, slots=True)
class Everybody:
    """The people of a test, and one private and one public asset of the owner's."""

    owner: User
    other: User
    staff: User
    asset: Asset
    public: Asset

    def client(self, role: str) -> Client:
        """Make the client of a role."""
        return _ROLES[role](self)


ChangeEnvironment = Callable[..., Environment]


@pytest.fixture
def change_environment(monkeypatch: pytest.MonkeyPatch) -> ChangeEnvironment:
    """Give a function that changes fields of the environment for this test."""

    def change(**fields: Any) -> Environment:
        changed = replace(Environment.current(), **fields)
        monkeypatch.setattr(Environment, "current", staticmethod(lambda: changed))
        return changed

    return change


@pytest.fixture
def owner(transactional_db: None) -> User:
    """Give a user."""
    return User.objects.create_user("owner")


@pytest.fixture
def stranger(transactional_db: None) -> User:
    """Give another user."""
    return User.objects.create_user("stranger")


@pytest.fixture
def no_failures_yet() -> Iterator[None]:
    """Forget who failed to log in before and behind this test."""
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def everybody(transactional_db: None, no_failures_yet: None, settings: Any) -> Everybody:
    """Make the people; the owner is the local user."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # the real one takes its time
    owner = User.objects.create_superuser("owner", password=PASSWORD, pk=1)
    other = User.objects.create_user("other", password=PASSWORD)
    staff = User.objects.create_user("staff", password=PASSWORD, is_staff=True)
    private, public = (stored(owner, key) for key in ("private.txt", "public.txt"))
    Asset.objects.filter(pk=public.pk).update(is_public=True)
    return Everybody(owner, other, staff, private, public)


def stored(owner: User, key: str, data: bytes = SECRET, **options: Any) -> Asset:
    """Put bytes at an address."""
    options = {"bucket": "assets", "content_type": "text/plain"} | options
    return put_content(owner=owner, key=key, content=io.BytesIO(data), **options).asset


def local(**extra: Any) -> Client:
    """Make a client on this machine."""
    return Client(enforce_csrf_checks=True, raise_request_exception=False, **extra)


def remote(**extra: Any) -> Client:
    """Make a client on another machine, where nobody is known by where they sit."""
    return local(**{"REMOTE_ADDR": ELSEWHERE} | extra)


def with_token(user: User, **extra: Any) -> Client:
    """Make a client on another machine that sends a token of this user's."""
    return remote(HTTP_AUTHORIZATION=f"Bearer {create_token(user, 'test')[1]}", **extra)


def with_session(user: User, **extra: Any) -> Client:
    """Make a logged-in browser on another machine that sends its CSRF token along."""
    client = remote(**extra)
    client.force_login(user)
    client.cookies["csrftoken"] = "c" * 32
    client.defaults["HTTP_X_CSRFTOKEN"] = "c" * 32
    return client


def _with_ended_token(user: User, *, revoked: bool) -> Client:
    token, text = create_token(user, "ended")
    if revoked:
        revoke_token(token.pk)
    else:
        ApiToken.objects.filter(pk=token.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    return remote(HTTP_AUTHORIZATION=f"Bearer {text}")


def _forged(people: Everybody) -> Client:
    """A page of another site in the owner's browser: the cookie travels, the CSRF token does not."""
    client = with_session(people.owner, HTTP_ORIGIN="https://evil.example", HTTP_SEC_FETCH_SITE="cross-site")
    del client.defaults["HTTP_X_CSRFTOKEN"]
    return client


_ROLES: dict[str, Callable[[Everybody], Client]] = {
    "anonymous": lambda people: remote(),
    "owner session": lambda people: with_session(people.owner),
    "other session": lambda people: with_session(people.other),
    "staff session": lambda people: with_session(people.staff),
    "owner token": lambda people: with_token(people.owner),
    "other token": lambda people: with_token(people.other),
    "expired token": lambda people: _with_ended_token(people.owner, revoked=False),
    "revoked token": lambda people: _with_ended_token(people.owner, revoked=True),
    "local": lambda people: local(),
    "proxied": lambda people: local(HTTP_X_FORWARDED_FOR=ELSEWHERE),
    "cross-site session": _forged,
    "cross-site local": lambda people: local(HTTP_ORIGIN="https://evil.example", HTTP_SEC_FETCH_SITE="cross-site"),
}
ROLES = tuple(_ROLES)
