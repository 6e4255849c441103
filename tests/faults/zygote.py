"""Runs management commands in forks of a process that is warm, so that a thousand of them can be killed in an hour.

    python -m tests.faults.zygote manage.py     with the variables of the service; a JSON line each way

Each command is a process of its own, in a group of its own; the parent opens no connection.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping

from tests.server.processes import PROJECT


class Zygote:
    """The warm process."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.zygote", "manage.py"],
            cwd=PROJECT,
            env=dict(variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> int:
        """Run a command to its end; gives its exit status, negative for a signal."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(arguments) + "\n")
        self._process.stdin.flush()
        return os.waitstatus_to_exitcode(int(self._process.stdout.readline()))

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


def main() -> None:
    """Fork for each line until nobody asks."""
    import django
    from django.core.management import get_commands, load_command_class

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "nodetool_site.settings")
    assert "pytest" not in sys.modules, "the product would take itself for tested, and keep bytes in memory"
    django.setup()
    for name in ("purge_temp", "verify_assets"):
        load_command_class(get_commands()[name], name)
    for line in sys.stdin:
        print(_run(json.loads(line)), flush=True)  # noqa: T201


def _run(arguments: list[str]) -> int:
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    code = 70
    try:
        os.setsid()
        os.dup2(2, 1)  # what it prints is not an answer of ours
        code = _execute(arguments)
    finally:
        os._exit(code)


def _execute(arguments: list[str]) -> int:
    from django.core.management import execute_from_command_line

    try:
        execute_from_command_line(["manage.py", *arguments])
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0


if __name__ == "__main__":
    main()
