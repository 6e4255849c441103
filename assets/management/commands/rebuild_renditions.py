"""`manage.py rebuild_renditions`: make small pictures anew. How they are made lives in `assets.services.previews`."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from assets.management.command_line import progress_bar, readable_errors, refuse_memory, shows_progress
from assets.services.previews import ask_for_all, make_next


class Command(BaseCommand):
    """Ask for every look again, and take part in the work until none is due."""

    help = (
        "Makes thumbnails, posters, dimensions and durations of every media file anew. Safe beside uploads, workers "
        "and readers: the earlier pictures serve until the new ones are there."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--missing", action="store_true", help="only files of which nothing is made yet, failed ones included"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Ask, make, and tell how many."""
        refuse_memory(returncode=1)
        with readable_errors(returncode=1):
            asked = sum(ask_for_all(missing=options["missing"]))
            made = _make(asked, quiet=options["json"] or not shows_progress())
        figures = {"asked": asked, "made_here": made}
        text = f"{asked} media files asked for, {made} looked into here."
        self.stdout.write(json.dumps(figures) if options["json"] else text)


def _make(total: int, *, quiet: bool) -> int:
    """Work until nothing is due; what others have claimed is theirs."""
    made = 0
    if quiet:
        while make_next():
            made += 1
        return made
    with progress_bar(total) as advance:
        while make_next():
            made += 1
            advance(1)
    return made
