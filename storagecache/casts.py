"""Text of one variable -> typed value. Pure; each raises ValueError with what would have been right."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

_DURATION: Final = re.compile(r"\A([0-9]{1,12})\s*(s|m|h|d|w)?\Z", re.ASCII | re.IGNORECASE)
_SIZE: Final = re.compile(r"\A([0-9]{1,18})\s*([kmgt]?)(?:i?b)?\Z", re.ASCII | re.IGNORECASE)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_BYTES: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def text(value: str) -> str:
    """Keep the text as it is."""
    return value


def one_of(*choices: str) -> Callable[[str], str]:
    """Make a cast that accepts these words, in any case."""

    def cast(value: str) -> str:
        word = value.strip().lower()
        if word not in choices:
            raise ValueError(f"one of {', '.join(choices)}")
        return word

    return cast


def whole_number(lowest: int, highest: int) -> Callable[[str], int]:
    """Make a cast that accepts ASCII digits between two bounds, both included."""

    def cast(value: str) -> int:
        digits = value.strip()
        if not re.fullmatch(r"[0-9]{1,18}", digits) or not lowest <= int(digits) <= highest:
            raise ValueError(f"a whole number from {lowest} to {highest}")
        return int(digits)

    return cast


def decimal(value: str) -> float:
    """Read a positive decimal number such as `2.0`."""
    if not re.fullmatch(r"[0-9]{1,9}(?:\.[0-9]{1,9})?", value.strip()) or float(value) <= 0:
        raise ValueError("a positive number such as 2.0")
    return float(value)


def yes_or_no(value: str) -> bool:
    """Read a switch strictly: a misspelt word is an error, not False."""
    word = value.strip().lower()
    if word not in {"1", "true", "yes", "on", "0", "false", "no", "off"}:
        raise ValueError("yes or no")
    return word in {"1", "true", "yes", "on"}


def duration(value: str) -> int:
    """Read `90`, `90s`, `15m`, `24h`, `30d` or `2w` as seconds."""
    match = _DURATION.match(value.strip())
    if not match:
        raise ValueError("a duration such as 90s, 15m, 24h or 30d")
    return int(match[1]) * _SECONDS[(match[2] or "s").lower()]


def size(value: str) -> int:
    """Read `1048576`, `512K`, `256 MiB` or `5G` as bytes; every unit is a power of 1024."""
    match = _SIZE.match(value.strip())
    if not match:
        raise ValueError("a size such as 1048576, 256MiB or 5G")
    return int(match[1]) * _BYTES[match[2].lower()]


def names(value: str) -> tuple[str, ...]:
    """Split a comma-separated list, dropping blanks."""
    return tuple(word.strip() for word in value.split(",") if word.strip())


def folder(value: str) -> Path:
    """Read a path; `~` is the home folder and a relative path starts at the working folder."""
    if "\0" in value:
        raise ValueError("a path without NUL")
    return Path(value).expanduser().absolute()


def web_url(value: str) -> str:
    """Read an http(s) URL with a host and without query; a trailing slash is dropped."""
    parts = urlsplit(value.strip())
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("a URL such as https://files.example.org")
    return value.strip().rstrip("/")


def domain_url(value: str) -> str:
    """Read a public domain, `assets.example.org` or with a scheme, as a base URL; https when none is given."""
    return web_url(value if "://" in value else f"https://{value.strip()}")


def database_url(value: str) -> str:
    """Read a PostgreSQL or SQLite URL."""
    scheme = urlsplit(value.strip()).scheme
    if scheme not in {"postgres", "postgresql", "sqlite"}:
        raise ValueError("a URL such as postgres://user:password@host:5432/name or sqlite:////folder/file.sqlite3")
    return value.strip()


def bucket(value: str) -> str:
    """Read a bucket or folder name, or a path that starts with `/`, `.` or `~`."""
    name = value.strip()
    if "\0" in name or (not name.startswith(("/", ".", "~")) and "/" in name):
        raise ValueError("a bucket or folder name, or a path that starts with / or .")
    return name
