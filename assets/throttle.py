"""Slow down who guesses passwords and tokens: a few failures a minute, then a pause.

Counts live in Django's default cache: each process counts by itself unless that cache is shared.
"""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass
from typing import Final

from django.core.cache import cache


@dataclass(frozen=True, slots=True)
class Throttle:
    """At most `failures` for one caller inside `window` seconds, counted from the first."""

    name: str
    failures: int
    window: int

    def is_blocked(self, *caller: str) -> bool:
        """Tell whether this caller failed too often of late."""
        return int(cache.get(self._key(caller), 0)) >= self.failures

    def note_failure(self, *caller: str) -> None:
        """Count a failure."""
        key = self._key(caller)
        cache.add(key, 0, self.window)
        try:
            cache.incr(key)
        except ValueError:  # it expired between the two calls
            cache.set(key, 1, self.window)

    def _key(self, caller: tuple[str, ...]) -> str:
        digest = hashlib.sha256("\0".join(caller).encode("utf-8", "surrogatepass")).hexdigest()
        return f"throttle:{self.name}:{digest}"


LOGINS: Final = Throttle("login", failures=10, window=300)  # of one name from one address
LOGIN_ADDRESSES: Final = Throttle("login-address", failures=50, window=300)  # of any name from one address
TOKENS: Final = Throttle("token", failures=30, window=60)  # from one address


def network(address: str) -> str:
    """Give what counts as one caller: an IPv4 address, or the /64 of an IPv6 one, which is one customer."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return ""  # all that is no address shares one count
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    return str(parsed.ipv4_mapped or ipaddress.IPv6Network((int(parsed), 64), strict=False))
