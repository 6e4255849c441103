#!/usr/bin/env python
"""The command line of NodeTool Storage: `python manage.py help`."""

import os
import sys


def main() -> None:
    """Run one management command; a wrong configuration is one line, not a traceback."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "nodetool_site.settings")
    from django.conf import settings
    from django.core.management import execute_from_command_line

    from storagecache.variables import ConfigurationError

    try:
        settings.ALLOWED_HOSTS  # noqa: B018 (reads the settings now, where an error is one line)
    except ConfigurationError as error:
        if sys.argv[1:2] not in (["settings"], ["doctor"]):
            sys.exit(f"Configuration error: {error}")
        # These two mend it: they run on as little of Django as commands need.
        settings.configure(INSTALLED_APPS=["storagecache"], CONFIGURATION_ERROR=str(error))
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
