"""Text of one variable -> typed value. Pure; each raises ValueError with what would have been right.

The messages never quote the value: it may be a secret. Whoever calls decides whether to show it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import SplitResult, unquote, urlsplit

_DURATION: Final = re.compile(r"\A([0-9]{1,12})\s*(s|m|h|d|w)?\Z", re.ASCII | re.IGNORECASE)
_SIZE: Final = re.compile(r"\A([0-9]{1,18})\s*([kmgt]?)(?:i?b)?\Z", re.ASCII | re.IGNORECASE)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_BYTES: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_LONGEST: Final = 100 * 365 * 86400  # seconds; dates beyond the year 9999 would overflow
_LARGEST: Final = 1 << 60  # bytes; what a signed 64-bit column can still add up
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
_HOST_NAME: Final = re.compile(r"\A[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252})\Z", re.ASCII)
_SERVER: Final = re.compile(r"\A(?:\[(?P<six>[^\]]*)\]|(?P<host>[^:\[\]]*))(?::(?P<port>[0-9]{1,5}))?\Z", re.ASCII)


def verbatim(value: str) -> str:
    """Keep the text as it is, blanks at its ends included."""
    return value


def text(value: str) -> str:
    """Read one line of text without the blanks around it."""
    word = value.strip()
    if _CONTROL.search(word):
        raise ValueError("one line without control characters")
    return word


def one_of(*choices: str) -> Callable[[str], str]:
    """Make a cast that accepts these words, in any case, and gives them as they are written here."""
    known = {choice.lower(): choice for choice in choices}

    def cast(value: str) -> str:
        word = value.strip().lower()
        if word not in known:
            raise ValueError(f"one of {', '.join(choices)}")
        return known[word]

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


def duration(value: str) -> int:
    """Read `90`, `90s`, `15m`, `24h`, `30d` or `2w` as seconds."""
    match = _DURATION.match(value.strip())
    if not match:
        raise ValueError("a duration such as 90s, 15m, 24h or 30d")
    seconds = int(match[1]) * _SECONDS[(match[2] or "s").lower()]
    if seconds > _LONGEST:
        raise ValueError("a duration of at most 100 years")
    return seconds


def life(value: str) -> int:
    """Read a duration that is not zero."""
    if not (seconds := duration(value)):
        raise ValueError("a duration of at least 1s")
    return seconds


def size(value: str) -> int:
    """Read `1048576`, `512K`, `256 MiB` or `5G` as bytes; every unit is a power of 1024."""
    match = _SIZE.match(value.strip())
    if not match:
        raise ValueError("a size such as 1048576, 256MiB or 5G")
    bytes_ = int(match[1]) * _BYTES[match[2].lower()]
    if bytes_ > _LARGEST:
        raise ValueError("a size of at most 1048576T")
    return bytes_


def duration_text(seconds: int) -> str:
    """Write a duration as one would set it: in the largest unit that leaves no rest, up to days."""
    unit = next(name for name in ("d", "h", "m", "s") if seconds % _SECONDS[name] == 0)
    unit = "h" if seconds == _SECONDS["d"] else unit  # 24h, as everybody writes it
    return f"{seconds // _SECONDS[unit]}{unit}"


def size_text(bytes_: int) -> str:
    """Write a size as one would set it: in the largest unit that leaves no rest."""
    unit = next(name for name in ("t", "g", "m", "k", "") if bytes_ % _BYTES[name] == 0)
    return f"{bytes_ // _BYTES[unit]}{unit.upper() + 'iB' if unit else ''}"


def limit(value: str) -> int:
    """Read a size that is not zero."""
    if not (bytes_ := size(value)):
        raise ValueError("a size of at least 1")
    return bytes_


def memory(value: str) -> str:
    """Read an amount of memory as container engines do: `512m`, `1.5g`, or bytes."""
    word = value.strip().lower()
    match = re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)(?:[kmgt]b?|b)?", word, re.ASCII)
    if not match or not float(match[1]):
        raise ValueError("an amount of memory such as 512m or 2g")
    return word


def names(value: str) -> tuple[str, ...]:
    """Split a comma-separated list, dropping blanks."""
    return tuple(text(word) for word in value.split(",") if word.strip())


def networks(value: str) -> tuple[Network, ...]:
    """Split a comma-separated list of IP networks or addresses."""
    try:
        return tuple(ipaddress.ip_network(word.strip()) for word in value.split(",") if word.strip())
    except ValueError:
        raise ValueError("networks such as 127.0.0.1, 10.0.0.0/8 or fd00::/8") from None


def host(value: str) -> str:
    """Read one host name or IP address, IPv6 with or without brackets; without a port."""
    word = value.strip()
    bare = word[1:-1] if word.startswith("[") and word.endswith("]") else word
    if not (_is_address(bare) or _HOST_NAME.match(word)):
        raise ValueError("one host name or IP address, without a port")
    return bare


def servers(value: str) -> tuple[tuple[str, int | None], ...]:
    """Read `host`, `host:port`, `[::1]:port`, or several of them with commas between, as (host, port or None)."""
    return tuple(_server(word.strip()) for word in value.split(",") if word.strip())


def _server(word: str) -> tuple[str, int | None]:
    if _is_address(word):  # an IPv6 address is full of colons and has no port without brackets
        return word, None
    match = _SERVER.match(word)
    name = (match["six"] or match["host"] or "") if match else ""
    port = int(match["port"]) if match and match["port"] else None
    is_host = _is_address(name) if match and match["six"] else _HOST_NAME.match(name)
    if not is_host or port == 0 or (port or 1) > 65535:
        raise ValueError("host or host:port, several with commas, such as cache-1:11211,cache-2:11211")
    return name, port


def _is_address(word: str) -> bool:
    try:
        ipaddress.ip_address(word)
    except ValueError:
        return False
    return True


def is_loopback(name: str) -> bool:
    """Tell whether only this machine can reach what is bound to `name`."""
    return name.lower() == "localhost" or (_is_address(name) and ipaddress.ip_address(name).is_loopback)


def folder(value: str) -> Path:
    """Read a path; `~` is the home folder and a relative path starts at the working folder."""
    if "\0" in value:
        raise ValueError("a path without NUL")
    try:
        return Path(value.strip()).expanduser().absolute()
    except RuntimeError:  # `~somebody`, or a process without a home
        raise ValueError("a path whose home folder exists") from None


def location(value: str) -> str:
    """Read the path of a location of a proxy, such as `/objects`; a trailing slash is dropped."""
    word = value.strip().rstrip("/")
    if not re.fullmatch(r"(?:/[A-Za-z0-9_.-]+)+", word):
        raise ValueError("a path such as /objects, of ASCII letters, digits and - _ .")
    return word


def web_url(value: str) -> str:
    """Read an http(s) URL with a host and without query; a trailing slash is dropped."""
    word = value.strip()
    parts = _split(word)
    if parts is None or parts.scheme not in {"http", "https"} or parts.query or parts.fragment:
        raise ValueError("a URL such as https://files.example.org")
    if not _is_name_or_address(parts.hostname or "") or re.search(r"\s", word):
        raise ValueError("a URL with a host, such as https://files.example.org")
    return word.rstrip("/")


def _is_name_or_address(name: str) -> bool:
    return _is_address(name) or bool(_HOST_NAME.match(name))


def origins(value: str) -> tuple[str, ...]:
    """Split a comma-separated list of web origins, written as browsers send them; there is no wildcard."""
    return tuple(_origin(word.strip()) for word in value.split(",") if word.strip())


def _origin(word: str) -> str:
    parts = _split(word)
    if parts is None or parts.scheme not in {"http", "https"} or word != f"{parts.scheme}://{parts.netloc}":
        raise ValueError("origins such as https://app.example.org or http://localhost:3000, without a path")
    if "@" in parts.netloc or not _is_name_or_address(parts.hostname or ""):
        raise ValueError("origins with a host name each, such as https://app.example.org; a wildcard is not supported")
    if parts.port == {"http": 80, "https": 443}[parts.scheme] or word != word.lower():
        raise ValueError("origins as browsers write them: in lower case, without the scheme's own port")
    return word


def domain_url(value: str) -> str:
    """Read a public domain, `assets.example.org` or with a scheme, as a base URL; https when none is given."""
    return web_url(value if "://" in value else f"https://{value.strip()}")


def database_url(value: str) -> str:
    """Read a PostgreSQL or SQLite URL; `postgresql` and an absolute path are how it comes out."""
    word = value.strip()
    # urlsplit takes `memory` for a port
    parts = _split(word.replace("sqlite://:memory:", "sqlite:///:memory:"))
    if parts is None or parts.scheme not in {"postgres", "postgresql", "sqlite"}:
        raise ValueError("a URL such as postgres://user:password@host:5432/name or sqlite:////folder/file.sqlite3")
    return _sqlite_url(parts) if parts.scheme == "sqlite" else _postgres_url(parts, word)


def _sqlite_url(parts: SplitResult) -> str:
    path = unquote(parts.path.removeprefix("/"))
    if parts.netloc or path in {"", ":memory:"}:
        raise ValueError("a file, such as sqlite:////folder/file.sqlite3: a database in memory is empty in each thread")
    return f"sqlite:///{folder(path)}"


def _postgres_url(parts: SplitResult, word: str) -> str:
    if len(parts.path) < 2:
        raise ValueError("a URL that names the database, such as postgres://user:password@host:5432/name")
    return f"postgresql{word[len(parts.scheme) :]}"


def _split(url: str) -> SplitResult | None:
    """Split a URL; None when its form, or its port, is wrong (Python's own message may quote a password)."""
    try:
        parts = urlsplit(url)
        return parts if parts.port != 0 else None
    except ValueError:
        return None


def bucket(value: str) -> str:
    """Read a bucket or folder name, or a path that starts with `/`, `.` or `~`; a path comes out absolute."""
    name = text(value)
    if name.startswith(("/", ".", "~")):
        return str(folder(name))
    if "/" in name or len(name) > 255:
        raise ValueError("a bucket or folder name, or a path that starts with / or .")
    return name
