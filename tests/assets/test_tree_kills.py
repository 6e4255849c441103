"""A deletion of a tree whose process is killed: the next call, the purge or a restore carries it on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.backends import program_variables

ROOT = Path(__file__).resolve().parents[2]
POINTS = 9  # each of the three ways to carry on, at the beginning, in the middle and at the end


def _kill(way: str, points: int, environment: dict[str, str]) -> set[str]:
    """Kill a deletion at so many places; returns how it was carried on."""
    command = [sys.executable, "-m", "tests.assets.tree_victim", way, str(points)]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    reports = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]
    assert [report for report in reports if not (report["well"] and report["killed"])] == []
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert len(reports) == points
    return {report["told"] for report in reports}


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize("way", ["trash", "for-good"])
def test_killed_deletion_of_a_tree_is_carried_on(
    way: str, kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    assert _kill(way, POINTS, program_variables(kind, request, tmp_path)) >= {"again", "purge", "restore"}


@pytest.mark.nightly
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize("way", ["trash", "for-good"])
def test_deletion_of_a_tree_killed_at_many_lines_is_carried_on(
    way: str, kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    assert _kill(way, 500, program_variables(kind, request, tmp_path))
