"""API tokens: what is kept of them, and when they stop."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from assets.models import ApiToken
from assets.services.sections import release_connection, write_section
from assets.services.tokens import PREFIX, create_token, find_token, revoke_token
from storagecache.errors import ObjectNotFoundError


@pytest.fixture
def user(transactional_db: None) -> User:
    """Make a user."""
    return User.objects.create_user("somebody")


def test_create_token_keeps_no_part_of_its_text(user: User) -> None:
    token, text = create_token(user, "laptop")
    row = ApiToken.objects.filter(pk=token.pk).values().get()
    assert text.startswith(PREFIX)
    assert len(text) == len(PREFIX) + 43  # 256 bits
    assert not [value for value in row.values() if text[len(PREFIX) :][:8] in str(value)]


def test_find_token_gives_the_user_and_costs_one_select(user: User, django_assert_num_queries: object) -> None:
    _, text = create_token(user, "")
    assert find_token(text) is not None  # notes the use
    with django_assert_num_queries(1):  # type: ignore[operator]
        found = find_token(text)
        assert found is not None
        assert found.user == user


def test_find_token_notes_its_use_once_an_hour(user: User) -> None:
    token, text = create_token(user, "")
    find_token(text)
    first = ApiToken.objects.get(pk=token.pk).last_used_at
    find_token(text)
    assert ApiToken.objects.get(pk=token.pk).last_used_at == first
    ApiToken.objects.filter(pk=token.pk).update(last_used_at=timezone.now() - timedelta(minutes=61))
    find_token(text)
    later = ApiToken.objects.get(pk=token.pk).last_used_at
    assert first is not None
    assert later is not None
    assert later > first


def stale(user: User) -> tuple[ApiToken, str]:
    """Make a token whose last use was noted long ago."""
    token, text = create_token(user, "")
    ApiToken.objects.update(last_used_at=timezone.now() - timedelta(days=1))
    return token, text


def is_noted(token: ApiToken) -> bool:
    """Tell whether the last use was noted within the hour."""
    token.refresh_from_db()
    return token.last_used_at is not None and token.last_used_at > timezone.now() - timedelta(hours=1)


@contextlib.contextmanager
def held(body: Callable[[], contextlib.AbstractContextManager[None]]) -> Iterator[None]:
    """Keep a writer inside `body` in another thread for as long as the block runs."""
    inside, leave = threading.Event(), threading.Event()

    def write() -> None:
        with body():
            ApiToken.objects.update(name="held")
            inside.set()
            leave.wait(30)
        connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert inside.wait(30)
        yield
    finally:
        leave.set()
        writer.join()


@pytest.mark.parametrize("body", [write_section, transaction.atomic], ids=["ours", "somebody's"])
def test_find_token_beside_a_writer_neither_waits_nor_fails_and_notes_later(
    user: User, body: Callable[[], contextlib.AbstractContextManager[None]]
) -> None:
    """The writer stays until the token was found, so that whoever waited for it would never come back."""
    token, text = stale(user)
    with held(body):
        begin = time.monotonic()
        found = find_token(text)
        assert found is not None
        assert time.monotonic() - begin < 10  # the patience of a writer is 20 s
        release_connection()
    assert not is_noted(token)
    assert find_token(text) is not None
    assert is_noted(token)


def test_find_token_whose_note_fails_still_gives_it(user: User) -> None:
    token, text = stale(user)

    def fail(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith("UPDATE"):
            raise DatabaseError("read-only")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(fail):
        assert find_token(text) is not None
    assert not is_noted(token)


def test_find_token_leaves_the_patience_of_other_writers_as_it_was(user: User) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("busy_timeout is SQLite's")
    with connection.cursor() as cursor:
        before = cursor.execute("PRAGMA busy_timeout").fetchone()
        find_token(stale(user)[1])
        assert cursor.execute("PRAGMA busy_timeout").fetchone() == before


@pytest.mark.parametrize("text", ["", "x", PREFIX, PREFIX + "x" * 42, PREFIX + "x" * 44, PREFIX + "é" * 43, "\ud800"])
def test_find_token_of_another_shape_costs_no_query(user: User, text: str, django_assert_num_queries: object) -> None:
    with django_assert_num_queries(0):  # type: ignore[operator]
        assert find_token(text) is None


def test_find_token_that_ended_or_whose_user_left_gives_none(user: User) -> None:
    now = timezone.now()
    _, expired = create_token(user, "", expires_at=now)
    _, lives = create_token(user, "", expires_at=now + timedelta(hours=1))
    token, revoked = create_token(user, "")
    revoke_token(token.pk)
    assert find_token(expired) is None
    assert find_token(revoked) is None
    assert find_token(lives) is not None
    User.objects.update(is_active=False)
    assert find_token(lives) is None


def test_revoke_token_twice_or_unknown_is_not_found(user: User) -> None:
    token, _ = create_token(user, "")
    revoke_token(token.pk)
    for token_id in (token.pk, 10**9):
        with pytest.raises(ObjectNotFoundError, match="token list"):
            revoke_token(token_id)
