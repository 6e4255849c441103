"""`manage.py verify_assets`: say whether catalog and buckets agree. The work is in `assets.integrity.verify`."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from assets.integrity.verify import Finding, Kind, Verification
from assets.management.command_line import argument, progress_bar, readable_errors, refuse_memory, shows_progress
from assets.models import StoredObject
from storagecache import casts

LISTED: Final = 1000  # findings that are listed; all are counted
UNSURE: Final = 2  # exit code
_FINDINGS: Final = [kind for kind in Kind if kind is not Kind.UNREADABLE]


@dataclass(slots=True)
class Tally:
    """What was found: every finding is counted, the first ones are kept."""

    counts: Counter[Kind] = field(default_factory=Counter)
    listed: list[Finding] = field(default_factory=list)

    def add(self, finding: Finding) -> None:
        """Count a finding, and keep it if there is room."""
        self.counts[finding.kind] += 1
        if len(self.listed) < LISTED:
            self.listed.append(finding)

    @property
    def total(self) -> int:
        """How many findings there are."""
        return sum(self.counts[kind] for kind in _FINDINGS)

    @property
    def status(self) -> str:
        """The result in one word: `unsure` wins, because more may be wrong than was seen."""
        if self.counts[Kind.UNREADABLE]:
            return "unsure"
        return "findings" if self.total else "clean"


class Command(BaseCommand):
    """Compare and report; nothing is changed."""

    help = (
        "Compares the catalog with the buckets, both ways, and reports what does not agree; it changes nothing. "
        "Exit code: 0 clean, 1 findings, 2 could not tell."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("--deep", action="store_true", help="read every object and compare its digest")
        parser.add_argument(
            "--since", type=argument(_moment), metavar="T",
            help="only what was made since T: a time such as 2026-05-04T12:00 (UTC), or an age such as 24h",
        )  # fmt: skip
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Compare, print, and end with CONTRACT's exit code."""
        verification = Verification(since=options["since"], deep=options["deep"])
        tally = Tally()
        try:
            _compare(verification, tally, quiet=options["json"])
        except CommandError as error:
            if options["json"]:
                self.stdout.write(json.dumps({"status": "unsure", "error": str(error)}))
            raise
        self.stdout.write(_as_json(verification, tally) if options["json"] else _as_text(verification, tally))
        _end(tally)


def _compare(verification: Verification, tally: Tally, *, quiet: bool) -> None:
    refuse_memory(returncode=UNSURE)
    with readable_errors(returncode=UNSURE), _progress(quiet=quiet) as verification.progress:
        for finding in verification.findings():
            tally.add(finding)


def _end(tally: Tally) -> None:
    if tally.status == "unsure":
        raise CommandError(f"{tally.counts[Kind.UNREADABLE]} objects could not be read.", returncode=UNSURE)
    if tally.total:
        raise CommandError(f"{tally.total} findings.", returncode=1)


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[int], None]]:
    if quiet or not shows_progress():
        yield lambda count: None
        return
    with progress_bar(StoredObject.objects.count()) as advance:
        yield advance


def _as_json(verification: Verification, tally: Tally) -> str:
    report = {
        "status": tally.status,
        "deep": verification.deep,
        "since": verification.since.isoformat() if verification.since else None,
        "objects": verification.objects,
        "rows": verification.rows,
        "leftovers": verification.leftovers,
        "hashed_bytes": verification.hashed_bytes,
        "total": tally.total,
        "counts": {kind.value: tally.counts[kind] for kind in Kind},
        "findings": [asdict(finding) for finding in tally.listed],
        "truncated": tally.counts.total() > len(tally.listed),
    }
    return json.dumps(report)


def _as_text(verification: Verification, tally: Tally) -> str:
    lines = [f"{f.kind}  {f.bucket}/{f.key}  {f.id}  {f.detail}".rstrip() for f in tally.listed]
    if (hidden := tally.counts.total() - len(tally.listed)) > 0:
        lines.append(f"... and {hidden} more")
    lines.append(
        f"{verification.objects} objects and {verification.rows} rows compared "
        f"({verification.leftovers} are left for the purge)."
    )
    lines.extend(f"{kind.value}: {tally.counts[kind]}" for kind in Kind if tally.counts[kind])
    return "\n".join([*lines, f"Result: {tally.status}"])


def _moment(value: str) -> datetime:
    """Read a time (without offset: UTC), or an age with its unit."""
    try:
        if re.fullmatch(r"\s*[0-9]+\s*[a-zA-Z]\s*", value):
            return timezone.now() - timedelta(seconds=casts.duration(value))
        moment = datetime.fromisoformat(value.strip())
    except (ValueError, OverflowError):
        raise ValueError("a time such as 2026-05-04T12:00, or an age such as 24h") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
