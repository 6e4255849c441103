"""The tour of the README, typed as it stands there, against a service started as `make run` starts it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
README = (PROJECT / "README.md").read_text(encoding="utf-8")
START_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Step:
    """One command of the tour and the lines that the README shows below it."""

    command: str
    output: str


def tour() -> list[Step]:
    """Read the console blocks of the README."""
    blocks = "\n".join(re.findall(r"```console\n(.*?)```", README, re.DOTALL))
    steps = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n?)*)", blocks, re.MULTILINE)
    return [Step(command, re.sub(r"\n{2,}\Z", "\n", output)) for command, output in steps]


def free_port() -> int:
    """Give a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """Make a folder that looks like the project to who types there."""
    (tmp_path / "manage.py").symlink_to(PROJECT / "manage.py")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    return tmp_path


@pytest.fixture
def port(desk: Path) -> Iterator[int]:
    """Serve in a process group of its own; gives the port."""
    number = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "nodetool_site.supervisor"],
        cwd=PROJECT,
        env=variables(desk, number),
        start_new_session=True,
    )
    try:
        wait_until_open(number, process)
        yield number
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def variables(desk: Path, port: int) -> dict[str, str]:
    """Give the whole environment: nothing of this machine's settings gets in."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(desk),
        "NODETOOL_CONFIG_DIR": str(desk / "config"),
        "PORT": str(port),
    }


def wait_until_open(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until the service accepts."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail(f"the service did not start: exit status {process.returncode}")


def as_pattern(output: str) -> str:
    """Turn what the README shows into a pattern: `...` stands for anything on its line."""
    return re.escape(output.rstrip("\n")).replace(re.escape("..."), ".*")


def test_tour_of_the_readme_works_to_the_letter(desk: Path, port: int) -> None:
    if shutil.which("curl") is None:
        if os.environ.get("REQUIRE_ALL") == "1":
            pytest.fail("curl is not installed")
        pytest.skip("curl is not installed")
    steps = tour()
    assert len(steps) >= 14
    for step in steps:
        command = step.command.replace(":7777", f":{port}")
        done = subprocess.run(
            ["bash", "-c", command], cwd=desk, env=variables(desk, port), capture_output=True, text=True, timeout=60
        )
        assert "curl:" not in done.stderr, step.command
        assert re.fullmatch(as_pattern(step.output), done.stdout.replace("\r", "").rstrip("\n")), (
            f"{step.command}\n{done.stdout}"
        )


def test_readme_names_both_commands() -> None:
    assert "    make run " in README
    assert "    make test " in README


def test_readme_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", README)
    assert targets
    assert [target for target in targets if not target.startswith("http") and not (PROJECT / target).exists()] == []
