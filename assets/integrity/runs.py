"""Comparisons that are recorded: resumed after a kill, made in slices, kept as history. What is compared: `verify`."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.db import DatabaseError
from django.utils import timezone

from assets.integrity.findings import Finding, Kind
from assets.integrity.identity import note_run
from assets.integrity.places import find_places
from assets.integrity.verify import Position, Step, Verification
from assets.models import IntegrityFinding, IntegrityRun, StoredObject
from assets.services.holders import is_process, new_holder, place_of
from assets.services.sections import release_connection, write_section
from storagecache.environment import Environment
from storagecache.errors import BackendUnavailableError, StorageError

logger = logging.getLogger(__name__)

KEPT_FINDINGS: Final = 100_000  # of one run; all are counted
KEPT_RUNS: Final = 50
RESUMED_WITHIN: Final = timedelta(hours=24)  # older beginnings say too little about now
_SILENT: Final = timedelta(minutes=5)  # then the process on another machine is taken for dead
_active: set[str] = set()  # holders of this process
Status = IntegrityRun.Status
RunKind = IntegrityRun.Kind


class RunTakenOverError(BackendUnavailableError):
    """Another process took this run for abandoned and goes on with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How much one slice may do: it ends behind the step in which one of these is reached."""

    seconds: float = 30.0
    objects: int = 50_000
    bytes: int = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceResult:
    """What one slice did; the counts are those of the whole run so far. `finished`: the next one begins anew."""

    run_id: UUID
    finished: bool
    status: str
    objects: int
    hashed_bytes: int
    findings: int
    message: str = ""


@dataclass(slots=True, kw_only=True)
class Session:
    """One process's work on a run: the comparison, and what the run had counted before."""

    run: IntegrityRun
    verification: Verification
    before: IntegrityRun
    counts: Counter[str] = field(default_factory=Counter)
    resumed: bool = False

    def advance(self) -> Iterator[Step]:
        """Compare step by step, each recorded before the next.

        Raises:
            StorageError, DatabaseError: it could not be told; the run says so if the catalog can.
        """
        _active.add(self.run.holder)
        try:
            for step in self.verification.steps():
                self._record(step)
                yield step
        except (StorageError, DatabaseError) as error:
            fail(self.run, str(error))
            raise
        finally:
            _active.discard(self.run.holder)

    def end(self) -> None:
        """Close a run that has compared everything."""
        unsure, total = self.counts[Kind.UNREADABLE], self.counts.total()
        status = Status.UNSURE if unsure else Status.FINDINGS if total else Status.CLEAN
        self._save(Position(), status=status, ended_at=timezone.now())
        for place in find_places():
            note_run(place)

    def pause(self) -> None:
        """Let the next process go on at once."""
        IntegrityRun.objects.filter(pk=self.run.pk, holder=self.run.holder).update(holder="")
        release_connection()

    def _record(self, step: Step) -> None:
        room = KEPT_FINDINGS - self.counts.total()
        self.counts.update(finding.kind.value for finding in step.findings)
        self._save(step.position, findings=step.findings[: max(room, 0)], hashed=step.hashed)

    def _save(
        self, position: Position, *, findings: Sequence[Finding] = (), hashed: Sequence[UUID] = (), **fields: object
    ) -> None:
        now, done, before = timezone.now(), self.verification, self.before
        listed = dict(Counter(before.listed) + done.listed)
        fields |= {
            "phase": position.phase, "after": position.after, "updated_at": now, "counts": dict(self.counts),
            "listed": listed, "objects_seen": before.objects_seen + done.objects,
            "rows_seen": before.rows_seen + done.rows, "leftovers": before.leftovers + done.leftovers,
            "hashed_bytes": before.hashed_bytes + done.hashed_bytes,
        }  # fmt: skip
        with write_section():
            mine = IntegrityRun.objects.filter(pk=self.run.pk, holder=self.run.holder, status=Status.RUNNING)
            if not mine.update(**fields):
                raise RunTakenOverError(f"The run {self.run.pk.hex} was taken over.")
            IntegrityFinding.objects.bulk_create([_row(self.run, finding) for finding in findings], 500)
            if hashed:
                StoredObject.objects.filter(pk__in=hashed).update(verified_at=now)
        release_connection()
        for name, value in fields.items():
            setattr(self.run, name, value)


def verify(
    *,
    kind: str = RunKind.VERIFY,
    deep: bool = False,
    since: datetime | None = None,
    progress: Callable[[int], None] = lambda count: None,
) -> tuple[IntegrityRun, bool]:
    """Compare everything; returns the ended run, and whether it went on where a killed one had come to.

    Raises:
        StorageError, DatabaseError: it could not be told.
    """
    session = begin(kind, deep=deep, since=since)
    session.verification.progress = progress
    for _ in session.advance():
        pass
    session.end()
    return session.run, session.resumed


def verify_slice(
    budget: Budget | None = None, *, deep: bool = False, clock: Callable[[], float] = time.monotonic
) -> SliceResult:
    """Go on with the comparison in the background for one budget; the caller sees to it that only one does.

    Raises:
        StorageError, DatabaseError: it could not be told; the next slice begins anew.
    """
    budget = budget or Budget()
    session, started = begin(RunKind.SLICES, deep=deep, since=None), clock()
    for _ in session.advance():
        done = session.verification
        if (
            clock() - started >= budget.seconds
            or max(done.objects, done.rows) >= budget.objects
            or done.hashed_bytes >= budget.bytes
        ):
            session.pause()
            return _result(session, finished=False)
    session.end()
    return _result(session, finished=True)


def begin(kind: str, *, deep: bool, since: datetime | None) -> Session:
    """Take over the killed or paused run of this kind, or make a new one. A repair never builds on an old look."""
    run = None if kind == RunKind.REPAIR else _take_over(kind, deep=deep, since=since)
    resumed = run is not None
    run = run or _make(kind, deep=deep, since=since)
    start = Position(run.phase, run.after)
    rate = Environment.current().verify_rate
    verification = Verification(since=since, deep=deep, rate=rate, start=start)
    before = IntegrityRun.objects.get(pk=run.pk)
    release_connection()
    return Session(run=run, verification=verification, before=before, counts=Counter(run.counts), resumed=resumed)


def fail(run: IntegrityRun, message: str) -> None:
    """Note on a run that it could not tell; a catalog that does not answer cannot note it."""
    try:
        with write_section():
            IntegrityRun.objects.filter(pk=run.pk, holder=run.holder).update(
                status=Status.UNSURE, message=message[:2000], ended_at=timezone.now()
            )
        release_connection()
    except (StorageError, DatabaseError):
        logger.warning("run not closed run=%s", run.pk.hex)


def is_alive(run: IntegrityRun) -> bool:
    """Tell whether a process still works on the run."""
    host, pid = place_of(run.holder)
    if host != socket.gethostname():
        return bool(run.holder) and run.updated_at > timezone.now() - _SILENT
    return run.holder in _active if pid == os.getpid() else is_process(pid)


def _take_over(kind: str, *, deep: bool, since: datetime | None) -> IntegrityRun | None:
    now = timezone.now()
    left = IntegrityRun.objects.filter(kind=kind, status=Status.RUNNING, deep=deep, since=since)
    run = left.filter(updated_at__gt=now - RESUMED_WITHIN).order_by("-pk").first()
    if run is None or is_alive(run):
        return None
    holder = new_holder()
    with write_section():
        taken = IntegrityRun.objects.filter(pk=run.pk, holder=run.holder, status=Status.RUNNING)
        if not taken.update(holder=holder, updated_at=now):
            return None
    run.holder = holder
    return run


def _make(kind: str, *, deep: bool, since: datetime | None) -> IntegrityRun:
    now = timezone.now()
    _forget_old()
    run = IntegrityRun(kind=kind, deep=deep, since=since, holder=new_holder(), started_at=now, updated_at=now)
    with write_section():
        run.save(force_insert=True)
    return run


def _forget_old() -> None:
    """Keep the newest runs, and those whose quarantine still holds something."""
    old = IntegrityRun.objects.order_by("-pk").values_list("pk", flat=True)[KEPT_RUNS : KEPT_RUNS + 100]
    held = ("moving", "held", "deleting")
    ids = (
        IntegrityRun.objects.filter(pk__in=list(old)).exclude(quarantined__state__in=held).values_list("pk", flat=True)
    )
    with write_section():
        IntegrityRun.objects.filter(pk__in=list(ids)).delete()


def _row(run: IntegrityRun, finding: Finding) -> IntegrityFinding:
    return IntegrityFinding(
        run=run, kind=finding.kind.value, bucket=finding.bucket, key=finding.key, row_id=finding.id,
        detail=finding.detail,
    )  # fmt: skip


def _result(session: Session, *, finished: bool) -> SliceResult:
    run = session.run
    return SliceResult(
        run_id=run.pk, finished=finished, status=run.status, objects=run.objects_seen,
        hashed_bytes=run.hashed_bytes, findings=session.counts.total() - session.counts[Kind.UNREADABLE],
    )  # fmt: skip
