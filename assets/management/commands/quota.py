"""`quota list`, `quota set <user> <size|default>`, `quota recount`."""

from __future__ import annotations

import json
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandParser

from assets.management.command_line import argument, user_named
from assets.models import Account
from assets.services.quota import quota_of, recount, set_quota
from storagecache import casts


class Command(BaseCommand):
    """Show and set what each user may store."""

    help = "Show and set how many bytes each user may store."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the three actions."""
        actions = parser.add_subparsers(dest="action", required=True)
        listing = actions.add_parser("list", help="list what each user stores and may store")
        listing.add_argument("--json", action="store_true")
        setting = actions.add_parser("set", help="set one user's quota")
        setting.add_argument("user")
        setting.add_argument(
            "quota", type=argument(_quota), help="such as 500MiB or 20G, or `default` (USER_QUOTA_BYTES)"
        )
        actions.add_parser("recount", help="count every user's assets anew")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the chosen action."""
        {"list": self._list, "set": self._set, "recount": self._recount}[options["action"]](options)

    def _list(self, options: dict[str, Any]) -> None:
        accounts = Account.objects.select_related("user").order_by("user__username")
        rows = [{"user": str(a.user), "used_bytes": a.used_bytes, "quota_bytes": quota_of(a)} for a in accounts]
        if options["json"]:
            self.stdout.write(json.dumps(rows))
            return
        for row in rows:
            limit = "no limit" if row["quota_bytes"] is None else row["quota_bytes"]
            self.stdout.write(f"{row['user']}\t{row['used_bytes']}\t{limit}")

    def _set(self, options: dict[str, Any]) -> None:
        user = user_named(options["user"])
        account = set_quota(user.pk, options["quota"])
        self.stdout.write(f"{user} uses {account.used_bytes} bytes; quota: {quota_of(account) or 'no limit'}.")

    def _recount(self, options: dict[str, Any]) -> None:
        for user in get_user_model().objects.order_by("pk").iterator():
            before, now = recount(user.pk)
            if before != now:
                self.stdout.write(f"{user}: {before} -> {now}")


def _quota(text: str) -> int | None:
    if text == "default":
        return None
    try:
        return casts.size(text)
    except ValueError as error:
        raise ValueError(f"{error}, or `default`") from None
