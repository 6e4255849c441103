"""`generate_catalog`: fill a catalog with rows to measure with."""

from __future__ import annotations

import json
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from assets.management.command_line import progress_bar, readable_errors, shows_progress
from assets.models import Asset
from assets.services.generating import Plan, generate


class Command(BaseCommand):
    """Make a catalog of any size."""

    help = "Fills an empty catalog with assets that have no bytes, to measure with. Not for a library you mean to keep."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare how much to make."""
        parser.add_argument("--assets", type=int, required=True, help="files; the first owner gets nearly all")
        parser.add_argument("--folders", type=int, default=0, help="of the first owner; 0: all files lie in home")
        parser.add_argument("--owners", type=int, default=1, help="each but the first gets a hundred files")
        parser.add_argument("--edges", type=int, default=0, help="derivations, up to three for each file")
        parser.add_argument("--yes", action="store_true", help="also when the catalog is not empty")
        parser.add_argument("--json", action="store_true", help="print the result as JSON")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Make it, and say how long it took."""
        plan = Plan(**{name: options[name] for name in ("assets", "folders", "owners", "edges")})
        _refuse(plan)
        with readable_errors(returncode=1):
            if not options["yes"] and Asset.objects.exists():
                raise CommandError(
                    "The catalog is not empty. Say --yes to add assets without bytes to it all the same."
                )
            begin = time.monotonic()
            done = _with_bar(plan) if shows_progress() else sum(generate(plan))
        self.stdout.write(_said(done, time.monotonic() - begin, as_json=options["json"]))


def _refuse(plan: Plan) -> None:
    if plan.assets < 1 or plan.owners < 1 or plan.folders < 0 or plan.edges < 0:
        raise CommandError("--assets and --owners begin at 1, --folders and --edges at 0.")


def _with_bar(plan: Plan) -> int:
    done = 0
    with progress_bar(plan.assets) as advance:
        for count in generate(plan):
            advance(count)
            done += count
    return done


def _said(done: int, seconds: float, *, as_json: bool) -> str:
    if as_json:
        return json.dumps({"assets": done, "seconds": round(seconds, 1)})
    return f"{done} assets made in {seconds:.0f} s."
