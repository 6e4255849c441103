"""The background process: the management command `worker`, ending with the supervisor whose process id it is given."""

from __future__ import annotations

import os
import sys

from django.core.management import execute_from_command_line

from nodetool_site.lifeline import die_with


def main() -> None:
    """Run `python manage.py worker` as the supervisor's child."""
    die_with(int(sys.argv[1]))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "nodetool_site.settings")
    execute_from_command_line(["manage.py", "worker"])


if __name__ == "__main__":
    main()
