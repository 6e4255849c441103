"""The doctor as a user runs it, with what it said as values."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.manage import PROJECT, Manage
from tests.servers import SeaweedServer


@dataclass(frozen=True, slots=True)
class Report:
    """What one run said."""

    code: int
    text: str
    lines: list[dict[str, str]] = field(default_factory=list)

    def of(self, part: str) -> list[dict[str, str]]:
        """Give the lines of one part."""
        return [line for line in self.lines if line["part"] == part]

    def bad(self, *parts: str) -> list[dict[str, str]]:
        """Give the lines that are not ok, of some parts or all."""
        return [line for line in self.lines if line["status"] != "ok" and (not parts or line["part"] in parts)]

    def troubles(self) -> set[str]:
        """Give the lines of the Troubleshooting chapter that were named."""
        return {line["trouble"] for line in self.lines if line["trouble"]}


@dataclass(frozen=True, slots=True)
class Doctor:
    """Runs `manage.py doctor --json`."""

    manage: Manage

    def __call__(self, **variables: str) -> Report:
        """Run it to its end."""
        command, environment = self.manage.how("doctor", "--json", AWS_EC2_METADATA_DISABLED="true", **variables)
        return self._run(command, environment)

    def as_user(self, user: int, **variables: str) -> Report:
        """Run it as another user, who need not be able to read the interpreter: a first run as root loads all of it."""
        code = (
            "import io, os, django; from django.core.management import call_command as call; django.setup();"
            "import contextlib; sink = io.StringIO();\n"
            "with contextlib.suppress(Exception): call('doctor', stdout=sink)\n"
            f"os.setgroups([]); os.setgid({user}); os.setuid({user}); call('doctor', '--json')"
        )
        _, environment = self.manage.how(DJANGO_SETTINGS_MODULE="nodetool_site.settings", **variables)
        return self._run([sys.executable, "-c", code], environment)

    def _run(self, command: list[str], environment: dict[str, str]) -> Report:
        answer = subprocess.run(
            command, env=environment, cwd=PROJECT, capture_output=True, text=True, timeout=100, check=False
        )
        assert answer.stdout.startswith("{"), answer.stderr
        said: dict[str, Any] = json.loads(answer.stdout)
        assert said["status"] == ("failed" if answer.returncode else said["status"])
        return Report(answer.returncode, answer.stdout + answer.stderr, said["checks"])


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the configuration folder of an installation that was prepared once; it is only copied."""
    folder = tmp_path_factory.mktemp("prepared") / "config"
    assert Manage(folder)("prepare").returncode == 0
    return folder


@pytest.fixture
def doctor(manage: Manage, prepared: Path) -> Doctor:
    """Give the doctor of a prepared installation on disk."""
    shutil.copytree(prepared, manage.folder)
    return Doctor(manage)


@pytest.fixture
def s3_variables(seaweedfs: SeaweedServer) -> dict[str, str]:
    """Give the variables of an empty bucket."""
    return seaweedfs.variables()


def is_root() -> bool:
    """Tell whether this test may become somebody else."""
    return os.geteuid() == 0
