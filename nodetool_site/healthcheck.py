"""`python -m nodetool_site.healthcheck`: ask the web processes of this machine whether they answer; exit 0 when so."""

from __future__ import annotations

import http.client
import ipaddress
import sys

from storagecache.environment import Environment

TIMEOUT = 5  # seconds


def is_healthy(environment: Environment) -> bool:
    """Ask `/healthz` by a name that the service answers to."""
    host = (environment.allowed_hosts or ("127.0.0.1",))[0].lstrip(".*") or "127.0.0.1"
    connection = http.client.HTTPConnection(_reachable(environment.host), environment.port, timeout=TIMEOUT)
    try:
        connection.request("GET", "/healthz", headers={"Host": host})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _reachable(host: str) -> str:
    """Give an address that leads to a server bound to `host`, which may be every address of the machine."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if not address.is_unspecified:
        return host
    return "127.0.0.1" if address.version == 4 else "::1"


if __name__ == "__main__":
    sys.exit(0 if is_healthy(Environment.current()) else 1)
