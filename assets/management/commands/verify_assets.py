"""`manage.py verify_assets`: say whether catalog and buckets agree. The work is in `assets.integrity.verify`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from assets.integrity.findings import Kind
from assets.integrity.identity import adopt
from assets.integrity.places import find_places
from assets.integrity.quarantine import UndoReport, undo
from assets.integrity.repair import RepairReport, repair
from assets.integrity.runs import verify
from assets.management.command_line import argument, progress_bar, readable_errors, refuse_memory, shows_progress
from assets.models import IntegrityFinding, IntegrityRun, StoredObject
from storagecache import casts

LISTED: Final = 1000  # findings that are listed; all are counted
UNSURE: Final = 2  # exit code
_FINDINGS: Final = [kind for kind in Kind if kind is not Kind.UNREADABLE]


class Command(BaseCommand):
    """Compare and report; with --repair set right, with --undo take that back."""

    help = (
        "Compares the catalog with the buckets, both ways, and reports what does not agree. "
        "Exit code: 0 clean, 1 findings, 2 could not tell."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("--deep", action="store_true", help="read every object and compare its digest")
        parser.add_argument(
            "--since", type=argument(_moment), metavar="T",
            help="only what was made since T: a time such as 2026-05-04T12:00 (UTC), or an age such as 24h",
        )  # fmt: skip
        action = parser.add_mutually_exclusive_group()
        action.add_argument(
            "--repair",
            action="store_true",
            help="set objects without a row aside, count counters anew, remake thumbnails",
        )
        action.add_argument("--undo", type=argument(_run_id), metavar="RUN", help="put back what a repair set aside")
        action.add_argument(
            "--adopt", action="store_true", help="take catalog and buckets as they are for the right ones, then compare"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Do it, print, and end with CONTRACT's exit code."""
        try:
            refuse_memory(returncode=UNSURE)
            with readable_errors(returncode=UNSURE), _progress(quiet=options["json"]) as progress:
                result = _do(options, progress)
        except CommandError as error:
            if options["json"]:
                self.stdout.write(json.dumps({"status": "unsure", "error": str(error)}))
            raise
        self.stdout.write(result.as_json() if options["json"] else result.as_text())
        result.end()


@dataclass(frozen=True, slots=True)
class Undone:
    """What an undo prints."""

    run_id: UUID
    report: UndoReport

    def as_json(self) -> str:
        """Give one JSON object."""
        status = "undone" if not self.report.failures and not self.report.deleted else "findings"
        return json.dumps({"status": status, "run": self.run_id.hex, **asdict(self.report)})

    def as_text(self) -> str:
        """Give lines for people."""
        lines = [*self.report.failures, f"{self.report.returned} objects were put back."]
        if self.report.deleted:
            lines.append(f"{self.report.deleted} were deleted before, and are gone.")
        return "\n".join(lines)

    def end(self) -> None:
        """End with 1 when something could not be put back."""
        if self.report.failures or self.report.deleted:
            raise CommandError(f"{len(self.report.failures) + self.report.deleted} objects are not back.", returncode=1)


@dataclass(frozen=True, slots=True)
class Compared:
    """What a comparison or a repair prints: the run, the findings it names, and what it set right."""

    run: IntegrityRun
    resumed: bool
    repaired: RepairReport | None
    listed: list[IntegrityFinding]

    @property
    def total(self) -> int:
        """How many findings there are."""
        return sum(self.run.counts.get(kind.value, 0) for kind in _FINDINGS)

    def as_json(self) -> str:
        """Give one JSON object."""
        run = self.run
        return json.dumps(
            {
                "status": str(run.status),
                "run": run.pk.hex,
                "resumed": self.resumed,
                "deep": run.deep,
                "since": run.since.isoformat() if run.since else None,
                "objects": run.objects_seen,
                "rows": run.rows_seen,
                "leftovers": run.leftovers,
                "hashed_bytes": run.hashed_bytes,
                "total": self.total,
                "counts": {kind.value: run.counts.get(kind.value, 0) for kind in Kind},
                "findings": [_as_dict(finding) for finding in self.listed],
                "truncated": sum(run.counts.values()) > len(self.listed),
                "repaired": asdict(self.repaired) if self.repaired else None,
            }
        )

    def as_text(self) -> str:
        """Give lines for people."""
        run = self.run
        lines = [f"{f.kind}  {f.bucket}/{f.key}  {f.row_id}  {f.detail}".rstrip() for f in self.listed]
        if (hidden := sum(run.counts.values()) - len(self.listed)) > 0:
            lines.append(f"... and {hidden} more")
        lines.append(
            f"{run.objects_seen} objects and {run.rows_seen} rows compared ({run.leftovers} are left for the purge)."
        )
        lines.extend(f"{kind.value}: {n}" for kind in Kind if (n := run.counts.get(kind.value, 0)))
        if self.repaired:
            lines.append(f"Set aside: {self.repaired.set_aside}, to be undone with --undo {run.pk.hex}")
        return "\n".join([*lines, f"Result: {run.status}"])

    def end(self) -> None:
        """End with CONTRACT's exit code."""
        if unread := self.run.counts.get(Kind.UNREADABLE.value):
            raise CommandError(f"{unread} objects could not be read.", returncode=UNSURE)
        if self.total:
            raise CommandError(f"{self.total} findings.", returncode=1)


def _do(options: dict[str, Any], progress: Callable[[int], None]) -> Undone | Compared:
    if options["undo"]:
        report = undo(options["undo"])
        if not report.returned and not IntegrityRun.objects.filter(pk=options["undo"]).exists():
            raise CommandError(f"There is no run {options['undo'].hex}.", returncode=UNSURE)
        return Undone(options["undo"], report)
    if options["adopt"]:
        for place in find_places():
            adopt(place)
    chosen = {"deep": options["deep"], "since": options["since"], "progress": progress}
    if options["repair"]:
        run, repaired = repair(**chosen)
        return Compared(run, resumed=False, repaired=repaired, listed=_first_findings(run))
    run, resumed = verify(**chosen)
    return Compared(run, resumed=resumed, repaired=None, listed=_first_findings(run))


def _first_findings(run: IntegrityRun) -> list[IntegrityFinding]:
    return list(IntegrityFinding.objects.filter(run=run).order_by("pk")[:LISTED])


def _as_dict(finding: IntegrityFinding) -> dict[str, str]:
    return {
        "kind": finding.kind, "bucket": finding.bucket, "key": finding.key, "id": finding.row_id,
        "detail": finding.detail,
    }  # fmt: skip


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[int], None]]:
    if quiet or not shows_progress():
        yield lambda count: None
        return
    with progress_bar(StoredObject.objects.count()) as advance:
        yield advance


def _run_id(value: str) -> UUID:
    """Read the id of a run."""
    try:
        return UUID(value.strip())
    except ValueError:
        raise ValueError("the id of a run, 32 hex digits") from None


def _moment(value: str) -> datetime:
    """Read a time (without offset: UTC), or an age with its unit."""
    try:
        if re.fullmatch(r"\s*[0-9]+\s*[a-zA-Z]\s*", value):
            return timezone.now() - timedelta(seconds=casts.duration(value))
        moment = datetime.fromisoformat(value.strip())
    except (ValueError, OverflowError):
        raise ValueError("a time such as 2026-05-04T12:00, or an age such as 24h") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
