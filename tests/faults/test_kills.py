"""The service is killed before each step of what it does, on three kinds of backends, and starts again.

Behind each kill: what was acknowledged reads back, a write without an answer happened wholly or not at all, no row is
without bytes, one purge and one comparison bring the rest to exactly zero, and the service is itself again by itself.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.faults.backends import KINDS, backend_variables
from tests.faults.operations import IN_PARTS, OPERATIONS, Operation
from tests.faults.stand import Stand, body_of, standing
from tests.faults.strace import injected, require_strace, web_processes
from tests.server.processes import alive, until

NIGHTLY = os.environ.get("NIGHTLY") == "1"
KILLS = int(os.environ.get("FAULT_KILLS", "1002" if NIGHTLY else "60")) // len(KINDS)  # of each kind
GROUP = 15  # every so many kills the whole service dies, not one process of it


@dataclass(slots=True)
class Killing:
    """Kills one after the other on one stand, and counts before which steps they came."""

    stand: Stand
    counts: dict[str, int] = field(default_factory=dict)  # steps of each operation
    kills: Counter[str] = field(default_factory=Counter)  # by operation and step
    number: int = 0

    def rehearse(self, operation: Operation) -> None:
        """Do it unharmed twice (the first time makes folders), and learn its steps."""
        for _ in range(2):
            self.number += 1
            operation.lay(self.stand, self.number)
            with self.stand.steps.recorded(operation.role) as made:
                operation.do(self.stand, self.number)
            operation.clear(self.stand, self.number)
        self.counts[operation.name] = len(made)
        assert len(made) > 3, made

    def kill(self, operation: Operation, at: int) -> bool:
        """Do it, with a kill before step `at`; judge what is left. Tells whether somebody died."""
        self.number += 1
        whom = "group" if self.number % GROUP == 0 else "process"
        operation.lay(self.stand, self.number)
        before = len(self.stand.recoveries)
        self.stand.steps.arm(operation.role, at, whom=whom)
        operation.do(self.stand, self.number)
        died = self.stand.steps.disarm()
        self.stand.recover()
        operation.clear(self.stand, self.number)
        self.stand.look(self.number)
        self.stand.trim()
        if died:
            self.kills[f"{operation.name}: {died} ({whom})"] += 1
            took = max(self.stand.recoveries[before:])
            print(f"kill {self.kills.total()}: {operation.name} step {at} {died} {whom} {took:.2f} s", flush=True)  # noqa: T201
        return bool(died)


def _spread(kills: int, operations: tuple[Operation, ...], counts: dict[str, int]) -> list[tuple[Operation, int]]:
    """Spread kills evenly over all steps of all operations, each operation at least once, and mix them."""
    steps = [(operation, at) for operation in operations for at in range(counts[operation.name])]
    firsts = [(operation, counts[operation.name] // 2) for operation in operations]
    rest = kills - len(firsts)
    chosen = firsts + [steps[len(steps) * turn // rest] for turn in range(rest)]
    random.Random(kills).shuffle(chosen)
    return chosen


@pytest.mark.faults
@pytest.mark.timeout(14400)
@pytest.mark.parametrize("kind", KINDS)
def test_kill_before_each_step_loses_nothing_and_tears_nothing(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    operations = (*OPERATIONS, IN_PARTS) if kind == "s3" else OPERATIONS
    with standing(tmp_path / "service", backend_variables(kind, request)) as stand:
        killing = Killing(stand)
        for operation in operations:
            killing.rehearse(operation)
        for operation, at in _spread(KILLS, operations, killing.counts):
            for earlier in range(at, max(at - 5, -1), -1):  # a run may be a step or two shorter than the rehearsal
                if killing.kill(operation, earlier):
                    break
        stand.read_all()
        total = sum(killing.kills.values())
        report = {
            "kills": total,
            "slowest recovery": max(stand.recoveries),
            "steps": dict(sorted(killing.kills.items())),
        }
        print(f"\n{kind}: {json.dumps(report, indent=1)}")  # noqa: T201
        assert total >= KILLS


CALLS = [("fsync", 1), ("fsync", 2), ("fdatasync", 1), ("linkat", 1), ("pwrite64", 1), ("pwrite64", 4), ("write", 2)]
MORE_CALLS = [
    (call, number) for call in ("fdatasync", "pwrite64", "write", "openat", "ftruncate") for number in range(1, 9)
]


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_kill_at_a_system_call_loses_nothing_and_tears_nothing(tmp_path: Path) -> None:
    """Also inside of SQLite, whose own writes and syncs are no steps of Python."""
    require_strace()
    killed = 0
    calls = CALLS + MORE_CALLS if NIGHTLY else CALLS
    with standing(tmp_path / "service", {}) as stand:
        stand.put("replaced", body_of("first", 70_000))
        for number, (call, when) in enumerate(calls):
            until(lambda: len(web_processes(stand.service)) == 2)
            victims = web_processes(stand.service)
            key, body = "replaced" if number % 2 else f"new-{number}", body_of(f"{call} {number}", 70_000)
            old = stand.ledger.pop(key, None)
            with injected(victims, call, f"signal=SIGKILL:when={when}"):
                answer = stand.send("PUT", f"/storage/assets/{key}", body=body)
            killed += not all(map(alive, victims))  # by now: a tracer holds what it has killed
            stand.note(key, old, body, answer)
            stand.recover()
            stand.look(number)
        stand.read_all()
    assert killed * 2 > len(calls)
