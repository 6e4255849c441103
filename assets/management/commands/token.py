"""`token create <user> [--name N] [--expires 90d]`, `token list [<user>]`, `token revoke <id>`."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from assets.management.command_line import argument, user_named
from assets.models import ApiToken
from assets.services.tokens import create_token, revoke_token
from storagecache import casts
from storagecache.errors import ObjectNotFoundError


class Command(BaseCommand):
    """Make, list and revoke API tokens."""

    help = "Make, list and revoke the tokens that clients send as 'Authorization: Bearer <token>'."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the three actions."""
        actions = parser.add_subparsers(dest="action", required=True)
        create = actions.add_parser("create", help="make a token for a user and print it once")
        create.add_argument("user")
        create.add_argument("--name", default="", help="what it is for")
        create.add_argument(
            "--expires", type=argument(casts.duration), help="life, such as 90d; default: until revoked"
        )
        create.add_argument("--json", action="store_true")
        listing = actions.add_parser("list", help="list tokens; their texts are not kept")
        listing.add_argument("user", nargs="?")
        listing.add_argument("--json", action="store_true")
        revoke = actions.add_parser("revoke", help="revoke a token for good")
        revoke.add_argument("id", type=int)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the chosen action."""
        actions = {"create": self._create, "list": self._list, "revoke": self._revoke}
        actions[options["action"]](options)

    def _create(self, options: dict[str, Any]) -> None:
        user = user_named(options["user"])
        life = options["expires"]
        expires_at = timezone.now() + timedelta(seconds=life) if life else None
        token, text = create_token(user, options["name"], expires_at=expires_at)
        if options["json"]:
            self.stdout.write(json.dumps({**_row(token), "token": text}))
            return
        self.stdout.write(text)
        self.stderr.write(f"Token {token.pk} of {user}. It is shown this once; only its hash is kept.")

    def _list(self, options: dict[str, Any]) -> None:
        tokens = ApiToken.objects.select_related("user").order_by("pk")
        if options["user"]:
            tokens = tokens.filter(user=user_named(options["user"]))
        rows = [_row(token) for token in tokens]
        if options["json"]:
            self.stdout.write(json.dumps(rows))
            return
        for row in rows:
            self.stdout.write("\t".join(str(row[column] or "-") for column in _COLUMNS))

    def _revoke(self, options: dict[str, Any]) -> None:
        try:
            token = revoke_token(options["id"])
        except ObjectNotFoundError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"Token {token.pk} is revoked.")


_COLUMNS = ("id", "user", "name", "state", "created_at", "expires_at", "last_used_at")


def _row(token: ApiToken) -> dict[str, Any]:
    times = {name: getattr(token, name) for name in ("created_at", "expires_at", "last_used_at")}
    shown = {name: value.isoformat() if value else None for name, value in times.items()}
    return {"id": token.pk, "user": str(token.user), "name": token.name, "state": token.state(timezone.now()), **shown}
