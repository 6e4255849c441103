"""A management command that ends with the supervisor: `python -m nodetool_site.command <supervisor> <command> ...`."""

from __future__ import annotations

import os
import sys

from django.core.management import execute_from_command_line

from nodetool_site.lifeline import die_with


def main() -> None:
    """Run the command as the child of the process whose id is the first argument."""
    die_with(int(sys.argv[1]))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "nodetool_site.settings")
    execute_from_command_line(["manage.py", *sys.argv[2:]])


if __name__ == "__main__":
    main()
