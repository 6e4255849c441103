"""Contexts on real buckets, and a web server that answers well and badly."""

from __future__ import annotations

import contextlib
import ipaddress
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User

from assets.workflows import ProcessingContext
from storagecache.environment import Environment
from tests.assets.conftest import buckets, disk, memory  # noqa: F401  # fixtures

MakeContext = Callable[..., ProcessingContext]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Give an empty workspace."""
    folder = tmp_path / "job-workspace"
    folder.mkdir()
    return folder


@pytest.fixture
def context(owner: User, workspace: Path) -> ProcessingContext:
    """Give a context of one node of the owner's job."""
    return ProcessingContext(user=owner, workflow_id="w1", job_id="j1", node_id="n1", workspace_dir=workspace)


@dataclass(slots=True)
class Site:
    """A web server on loopback; `asked` lists the paths that were requested."""

    port: int
    asked: list[str] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        """Give the address of a path."""
        return f"http://{host}:{self.port}{path}"


@pytest.fixture
def site() -> Iterator[Site]:
    """Give a running web server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.site = Site(server.server_address[1])  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server.site  # type: ignore[attr-defined]
    server.site.done.set()  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()
    thread.join(10)


@pytest.fixture
def loopback(change_environment: Callable[..., Environment]) -> Callable[..., Environment]:
    """Let workflows fetch from 127.0.0.1, and give a function that changes more."""
    allowed = {"download_allowed_networks": (ipaddress.ip_network("127.0.0.1/32"),)}
    change_environment(**allowed)
    return lambda **fields: change_environment(**{**allowed, **fields})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.site.asked.append(self.path)
        with contextlib.suppress(OSError):
            getattr(self, f"_{self.path.strip('/').partition('?')[0].partition('/')[0]}")()

    @property
    def site(self) -> Site:
        return self.server.site  # type: ignore[attr-defined,no-any-return]

    def log_message(self, *_: Any) -> None:
        pass

    def _send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"content_length": str(len(body)), **headers}.items():
            if value:
                self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def _hello(self) -> None:
        self._send(200, b"hello", content_type="text/plain")

    def _redirect(self) -> None:
        left = int(self.path.rpartition("/")[2])
        self._send(302, location=f"/redirect/{left - 1}" if left else "/hello")

    def _loop(self) -> None:
        self._send(302, location="/loop")

    def _to(self) -> None:
        self._send(302, location=self.path.partition("?")[2])

    def _gone(self) -> None:
        self._send(404)

    def _broken(self) -> None:
        self._send(500)

    def _announced(self) -> None:
        self._send(200, b"", content_length=str(1 << 40))

    def _cut(self) -> None:
        self._send(200, b"half", content_length="8")
        self.close_connection = True

    def _endless(self) -> None:
        self.close_connection = True
        self._send(200, b"", content_length="")
        while not self.site.done.is_set():
            self.wfile.write(b"x" * 65536)

    def _trickle(self) -> None:
        self.close_connection = True
        self._send(200, b"", content_length="")
        while not self.site.done.wait(0.02):
            self.wfile.write(b"x")

    def _heads(self) -> None:
        self.close_connection = True
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not self.site.done.wait(0.02):
            self.wfile.write(b"X-A: b\r\n"[:2])

    def _silent(self) -> None:
        self.close_connection = True
        self.site.done.wait(30)
