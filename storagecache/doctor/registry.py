"""The one list of what can be tried, and the words in which a try is told. Knows no part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

from django.utils.module_loading import autodiscover_modules

from storagecache.environment import Environment

# The lines of the Troubleshooting chapter of the storage guide: a finding that is one of them says so.
MISSING_URLS: Final = "Missing asset URLs"
S3_AUTHENTICATION: Final = "S3 authentication errors"
FILE_PERMISSIONS: Final = "Local file permissions"
DOCKER_ACCESS: Final = "Docker jobs cannot access assets"


class Level(StrEnum):
    """How a try ended."""

    OK = "ok"
    WARNING = "warning"  # works, and will disappoint
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One line: what was tried, what came of it and, unless all is well, how to mend it."""

    level: Level
    tried: str
    detail: str = ""
    remedy: str = ""
    trouble: str = ""  # the line of the Troubleshooting chapter that this is


Probe: TypeAlias = Callable[[Environment], Iterator[Outcome]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of the service: its name, how it is tried, and the seconds after which it counts as hung."""

    name: str
    probe: Probe
    seconds: float


_parts: dict[str, Part] = {}


def part(name: str, *, seconds: float) -> Callable[[Probe], Probe]:
    """Register a generator that tries one part; it may end early, and is told as failed when it raises or hangs."""

    def register(probe: Probe) -> Probe:
        _parts[name] = Part(name=name, probe=probe, seconds=seconds)
        return probe

    return register


def all_parts() -> tuple[Part, ...]:
    """Give the parts of all apps."""
    autodiscover_modules("doctor")
    return tuple(_parts.values())


def ok(tried: str, detail: str = "") -> Outcome:
    """Tell that all is well."""
    return Outcome(level=Level.OK, tried=tried, detail=detail)


def warning(tried: str, detail: str, remedy: str, *, trouble: str = "") -> Outcome:
    """Tell what will disappoint."""
    return Outcome(level=Level.WARNING, tried=tried, detail=detail, remedy=remedy, trouble=trouble)


def failed(tried: str, detail: str, remedy: str, *, trouble: str = "") -> Outcome:
    """Tell what does not work."""
    return Outcome(level=Level.FAILED, tried=tried, detail=detail, remedy=remedy, trouble=trouble)
