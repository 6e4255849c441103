"""`token create/list/revoke` as a user types them."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from assets.services.tokens import find_token


@pytest.fixture
def user(transactional_db: None) -> User:
    """Make a user."""
    return User.objects.create_user("somebody")


def run(*arguments: str) -> tuple[str, str]:
    """Run the command; gives what it printed and what it said aside."""
    out, err = io.StringIO(), io.StringIO()
    call_command("token", *arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def test_token_create_prints_the_text_alone_and_once(user: User) -> None:
    out, err = run("create", "somebody", "--name", "laptop")
    text = out.strip()
    found = find_token(text)
    assert found is not None
    assert (found.user, found.name, found.expires_at) == (user, "laptop", None)
    assert text not in err
    assert text not in run("list")[0]


def test_token_create_with_expiry_and_json_tells_both(user: User) -> None:
    made: dict[str, Any] = json.loads(run("create", "somebody", "--expires", "90d", "--json")[0])
    assert made["expires_at"] > made["created_at"]
    assert find_token(made["token"]) is not None


def test_token_list_names_every_state(user: User) -> None:
    first = json.loads(run("create", "somebody", "--json")[0])["id"]
    run("create", "somebody", "--name", "kept")
    assert "revoked" in run("revoke", str(first))[0]
    rows = json.loads(run("list", "somebody", "--json")[0])
    assert [(row["name"], row["state"]) for row in rows] == [("", "revoked"), ("kept", "active")]
    assert "digest" not in rows[0]


@pytest.mark.parametrize(
    "arguments",
    [("create", "nobody"), ("list", "nobody"), ("revoke", "12345"), ("create", "somebody", "--expires", "x")],
)
def test_token_of_what_is_not_there_says_so(user: User, arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError):
        run(*arguments)
