"""`rebuild_search`: index the names, tags and metadata of every asset anew, while the service runs."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from assets.management.command_line import progress_bar, readable_errors, shows_progress
from assets.models import Asset
from assets.services.indexing import rebuild


class Command(BaseCommand):
    """Rebuild what search and filters look into."""

    help = "Indexes names, tags and metadata of all assets anew; the service may run meanwhile."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare `--json`."""
        parser.add_argument("--json", action="store_true", help="print the result as JSON")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Rebuild, and say how many assets were read."""
        with readable_errors(returncode=1):
            done = self._with_bar() if shows_progress() else sum(rebuild())
        self.stdout.write(json.dumps({"assets": done}) if options["json"] else f"{done} assets indexed.")

    def _with_bar(self) -> int:
        done = 0
        with progress_bar(Asset.objects.count()) as advance:
            for count in rebuild():
                advance(count)
                done += count
        return done
