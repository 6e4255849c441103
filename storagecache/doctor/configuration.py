"""The configuration: the system checks, which need neither network nor writing, as lines of the doctor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from django.core.checks import ERROR, CheckMessage

from storagecache.checks import CHECKS
from storagecache.doctor.registry import (
    FILE_PERMISSIONS,
    MISSING_URLS,
    S3_AUTHENTICATION,
    Level,
    Outcome,
    ok,
    part,
)
from storagecache.environment import Environment

_TROUBLES: Final = {
    "storagecache.E001": S3_AUTHENTICATION,
    "storagecache.E002": FILE_PERMISSIONS,
    "storagecache.W006": MISSING_URLS,
    "storagecache.W007": MISSING_URLS,
    "storagecache.W008": MISSING_URLS,
}


@part("configuration", seconds=10)
def try_configuration(environment: Environment) -> Iterator[Outcome]:
    """Run every system check."""
    for tried, check in CHECKS:
        messages = list(check(environment))
        yield from (_outcome(tried, message) for message in messages)
        if not messages:
            yield ok(tried)


def _outcome(tried: str, message: CheckMessage) -> Outcome:
    number = str(message.id)
    return Outcome(
        level=Level.FAILED if message.level >= ERROR else Level.WARNING,
        tried=tried,
        detail=f"{message.msg} ({number})",
        remedy=message.hint or "",
        trouble=_TROUBLES.get(number, ""),
    )
