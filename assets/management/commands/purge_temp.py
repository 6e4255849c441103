"""`manage.py purge_temp`: finish and collect leftovers now. What that means lives in `assets.services.purging`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from functools import partial
from typing import Any, Final, NoReturn, TypeVar

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError
from tqdm import tqdm

from assets.services import PurgeReport, purge
from assets.services.purging import BATCH
from storagecache import casts
from storagecache.environment import Environment
from storagecache.errors import StorageError

T = TypeVar("T")
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
        _refuse_memory()
        with readable_errors():
            report = _purge(options)
        self.stdout.write(json.dumps(asdict(report)) if options["json"] else _sentence(report))
        if report.failures:
            listed = "" if options["json"] else "".join(f"\n  {failure}" for failure in report.failures)
            raise CommandError(
                f"{len(report.failures)} objects could not be deleted; the next purge tries again.{listed}"
            )


def argument(cast: Callable[[str], T]) -> Callable[[str], T]:
    """Let argparse say what would have been right."""

    def read(value: str) -> T:
        try:
            return cast(value)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{value!r} must be {error}.") from None

    return read


@contextmanager
def readable_errors(*, returncode: int = 1) -> Iterator[None]:
    """Turn what the catalog and the buckets raise into one line and an exit code."""
    try:
        yield
    except (StorageError, DatabaseError) as error:
        raise CommandError(str(error), returncode=returncode) from error


def _purge(options: dict[str, Any]) -> PurgeReport:
    age: int | None = options["older_than"]
    grace = None if age is None else timedelta(seconds=age)
    batch, limit = options["batch"], options["limit"]
    if options["dry_run"]:
        return purge(grace=grace, batch=batch, limit=limit, dry_run=True)
    if options["json"] or not sys.stderr.isatty():
        return purge(grace=grace, batch=batch, limit=limit)
    total = purge(grace=grace, limit=limit, dry_run=True).objects
    with tqdm(total=total, unit="object") as bar:
        return purge(grace=grace, batch=batch, limit=limit, progress=partial(_advance, bar))


def _advance(bar: tqdm[NoReturn], count: int) -> None:
    bar.update(count)


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


def _refuse_memory() -> None:
    environment = Environment.current()
    if environment.storage_kind == "memory" and environment.env != "test":
        raise CommandError("ASSET_STORAGE=memory: the objects live in the process that serves them, out of reach here.")
