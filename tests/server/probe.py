"""A WSGI application that says what the web server handed to it, and the script that serves it as we serve ours."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

from nodetool_site import web
from storagecache.environment import Environment

NAMES = ("CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING", "HTTP_IF_MATCH", "PATH_INFO", "REMOTE_ADDR")


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Read the body in blocks of X-Read bytes and answer with their sizes; /refuse answers without reading."""
    sizes: list[int] = []
    if environ["PATH_INFO"] != "/refuse":
        block = int(environ.get("HTTP_X_READ", 1 << 16))
        sizes = [len(data) for data in iter(lambda: environ["wsgi.input"].read(block), b"")]
    seen = {name: environ[name] for name in NAMES if name in environ}
    body = json.dumps({"sizes": sizes, "environ": seen}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


if __name__ == "__main__":
    environment = Environment.load({**os.environ, "PORT": sys.argv[1]}, under_pytest=False)
    web.server(environment, "tests.server.probe:application").serve(
        target_loader=functools.partial(web.load, os.getpid())
    )
