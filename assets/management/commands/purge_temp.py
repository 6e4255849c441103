"""`manage.py purge_temp`: finish and collect leftovers now. What that means lives in `assets.services.purging`."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser

from assets.management.command_line import argument, progress_bar, readable_errors, refuse_memory, shows_progress
from assets.services import PurgeReport, purge
from assets.services.purging import BATCH
from assets.services.usage_upkeep import fold
from storagecache import casts

_LONGEST: Final = 100 * 365 * 86400  # seconds; no leftover is older, and the clock goes no further back


class Command(BaseCommand):
    """Purge once, and say how much went."""

    help = (
        "Finishes and collects: expired temp, abandoned uploads, deleted and unreferenced objects. "
        "Safe beside uploads and other purges. Temp that has not expired is never touched."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare CONTRACT's options."""
        parser.add_argument(
            "--older-than", type=argument(_age), metavar="AGE",
            help="collect leftovers older than this, such as 24h or 90s; default: GRACE_TIME",
        )  # fmt: skip
        parser.add_argument("--dry-run", action="store_true", help="count what would go, and change nothing")
        parser.add_argument(
            "--batch", type=argument(casts.whole_number(1, 10_000)), default=BATCH, metavar="N",
            help=f"objects in one step; default: {BATCH}",
        )  # fmt: skip
        parser.add_argument(
            "--limit", type=argument(casts.whole_number(1, 10**12)), metavar="N", help="stop after this many objects"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Purge, print, and end with 1 when something could not be deleted."""
        refuse_memory(returncode=1)
        with readable_errors(returncode=1):
            report = _purge(options)
            if not options["dry_run"]:
                fold()  # for those who run no worker
        # An object that failed is tried twice in a purge, and is one failure.
        report = replace(report, failures=tuple(dict.fromkeys(report.failures)))
        self.stdout.write(json.dumps(asdict(report)) if options["json"] else _sentence(report))
        if report.failures:
            listed = "" if options["json"] else "".join(f"\n  {failure}" for failure in report.failures)
            raise CommandError(
                f"{len(report.failures)} objects could not be deleted; the next purge tries again.{listed}"
            )


def _purge(options: dict[str, Any]) -> PurgeReport:
    age: int | None = options["older_than"]
    grace = None if age is None else timedelta(seconds=age)
    batch, limit = options["batch"], options["limit"]
    if options["dry_run"]:
        return purge(grace=grace, batch=batch, limit=limit, dry_run=True)
    if options["json"] or not shows_progress():
        return purge(grace=grace, batch=batch, limit=limit)
    total = purge(grace=grace, limit=limit, dry_run=True).objects
    with progress_bar(total) as advance:
        return purge(grace=grace, batch=batch, limit=limit, progress=advance)


def _sentence(report: PurgeReport) -> str:
    verb = "Would delete" if report.dry_run else "Deleted"
    return (
        f"{verb} {report.objects} objects, {report.bytes} bytes "
        f"({report.expired} expired temp assets, {report.staged_files} staged files)."
    )


def _age(value: str) -> int:
    seconds = casts.duration(value)
    if seconds > _LONGEST:
        raise ValueError("at most 100 years")
    return seconds
