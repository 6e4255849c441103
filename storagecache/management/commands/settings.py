"""`manage.py settings`: every variable with its source, and safe changes. The work is in `storagecache.settings_files`.

It also runs when the configuration is wrong (see manage.py): it is how one mends it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from storagecache import settings_files
from storagecache.environment import config_folder, editor, inspect
from storagecache.settings_files import Change, Setting, SettingsError
from storagecache.sources import SECRETS_FILE, SETTINGS_FILE
from storagecache.variables import ConfigurationError


class Command(BaseCommand):
    """Shows, sets and edits the configuration."""

    help = "Show every variable with its value and source (show), set one (set), or edit a settings file (edit)."
    requires_system_checks = ()  # a finding must not keep anybody from mending it

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the actions."""
        actions = parser.add_subparsers(dest="action", required=True)
        show = actions.add_parser("show", help="list every variable, its value and where it came from")
        show.add_argument("--secrets", action="store_true", help="only the secret ones")
        show.add_argument("--reveal", action="store_true", help="show the values of secrets")
        show.add_argument("--json", action="store_true", help="print JSON")
        edit = actions.add_parser("edit", help="open settings.yaml in $EDITOR; what is saved is checked first")
        edit.add_argument("--secrets", action="store_true", help="open secrets.yaml")
        put = actions.add_parser("set", help="set one variable in settings.yaml; secrets go to secrets.yaml")
        put.add_argument("name", metavar="NAME")
        put.add_argument("value", metavar="VALUE", help='"" means the built-in default; after -- it may begin with -')
        put.add_argument("--secret", action="store_true", help="set it in secrets.yaml, whatever it is")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Do one action; what is wrong is one line."""
        actions = {"show": self._show, "edit": self._edit, "set": self._set}
        try:
            actions[options["action"]](options)
        except (SettingsError, ConfigurationError) as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"{error.filename} cannot be written: {error.strerror}.") from error

    def _show(self, options: dict[str, Any]) -> None:
        inspection = inspect()
        rows = [row for row in settings_files.list_settings(inspection) if row.secret or not options["secrets"]]
        shown = [row if options["reveal"] else replace(row, value=row.shown) for row in rows]
        self.stdout.write(_as_json(shown) if options["json"] else "\n".join(_table(shown)))
        if inspection.refusal:
            self.stderr.write(f"The service would not start: {inspection.refusal}")

    def _set(self, options: dict[str, Any]) -> None:
        name = options["name"]
        self._tell(name, settings_files.set_value(name, options["value"], secret=options["secret"]))

    def _tell(self, what: str, change: Change) -> None:
        self.stdout.write(f"{what} is saved in {change.path}; a service that runs reads it at its next start.")
        if change.hidden_by:
            self.stderr.write(f"But {change.hidden_by} names {what} too, and wins. Remove it there.")
        if change.left_in:
            self.stderr.write(f"{what} is in {change.left_in} too, which is not private: remove it there.")
        if change.remaining:
            self.stderr.write(f"The service still would not start: {change.remaining}")

    def _edit(self, options: dict[str, Any]) -> None:
        command = editor()
        if not command:
            raise CommandError("No editor is named. Set EDITOR, such as EDITOR=nano.")
        path = config_folder() / (SECRETS_FILE if options["secrets"] else SETTINGS_FILE)
        path.parent.mkdir(parents=True, exist_ok=True)
        old = settings_files.read(path)
        with _draft_of(path, old) as draft:
            while not self._take(command, path, draft, old):
                pass

    def _take(self, command: list[str], path: Path, draft: Path, old: str) -> bool:
        """Let the draft be edited and take it; False when it is wrong and the user wants to go on.

        Raises:
            CommandError: it is wrong; the draft stays, and is named.
        """
        _run_editor(command, draft)
        new = settings_files.read(draft)
        if new == old:
            self.stdout.write("Nothing was changed.")
            return True
        try:
            self._tell(path.name, settings_files.replace_text(path, old, new))
        except (SettingsError, ConfigurationError) as error:
            return self._asks_again(str(error).replace(str(draft), str(path)), draft)
        for name in settings_files.strange_names(path, new):
            self.stderr.write(f"{name} is no variable of this service and was left alone.")
        return True

    def _asks_again(self, problem: str, draft: Path) -> bool:
        if sys.stdin.isatty():
            self.stderr.write(problem)
            if input("Edit again? [Y/n] ").strip().lower() not in {"n", "no"}:
                return False
        raise CommandError(f"{problem} Nothing was changed; what you wrote is in {draft}.")


def _run_editor(command: list[str], draft: Path) -> None:
    try:
        code = subprocess.run([*command, str(draft)], check=False).returncode  # noqa: S603  # the user's own editor
    except OSError as error:
        raise CommandError(f"The editor {command[0]} cannot be started: {error.strerror}. Set EDITOR.") from error
    if code:
        raise CommandError(f"The editor {command[0]} failed with {code}; nothing was changed. Its text is in {draft}.")


@contextmanager
def _draft_of(path: Path, text: str) -> Iterator[Path]:
    """Give a private copy to edit; it goes unless something went wrong and it holds what is nowhere else."""
    fd, name = tempfile.mkstemp(prefix=f"{path.stem}-", suffix=".yaml", dir=path.parent)
    draft = Path(name)
    with os.fdopen(fd, "w", encoding="utf-8", newline="") as file:
        file.write(text)
    try:
        yield draft
    except BaseException:
        if draft.exists() and settings_files.read(draft) == text:
            draft.unlink()
        raise
    draft.unlink(missing_ok=True)


def _as_json(rows: list[Setting]) -> str:
    names = ("name", "group", "value", "default", "source", "secret", "problem")
    return json.dumps([{name: getattr(row, name) for name in names} for row in rows], indent=2)


def _table(rows: list[Setting]) -> list[str]:
    """Write a table; a long value pushes its source to the right."""
    cells = [("group", "variable", "value", "source")]
    cells += [(row.group, row.name, _printable(row.value), row.source) for row in rows]
    lines = [f"{group:<10} {name:<27} {value:<44} {source}".rstrip() for group, name, value, source in cells]
    problems = [f"  wrong: {row.problem}" for row in rows if row.problem]
    return [*lines, *problems]


def _printable(value: str) -> str:
    return value if value.isprintable() else repr(value)
