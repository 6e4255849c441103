"""`python -m bench.signed_get`: what a signed GET of a 4 KB object on disk costs over a public one, in turns, in one run.

Both go through the whole WSGI application in this process and are measured in its processor time, so that neither a
network nor other work on the machine counts.
"""

from __future__ import annotations

import io
import os
import statistics
import sys
import tempfile
import time
from typing import Final

PAIRS: Final = 15
REQUESTS: Final = 400  # of each kind in a pair
SIZE: Final = 4 << 10  # bytes
TARGET: Final = 0.8  # of the public rate


def main() -> None:
    """Print a Markdown table."""
    with tempfile.TemporaryDirectory(prefix="nodetool-bench-") as folder:
        os.environ |= {
            "NODETOOL_CONFIG_DIR": folder, "ENV": "development", "ASSET_STORAGE": "filesystem", "LOG_LEVEL": "ERROR",
            "DJANGO_SETTINGS_MODULE": "nodetool_site.settings",
        }  # fmt: skip
        public, signed = _addresses()
        pairs = [(_cost(public), _cost(signed)) for _ in range(PAIRS)]
    ratio = statistics.median(one / other for one, other in pairs)
    costs = [statistics.median(pair[number] for pair in pairs) * 1e6 for number in (0, 1)]
    print("| benchmark | unit | public | signed | share of public | target |\n|---|---|---|---|---|---|")
    print(f"| get-signed-4k | us of CPU | {costs[0]:.0f} | {costs[1]:.0f} | {ratio:.3f} | {TARGET} |")


def _addresses() -> tuple[str, str]:
    """Make a catalog with a public and a private asset; give the address of one and a signed link to the other."""
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    from django.contrib.auth.models import User

    from assets.links import current_links
    from assets.models import Asset
    from assets.services import put_content

    owner = User.objects.create_user("bench")
    for key in ("public.png", "private.png"):
        put_content(owner=owner, bucket="assets", key=key, content=io.BytesIO(os.urandom(SIZE)))
    Asset.objects.filter(key="public.png").update(is_public=True)
    url = current_links().url(Asset.objects.select_related("object").get(key="private.png"))
    return "/storage/assets/public.png", url.partition("//")[2].partition("/")[2].join(("/", ""))


def _cost(address: str) -> float:
    """Give the seconds of processor time that one GET takes."""
    begin = time.process_time()
    for _ in range(REQUESTS):
        _get(address)
    return (time.process_time() - begin) / REQUESTS


def _get(address: str) -> None:
    from nodetool_site.wsgi import application

    path, _, query = address.partition("?")
    seen: list[str] = []
    answer = application(_environ(path, query), lambda status, _headers, _error=None: seen.append(status))  # type: ignore[arg-type,return-value]
    size = sum(map(len, answer))
    answer.close()  # type: ignore[attr-defined]
    if size != SIZE or not seen[0].startswith("200"):
        raise RuntimeError(f"GET {path}: {seen[0]}, {size} bytes")


def _environ(path: str, query: str) -> dict[str, object]:
    return {
        "REQUEST_METHOD": "GET", "PATH_INFO": path, "QUERY_STRING": query, "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "7777", "HTTP_HOST": "127.0.0.1:7777", "REMOTE_ADDR": "127.0.0.1",
        "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(), "wsgi.errors": sys.stderr,
    }  # fmt: skip


if __name__ == "__main__":
    main()
