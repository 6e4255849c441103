"""`python -m bench --all`, what follows the requests: each part is a program of its own, run to its end.

A part says itself when a figure cannot be trusted, by its exit status.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A program of bench/, with what it is told at full size and at a small one."""

    title: str
    module: str
    full: tuple[str, ...] = ()
    quick: tuple[str, ...] | None = None  # None: not at a small size
    on_postgresql: bool = False


ENVIRONMENT: Final = dict(os.environ)  # before bench.hot sets what signs its links
SMALL: Final = ("--assets", "10000")
TINY: Final = ("--assets", "500")
PARTS: Final = (
    Part(title="Signed reads, uploads and slow clients", module="bench", full=("--hot",), quick=("--hot", "--quick")),
    Part(title="Lists and search, 10,000 assets", module="bench.library", full=SMALL, quick=TINY),
    Part(title="Lists and search, 10,000 assets, PostgreSQL", module="bench.library", full=SMALL, quick=TINY, on_postgresql=True),
    Part(title="Lists and search, 1,000,000 assets", module="bench.library"),
    Part(title="Lists and search, 1,000,000 assets, PostgreSQL", module="bench.library", on_postgresql=True),
    Part(title="The node cache", module="bench.node_cache", quick=("--only", "flight")),
    Part(title="Purge", module="bench.purge", quick=("--objects", "1000")),
    Part(title="Verify", module="bench.verify", quick=("--objects", "1000", "--writers", "2")),
    Part(title="Memory of a download", module="bench.download", quick=("--size", str(8 << 20))),
)  # fmt: skip


def report(*, quick: bool, folder: str | None) -> Iterator[str]:
    """Run the parts that are here; gives what each says.

    Raises:
        CalledProcessError: a part ended with a failure.
    """
    for part in PARTS:
        arguments = part.quick if quick else part.full
        if arguments is None:
            continue
        if importlib.util.find_spec(part.module) is None:
            yield f"\n## {part.title}\n\n{part.module} is not here."
            continue
        yield f"\n## {part.title}\n"
        yield from _run(part, arguments, folder)


def _run(part: Part, arguments: tuple[str, ...], folder: str | None) -> Iterator[str]:
    command = [sys.executable, "-m", part.module, *arguments]
    with ExitStack() as stack:
        own = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=folder))
        variables = {"TMPDIR": own, "NODETOOL_CONFIG_DIR": own}
        if part.on_postgresql:
            # Brings pytest, beside which the service would take itself for one under test: not before this.
            from tests.servers import new_postgres, started

            variables["DATABASE_URL"] = stack.enter_context(started("bench-postgres", new_postgres)).new_database()
        process = stack.enter_context(
            subprocess.Popen(command, env=ENVIRONMENT | variables, stdout=subprocess.PIPE, text=True)
        )
        assert process.stdout is not None
        yield from (line.rstrip("\n") for line in process.stdout)
        if process.wait():
            raise subprocess.CalledProcessError(process.returncode, command)
