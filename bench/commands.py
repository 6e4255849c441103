"""A management command in a process of its own: its time, its memory, its report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_PROJECT: Final = Path(__file__).resolve().parents[1]
_LOOK: Final = 0.05  # seconds between two looks at its memory


@dataclass(frozen=True, slots=True)
class Run:
    """What a command took (seconds with the start of Python; memory in KB at its highest) and printed."""

    seconds: float
    processor: float
    peak: int
    report: dict[str, Any]


def run_command(*arguments: str) -> Run:
    """Run `manage.py` with `--json`. Its memory is looked at while it runs: what wait4 tells includes our own."""
    command = [sys.executable, "manage.py", *arguments, "--json"]
    with tempfile.TemporaryFile() as out:
        started, peak = time.monotonic(), 0
        process = subprocess.Popen(command, cwd=_PROJECT, stdout=out, stderr=subprocess.DEVNULL)
        while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
            peak = max(peak, _high_water(process.pid))
            time.sleep(_LOOK)
        seconds, usage = time.monotonic() - started, ended[2]
        process.returncode = os.waitstatus_to_exitcode(ended[1])
        out.seek(0)
        return Run(seconds, usage.ru_utime + usage.ru_stime, peak, json.loads(out.read()))


def _high_water(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)
