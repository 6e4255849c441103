"""`copy_catalog FILE [--json]`: copy an SQLite catalog into the PostgreSQL of DATABASE_URL, and verify the copy.

Exit code 0: copied and equal. 1: refused or different, and nothing is kept. What it does lives in
`assets.services.moving`.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser

from assets.engines import engine
from assets.management.command_line import readable_errors, shows_progress
from assets.services.moving import CopyRefusedError, TableCopy, copy_catalog


class Command(BaseCommand):
    """Copy an SQLite catalog into PostgreSQL."""

    help = (
        "Copies an SQLite catalog into the empty PostgreSQL that DATABASE_URL names, and compares every row. "
        "Stop the service first."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the arguments."""
        parser.add_argument("file", type=Path, help="the SQLite file, such as ~/.config/nodetool/nodetool.sqlite3")
        parser.add_argument("--json", action="store_true", help="print one object: tables, each with rows and digest")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Migrate the target, copy, compare, and tell what was copied."""
        with readable_errors(returncode=1):
            try:
                if engine().takes_copies:
                    call_command("migrate", interactive=False, verbosity=0)
                copied = copy_catalog(options["file"].expanduser().absolute(), progress=self._progress)
            except CopyRefusedError as error:
                raise CommandError(str(error), returncode=1) from error
        self._tell(copied, as_json=options["json"])

    def _progress(self, table: str, rows: int) -> None:
        if shows_progress():
            self.stderr.write(f"\r{table} {rows}", ending="")

    def _tell(self, copied: list[TableCopy], *, as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps({"tables": [dataclasses.asdict(table) for table in copied]}))
            return
        for table in copied:
            self.stdout.write(f"{table.table:40} {table.rows:>10} rows  {table.digest[:16]}")
        self.stdout.write(f"Copied {sum(table.rows for table in copied)} rows; every row is the original's.")
