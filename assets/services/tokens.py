"""API tokens: made once, shown once, kept as a hash; named, expiring and revocable."""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
from datetime import datetime, timedelta
from typing import Final

from django.contrib.auth.models import AbstractBaseUser
from django.db import DatabaseError
from django.db.models import Q, QuerySet
from django.utils import timezone

from assets.models import ApiToken
from assets.prepared import Given, Selection
from assets.services.sections import spare_section, write_section
from storagecache.errors import BackendUnavailableError, ObjectNotFoundError

logger = logging.getLogger(__name__)

PREFIX: Final = "nts_"  # lets secret scanners know a token of ours
_SHAPE: Final = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}", re.ASCII)
_USE_NOTED_EVERY: Final = timedelta(hours=1)


def create_token(user: AbstractBaseUser, name: str, *, expires_at: datetime | None = None) -> tuple[ApiToken, str]:
    """Make a token for a user; gives its row and its text, which is not kept anywhere."""
    text = PREFIX + secrets.token_urlsafe(32)
    with write_section():
        token = ApiToken.objects.create(
            user_id=user.pk, name=name, digest=_digest(text), expires_at=expires_at, created_at=timezone.now()
        )
    return token, text


def find_token(text: str) -> ApiToken | None:
    """Find the live token with this text and its active user; costs one SELECT, and one UPDATE an hour if it is free.

    256 random bits need no slow hash, and a look-up by digest tells an attacker's clock nothing about the text.
    """
    if not _SHAPE.fullmatch(text):
        return None  # no query for what cannot be a token
    now = timezone.now()
    token = _LIVE.first(digest=_digest(text), now=now)
    if token is not None and (token.last_used_at is None or token.last_used_at < now - _USE_NOTED_EVERY):
        _note_use(token.pk, now)
    return token


def revoke_token(token_id: int) -> ApiToken:
    """Revoke a token for good.

    Raises:
        ObjectNotFoundError: there is none with this id, or it is revoked already.
    """
    with write_section():
        found = ApiToken.objects.filter(pk=token_id, revoked_at=None)
        if not found.update(revoked_at=timezone.now()):
            raise ObjectNotFoundError(f"No token {token_id} to revoke; `token list` shows them.")
    return ApiToken.objects.get(pk=token_id)


def _note_use(token_id: int, now: datetime) -> None:
    """Note that a token was used, unless somebody writes: a later request notes it, and no reading waits or fails."""
    unnoted = Q(last_used_at=None) | Q(last_used_at__lt=now - _USE_NOTED_EVERY)
    try:
        with spare_section():
            free = ApiToken.objects.select_for_update(skip_locked=True).filter(unnoted, pk=token_id)
            if free.values_list("pk", flat=True).first() is not None:
                ApiToken.objects.filter(pk=token_id).update(last_used_at=now)
    except (BackendUnavailableError, DatabaseError, OSError) as error:
        logger.debug("token use not noted token=%d reason=%s", token_id, error)


def _live() -> QuerySet[ApiToken]:
    lasts = Q(expires_at=None) | Q(expires_at__gt=Given(ApiToken, "expires_at", "now"))
    live = ApiToken.objects.filter(lasts, revoked_at=None, user__is_active=True)
    return live.select_related("user").filter(digest=Given(ApiToken, "digest"))


_LIVE: Final = Selection(_live)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
