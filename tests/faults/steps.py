"""The test's side of `hook/sitecustomize.py`: the steps of an operation, and at which of them somebody dies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HOOK = Path(__file__).resolve().parent / "hook"
MARK = "X-Fault: step"  # the header of a request whose steps count
ROLES = ("web", "worker", "command")


@dataclass(frozen=True, slots=True)
class Steps:
    """The folder through which the processes of one service are told."""

    folder: Path

    def variables(self) -> dict[str, str]:
        """Give what a service needs in its environment."""
        self.folder.mkdir(exist_ok=True)
        return {"PYTHONPATH": str(HOOK), "FAULT_FOLDER": str(self.folder)}

    @contextmanager
    def recorded(self, role: str) -> Iterator[list[str]]:
        """Give the steps that were made inside the block, behind it."""
        made: list[str] = []
        record = self.folder / f"record-{role}"
        record.write_text("")
        yield made
        made += record.read_text().splitlines()
        record.unlink()

    def arm(self, role: str, at: int, *, whom: str = "process") -> None:
        """Kill before the step number `at` (from 0) from now on: the process that makes it, or its whole group."""
        (self.folder / "died").unlink(missing_ok=True)
        (self.folder / f"arm-{role}").write_text(f"{at} {whom}")

    def disarm(self) -> str:
        """Let nobody die any more; gives the step before which somebody did, or "" when nobody did."""
        for role in ROLES:
            (self.folder / f"arm-{role}").unlink(missing_ok=True)
        died = self.folder / "died"
        return died.read_text() if died.exists() else ""

    def has_killed(self) -> bool:
        """Tell whether somebody has died."""
        return (self.folder / "died").exists()
