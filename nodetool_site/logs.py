"""How log lines look, as text or JSON, and what they leave out. Knows records only: no settings, no request.

Nothing secret is written to begin with. Should a library or an error's text bring a secret or the query of a signed
link along, the formatter takes it out: it is the last to see the line.
"""

from __future__ import annotations

import functools
import json
import logging
import re
from collections.abc import Iterable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final

REQUEST_ID: Final[ContextVar[str]] = ContextVar("request_id", default="")

_SHORTEST_SECRET: Final = 6  # characters; a shorter one would be taken out of innocent words
_MASK: Final = "***"
_SIGNED: Final = re.compile(r"\?[^\s\"'<>]*signature=[^\s\"'<>]*", re.IGNORECASE)
_MASKED: Final = (
    (_SIGNED, f"?{_MASK}"),
    (
        re.compile(r"\b((?:X-Amz-)?(?:signature|credential|security-token))=[^\s&\"'<>,]+", re.IGNORECASE),
        rf"\1={_MASK}",
    ),
    (re.compile(r"\b(Bearer|Basic)\s+[^\s\"',]+", re.IGNORECASE), rf"\1 {_MASK}"),
    (re.compile(r"\bnts_[\w-]+"), f"nts_{_MASK}"),
    (re.compile(r"//[^/@\s\"']*@"), f"//{_MASK}@"),  # user and password of a URL
)
# Libraries that write whole requests, signatures included, when asked for everything.
_TALKATIVE: Final = ("boto3", "botocore", "s3transfer", "urllib3", "docker", "PIL")


def refusal_without_traceback(record: logging.LogRecord) -> bool:
    """Take the traceback off what Django logs of a refused request (`django.security.*`); every record passes."""
    if record.name.startswith("django.security."):
        record.exc_info = record.exc_text = None
    return True


class TextFormatter(logging.Formatter):
    """A line for people: time, level, logger, the request's id where there is one, and what happened."""

    def __init__(self, secrets: frozenset[str] = frozenset()) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(request)s%(message)s")
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        """Write the line; a traceback follows on lines of its own."""
        request = REQUEST_ID.get()
        record.request = f"[{request}] " if request else ""
        return masked(super().format(record), self._secrets)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time` (UTC), `level`, `logger`, `message`, and `request_id` and `exception` if any."""

    def __init__(self, secrets: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        """Write the line."""
        told = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": REQUEST_ID.get(),
            "exception": self.formatException(record.exc_info) if record.exc_info else record.exc_text,
        }
        # Masked before it is encoded: escapes would hide a secret from the comparison.
        return json.dumps({name: masked(text, self._secrets) for name, text in told.items() if text})


def masked(text: str, secrets: Iterable[str] = ()) -> str:
    """Take secrets, tokens and the queries of signed links out of a text."""
    for secret in secrets:
        text = text.replace(secret, _MASK)
    for pattern, instead in _MASKED:
        text = pattern.sub(instead, text)
    return text


def configuration(level: str, *, form: str, secrets: Iterable[str]) -> dict[str, Any]:
    """Make the dictionary for `logging.config.dictConfig`; `form` is `text` or `json`."""
    kind = JsonFormatter if form == "json" else TextFormatter
    known = frozenset(secret for secret in secrets if len(secret) >= _SHORTEST_SECRET)
    quiet: dict[str, Any] = {name: {"level": "INFO"} for name in _TALKATIVE}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": functools.partial(kind, known)}},
        # Whoever sends a foreign Host or a body too large is told so; a traceback for each would let them fill the log.
        "filters": {"short": {"()": "django.utils.log.CallbackFilter", "callback": refusal_without_traceback}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["short"]}},
        "loggers": quiet,
        "root": {"handlers": ["stderr"], "level": level},
    }
