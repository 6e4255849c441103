"""`make bench` at a small size, so that it cannot rot; its figures are not judged here."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.matrix import rows
from bench.measures import QUICK
from bench.parts import PARTS
from tests.server.processes import PROJECT
from tests.servers import require

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="reads memory from /proc")]

CONTENDERS = ("ours", "nginx", "Django", "SeaweedFS")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    require(shutil.which("nginx"), "the Debian package nginx")
    folder: Path = tmp_path_factory.mktemp("bench")
    command = [sys.executable, "-m", "bench", "--all", "--quick", "--folder", str(folder)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert list(folder.iterdir()) == []
    return done.stdout.splitlines()


def test_every_request_is_measured_on_every_contender(report: list[str]) -> None:
    lines = {tuple(cell.strip() for cell in line.split("|")[1:3]): line for line in report if line.startswith("| ")}
    for row in rows(QUICK):
        figures = [cell.strip() for cell in lines[row.what, str(row.connections)].split("|")[4:8]]
        missing = [name for name, figure in zip(CONTENDERS, figures, strict=True) if figure == "-"]
        assert missing == (["Django"] if row.what.startswith("range") else [])
        assert all(float(figure.replace(",", "")) > 0 for figure in figures if figure != "-")


def test_memory_of_every_contender_is_told(report: list[str]) -> None:
    below = report[report.index("| memory, MB | idle | peak |") + 2 :]
    assert tuple(line.split("|")[1].strip() for line in below[: len(CONTENDERS)]) == CONTENDERS


def test_every_part_says_something(report: list[str]) -> None:
    for part in PARTS:
        if part.quick is not None:
            begin = report.index(f"## {part.title}")
            following = (n for n, line in enumerate(report[begin + 1 :], begin + 1) if line.startswith("## "))
            assert any(line.strip() for line in report[begin + 1 : next(following, len(report))])
