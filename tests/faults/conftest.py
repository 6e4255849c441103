"""What tests of faults share: a service on a backend, and filesystems of their own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.stand import Stand, standing


@pytest.fixture
def stands(tmp_path: Path) -> Iterator[Callable[..., Stand]]:
    """Give a maker of running services, by their variables."""
    with ExitStack() as running:
        yield lambda **extra: running.enter_context(standing(tmp_path / "service", extra))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Give a maker of a filesystem in memory, by its mount options."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = ExitStack()

    def mount(options: str) -> Path:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True)
        if done.returncode:
            reason = f"no filesystem can be mounted here: {done.stderr.decode(errors='replace').strip()}"
            if os.environ.get("REQUIRE_ALL") == "1":
                pytest.fail(f"REQUIRE_ALL=1, but {reason}")
            pytest.skip(reason)
        mounted.callback(subprocess.run, ["umount", "-l", str(folder)], check=True)
        return folder

    with mounted:
        yield mount
