"""What the log leaves out. Knows records only: no settings, no request."""

from __future__ import annotations

import logging


def refusal_without_traceback(record: logging.LogRecord) -> bool:
    """Take the traceback off what Django logs of a refused request (`django.security.*`); every record passes."""
    if record.name.startswith("django.security."):
        record.exc_info = record.exc_text = None
    return True
