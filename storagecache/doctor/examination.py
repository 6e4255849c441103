"""Trying the parts: all at once, each in a thread with its own deadline, so that what hangs holds up nobody else."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace

from django.db import connections

from storagecache.doctor.masking import Mask
from storagecache.doctor.registry import Level, Outcome, Part, failed
from storagecache.environment import Environment


@dataclass(frozen=True, slots=True)
class Finding:
    """An outcome and the part it is about."""

    part: str
    outcome: Outcome

    def as_json(self) -> dict[str, str]:
        """Give plain JSON."""
        told = asdict(self.outcome)
        return {"part": self.part, "status": str(told.pop("level")), **told}


def examine(environment: Environment, parts: Iterable[Part], mask: Mask) -> Iterator[Finding]:
    """Try the parts; gives their findings part by part, in the order of the parts, without any secret."""
    trials = [_Trial(part, environment) for part in parts]
    for trial in trials:
        for outcome in trial.outcomes():
            yield Finding(trial.part.name, masked(outcome, mask))


def masked(outcome: Outcome, mask: Mask) -> Outcome:
    """Give an outcome without secrets."""
    return replace(outcome, tried=mask(outcome.tried), detail=mask(outcome.detail), remedy=mask(outcome.remedy))


def worst(findings: Iterable[Finding]) -> Level:
    """Give the level of the worst finding."""
    levels = {finding.outcome.level for finding in findings}
    return next((level for level in (Level.FAILED, Level.WARNING) if level in levels), Level.OK)


class _Trial:
    """One part being tried."""

    def __init__(self, part: Part, environment: Environment) -> None:
        self.part = part
        self._environment = environment
        self._found: list[Outcome] = []
        self._deadline = time.monotonic() + part.seconds
        # A daemon: what hangs for ever must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=f"doctor-{part.name}", daemon=True)
        self._thread.start()

    def outcomes(self) -> list[Outcome]:
        """Wait for the end or the deadline; gives what was found until then."""
        self._thread.join(max(0.0, self._deadline - time.monotonic()))
        if not self._thread.is_alive():
            return self._found
        found = list(self._found)
        last = f" after: {found[-1].tried}" if found else ""
        detail = f"No answer within {self.part.seconds:g} s{last}."
        return [*found, failed(f"{self.part.name} answers in time", detail, "See whether it hangs, and restart it.")]

    def _run(self) -> None:
        try:
            for outcome in self.part.probe(self._environment):
                self._found.append(outcome)
        except Exception as error:  # noqa: BLE001  # a broken probe is a finding like any other
            tried = f"{self.part.name} can be tried"
            remedy = "This is a fault of the doctor itself: report it."
            self._found.append(failed(tried, f"{type(error).__name__}: {error}", remedy))
        finally:
            connections.close_all()
