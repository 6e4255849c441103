"""A repair or an undo killed at any line loses nothing, and undo brings everything back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.backends import program_variables

ROOT = Path(__file__).resolve().parents[2]


def _kill(operation: str, points: int, environment: dict[str, str]) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "tests.integrity.victim", operation, str(points)]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    reports: list[dict[str, Any]] = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]
    bad = [report for report in reports if report["told"]]
    assert not bad, bad[0]
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return reports


@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "s3"])
@pytest.mark.parametrize("operation", ["repair", "undo"])
def test_kill_anywhere_in_a_repair_or_its_undo_loses_nothing(
    operation: str, kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    assert len(_kill(operation, 8, program_variables(kind, request, tmp_path))) == 8


@pytest.mark.nightly
@pytest.mark.timeout(14400)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "s3"])
@pytest.mark.parametrize("operation", ["repair", "undo"])
def test_kill_at_each_of_200_points_of_a_repair_or_its_undo_loses_nothing(
    operation: str, kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    assert len(_kill(operation, 200, program_variables(kind, request, tmp_path))) == 200
