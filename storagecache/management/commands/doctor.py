"""`manage.py doctor`: try the configured parts, say what is wrong and how to mend it.

The work is in `storagecache.doctor`. It also runs when the configuration is wrong (see manage.py), and says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import groupby
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from storagecache.doctor.examination import Finding, examine, masked, worst
from storagecache.doctor.masking import Mask
from storagecache.doctor.registry import Level, all_parts, failed
from storagecache.environment import Environment, inspect
from storagecache.variables import ConfigurationError

_GUIDE = "docs/troubleshooting.md"
_MEND = "Mend it there, or with `manage.py settings set NAME VALUE`; `manage.py settings show` lists all."


class Command(BaseCommand):
    """Tries folders, database, S3, Memcached, addresses and the container engine."""

    help = (
        "Tries the configured parts and says for each what is wrong and how to mend it. It writes and removes small "
        "objects of its own, and never prints a secret. Exit code: 1 when something failed."
    )
    requires_system_checks = ()  # they are among what is told

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Try everything, print, and end with 1 when something failed."""
        findings = list(_findings())
        status = worst(findings)
        self.stdout.write(_as_json(findings, status) if options["json"] else "\n".join(_as_text(findings)))
        if status is Level.FAILED:
            count = sum(finding.outcome.level is Level.FAILED for finding in findings)
            raise CommandError(f"{count} failed. See {_GUIDE}.", returncode=1)


def _findings() -> Iterable[Finding]:
    problem = getattr(settings, "CONFIGURATION_ERROR", None)
    if problem is None:
        environment = Environment.current()
        yield from examine(environment, all_parts(), Mask(environment, settings.SECRET_KEY))
    else:
        yield from _findings_of_wrong(problem)


def _findings_of_wrong(problem: str) -> Iterable[Finding]:
    """Tell what is wrong with the configuration, and try the folders, which need no other part of it."""
    environment = _readable_environment()
    mask = Mask(environment)
    yield Finding("configuration", masked(failed("the service can start", problem, _MEND), mask))
    if environment is not None:
        yield from examine(environment, [part for part in all_parts() if part.name == "folders"], mask)


def _readable_environment() -> Environment | None:
    try:
        return inspect().environment
    except ConfigurationError:
        return None


def _as_json(findings: list[Finding], status: Level) -> str:
    return json.dumps({"status": str(status), "checks": [finding.as_json() for finding in findings]}, indent=2)


def _as_text(findings: list[Finding]) -> Iterable[str]:
    for part, group in groupby(findings, key=lambda finding: finding.part):
        yield part
        for finding in group:
            yield from _lines(finding)
    counts = {level: sum(finding.outcome.level is level for finding in findings) for level in Level}
    yield ", ".join(f"{count} {level}" for level, count in counts.items())


def _lines(finding: Finding) -> Iterable[str]:
    outcome = finding.outcome
    title = f"{outcome.trouble}: " if outcome.trouble else ""
    detail = f" - {title}{outcome.detail}" if outcome.detail else ""
    yield f"  {outcome.level:<8} {outcome.tried}{detail}"
    if outcome.remedy:
        yield f"           mend: {outcome.remedy}"
