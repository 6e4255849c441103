"""`manage.py recount_usage`: hold the counters of usage against the catalog, and mend them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser

from assets.management.command_line import readable_errors
from assets.services.usage_upkeep import Difference, compare, recount


class Command(BaseCommand):
    """Count every user's files anew."""

    help = (
        "Counts every user's files anew and mends the counters of /api/usage. They follow every change by themselves: "
        "a difference comes from a fault, or from rows that were written by hand."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("user", nargs="?", help="only this user")
        parser.add_argument("--dry-run", action="store_true", help="only tell what differs")
        parser.add_argument("--json", action="store_true", help="print one JSON list")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Go through the users and print what was different."""
        with readable_errors(returncode=2):
            found = list(_differences(options["user"], dry_run=options["dry_run"]))
        if options["json"]:
            self.stdout.write(json.dumps([asdict(difference) for difference in found]))
            return
        for one in found:
            where = f"user {one.owner_id}: {one.dimension} {one.value}"
            before, now = (f"{amount.bytes} bytes in {amount.count} files" for amount in (one.stored, one.counted))
            self.stdout.write(f"{where}: {before} -> {now}")
        self.stdout.write(f"{len(found)} figures differed.")


def _differences(name: str | None, *, dry_run: bool) -> Iterator[Difference]:
    check = compare if dry_run else recount
    for owner_id in _owners(name):
        yield from check(owner_id)


def _owners(name: str | None) -> list[int]:
    users = get_user_model().objects.order_by("pk")
    if name is not None:
        users = users.filter(username=name)
        if not users:
            raise CommandError(f"There is no user {name!r}.")
    return list(users.values_list("pk", flat=True))
