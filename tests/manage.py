"""Commands in processes of their own, with a configuration folder that nobody else uses."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Manage:
    """Runs `manage.py` as a user would, in development, unless `variables` say otherwise."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    def __call__(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        command, environment = self.how(*arguments, **variables)
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """Start a command; the test ends it."""
        command, environment = self.how(*arguments, **variables)
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)

    def how(self, *arguments: str, **variables: str) -> tuple[list[str], dict[str, str]]:
        """Give the command line and the whole environment."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        own = {"NODETOOL_CONFIG_DIR": str(self.folder), "ENV": "development", "ASSET_STORAGE": "filesystem"}
        return [sys.executable, str(PROJECT / "manage.py"), *arguments], kept | own | self.variables | variables


@pytest.fixture
def manage(tmp_path: Path) -> Manage:
    """Give a way to run commands on a fresh configuration folder."""
    return Manage(tmp_path / "config")
