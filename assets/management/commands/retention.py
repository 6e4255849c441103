"""`retention list`, `retention set USER --keep 30d (--folder|--workflow|--job ID)`, `retention remove ID`,
`retention asset ID --keep 30d`: how long assets are kept. What that means lives in `assets.services.retention`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from django.core.management.base import BaseCommand, CommandParser

from assets.management.command_line import argument, readable_errors, user_named
from assets.models import RetentionRule
from assets.services.retention import remove_rule, set_end, set_rule
from storagecache import casts

_LONGEST: Final = 100 * 365 * 86400  # seconds; dates end


class Command(BaseCommand):
    """Say how long assets are kept."""

    help = "Shows and sets how long assets of a folder, a workflow or a job are kept, or a single one."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the four actions."""
        actions = parser.add_subparsers(dest="action", required=True)
        listing = actions.add_parser("list", help="list the rules")
        listing.add_argument("--json", action="store_true")
        setting = actions.add_parser("set", help="make or change a rule; it acts with the next purges")
        setting.add_argument("user", help="whose assets")
        setting.add_argument(
            "--keep", type=argument(_keep), required=True, metavar="AGE", help="such as 30d; 1d or more"
        )
        place = setting.add_mutually_exclusive_group(required=True)
        for scope in RetentionRule.Scope.values:
            place.add_argument(f"--{scope}", metavar="ID")
        removing = actions.add_parser("remove", help="take a rule back, and the ends that it gave")
        removing.add_argument("id", type=int)
        single = actions.add_parser("asset", help="give one file an end of its own")
        single.add_argument("id", type=argument(_id))
        single.add_argument(
            "--keep", type=argument(_keep_or_ever), required=True, metavar="AGE|ever", help="from now on"
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        """Run the chosen action."""
        actions: dict[str, Callable[[dict[str, Any]], None]] = {
            "list": self._list, "set": self._set, "remove": self._remove, "asset": self._asset,
        }  # fmt: skip
        with readable_errors(returncode=1):
            actions[options["action"]](options)

    def _list(self, options: dict[str, Any]) -> None:
        rows = [
            _row(rule) for rule in RetentionRule.objects.select_related("owner").order_by("owner", "scope", "value")
        ]
        if options["json"]:
            self.stdout.write(json.dumps(rows))
            return
        for row in rows:
            self.stdout.write("\t".join(str(value) for value in row.values()))

    def _set(self, options: dict[str, Any]) -> None:
        scope = next(name for name in RetentionRule.Scope.values if options[name] is not None)
        user = user_named(options["user"])
        rule = set_rule(owner_id=user.pk, scope=scope, value=options[scope], keep=options["keep"])
        self.stdout.write(f"Rule {rule.pk}: the assets of {rule} of {user} are kept for {options['keep']}.")

    def _remove(self, options: dict[str, Any]) -> None:
        remove_rule(options["id"])
        self.stdout.write(f"Rule {options['id']} is gone.")

    def _asset(self, options: dict[str, Any]) -> None:
        end = set_end(options["id"], options["keep"] or None)
        self.stdout.write(f"{options['id'].hex} ends {end.isoformat() if end else 'never'}.")


def _row(rule: RetentionRule) -> dict[str, Any]:
    return {
        "id": rule.pk, "user": str(rule.owner), "scope": rule.scope, "value": rule.value, "seconds": rule.seconds,
    }  # fmt: skip


def _keep(text: str) -> timedelta:
    seconds = casts.duration(text)
    if not 0 < seconds <= _LONGEST:
        raise ValueError("an age of 100 years at most, such as 30d")
    return timedelta(seconds=seconds)


def _keep_or_ever(text: str) -> timedelta:
    """Read an age; zero stands for no end."""
    return timedelta(0) if text == "ever" else _keep(text)


def _id(text: str) -> UUID:
    try:
        return UUID(hex=text)
    except ValueError:
        raise ValueError("the id of an asset, 32 hex digits") from None
