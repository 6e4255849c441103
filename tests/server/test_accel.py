"""The service behind a real nginx that sends the bytes (ACCEL_REDIRECT), with the configuration that the docs give."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.server.processes import PROJECT, free_port, listens
from tests.server.service import Service, serving
from tests.server.wire import Answer, CutError, ask
from tests.servers import Server, require

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="watches the processes through /proc")

BODY = os.urandom(300_000)
SITE = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log; {user}
events {{ worker_connections 64; }}
http {{
  access_log off; sendfile on; client_max_body_size 0; client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://127.0.0.1:{service}; proxy_set_header Host $host; }}
    location /objects/assets/ {{ internal; alias {assets}/; include {folder}/objects.conf; }}
  }}
}}
"""
Site = tuple[int, Service, str]  # port of nginx, the service behind it, a link
OWN = frozenset({"server", "connection", "x-request-id"})


@contextmanager
def nginx(folder: Path, service: Service) -> Iterator[int]:
    """Run nginx before a service; gives its port."""
    program = require(shutil.which("nginx"), "the Debian package nginx")
    folder.mkdir()
    documented = (PROJECT / "docs" / "operations.md").read_text()
    lines = re.findall(r"^    ((?:etag|add_header) .*;)$", documented, re.MULTILINE)
    (folder / "objects.conf").write_text("\n".join(lines))
    port, user = free_port(), "user root;" if os.geteuid() == 0 else ""
    conf = folder / "nginx.conf"
    conf.write_text(SITE.format(folder=folder, port=port, user=user, service=service.port, assets=service.assets))
    server = Server([program, "-p", str(folder), "-c", str(conf)], folder, lambda: listens(port))
    server.start()
    try:
        yield port
    finally:
        server.stop()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Give the port of nginx, the service behind it, and a link to an object of 300 KB."""
    folder = tmp_path_factory.mktemp("accel")
    with serving(folder, ACCEL_REDIRECT="/objects") as service, nginx(folder / "nginx", service) as port:
        yield port, service, _link(service, "a%20b/c.bin", BODY)


def _link(service: Service, key: str, body: bytes) -> str:
    """Store a body and give the path and query of a link to it."""
    put = service.ask("PUT", f"/storage/assets/{key}", body=body)
    record = json.loads(service.ask("GET", f"/api/assets/{json.loads(put.body)['id']}").body)
    parts = urlsplit(record["get_url"])
    return f"{parts.path}?{parts.query}"


@pytest.mark.parametrize(
    ("headers", "status", "part"),
    [
        ((), 200, (0, None)),
        (("Range: bytes=5-9",), 206, (5, 10)),
        (("Range: bytes=299990-",), 206, (-10, None)),
        (("Range: bytes=-10",), 206, (-10, None)),
        (("Range: bytes=0-0,9-9",), 206, None),
        (("Range: bytes=300000-",), 416, None),
        (("Range: bytes=5-9", "If-Range: ETAG"), 206, (5, 10)),
        (("Range: bytes=5-9", 'If-Range: "x"'), 200, (0, None)),
        (("If-None-Match: ETAG",), 304, (0, 0)),
        (('If-None-Match: "x"',), 200, (0, None)),
        (("If-Match: ETAG",), 200, (0, None)),
        (('If-Match: "x"',), 412, None),
        (("If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT",), 304, (0, 0)),
        (("If-Modified-Since: Mon, 01 Jan 2001 00:00:00 GMT",), 200, (0, None)),
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_answer_through_nginx_is_the_services(
    site: Site,
    method: str,
    headers: tuple[str, ...],
    status: int,
    part: tuple[int, int | None] | None,
) -> None:
    port, service, target = site
    etag = service.ask("HEAD", target).etag
    sent = [header.replace("ETAG", etag) for header in headers]
    answer = ask(port, method, target, *sent)
    if method == "GET":
        assert answer.status == status
        assert part is None or answer.body == BODY[slice(*part)]
    assert _told(answer) == _expected(service, method, target, sent)


def _told(answer: Answer) -> dict[str, str]:
    """Give the headers that are neither the clock's nor one server's own."""
    return {name: value for name, value in answer.lasting.items() if name not in OWN}


def _expected(service: Service, method: str, target: str, sent: list[str]) -> dict[str, str]:
    """Give the headers of the service's own answer; an If-Match that holds keeps it from delegating."""
    own = service.ask(method, target, *(sent if any("If-" in header for header in sent) else [*sent, "If-Match: *"]))
    return _told(own)


def test_bytes_are_left_to_nginx(site: Site) -> None:
    _, service, target = site
    answer = service.ask("GET", target)
    assert answer.body == b""
    assert answer.headers["x-accel-redirect"].startswith("/objects/assets/")


def test_internal_location_is_closed(site: Site) -> None:
    port, service, target = site
    location = service.ask("GET", target).headers["x-accel-redirect"]
    assert ask(port, "GET", location).status == 404


def test_private_read_through_nginx_stays_private(site: Site) -> None:
    port, service, _ = site
    token = next(w for w in service.manage("token", "create", "admin").split() if w.startswith("nts_"))
    answer = ask(port, "GET", "/storage/assets/a%20b/c.bin", f"Authorization: Bearer {token}")
    assert answer.body == BODY
    assert answer.headers["vary"] == "Cookie, Authorization"
    assert answer.headers["cache-control"] == "private, no-cache"
    assert answer.headers["cross-origin-resource-policy"] == "same-site"


def test_file_that_is_short_or_gone_is_never_left_to_nginx(site: Site) -> None:
    port, service, _ = site
    body = os.urandom(100_001)
    target = _link(service, "torn", body)
    assert ask(port, "GET", target).body == body
    path = next(path for path in service.assets.rglob("*") if path.is_file() and path.stat().st_size == len(body))
    path.chmod(0o644)
    os.truncate(path, 60_000)
    for headers in ((), ("Range: bytes=50000-70000",)):
        assert _is_cut(port, target, *headers)
    assert ask(port, "GET", target, "Range: bytes=0-9").body == body[:10]
    path.unlink()
    lost = ask(port, "GET", target)
    assert lost.status == 404
    lost.detail()


def _is_cut(port: int, target: str, *headers: str) -> bool:
    """Tell whether the connection ends inside the answer: nginx's to us, or ours to nginx before it had the head."""
    try:
        answer = ask(port, "GET", target, *headers)
    except CutError:
        return True
    return answer.status == 502 and {"etag", "cache-control"}.isdisjoint(answer.headers)


def test_page_of_an_allowed_origin_may_read_what_nginx_sends(tmp_path: Path) -> None:
    origin = "https://app.example.com"
    settings = {"ACCEL_REDIRECT": "/objects", "CORS_ALLOWED_ORIGINS": origin}
    with serving(tmp_path, **settings) as service, nginx(tmp_path / "nginx", service) as port:
        target = _link(service, "x", BODY)
        for sent in (
            [f"Origin: {origin}"],
            [f"Origin: {origin}", "Range: bytes=5-9"],
            ["Origin: https://evil.example"],
        ):
            answer = ask(port, "GET", target, *sent)
            assert answer.status in (200, 206)
            assert _told(answer) == _expected(service, "GET", target, sent)
            assert answer.headers.get("access-control-allow-origin") == (None if "evil" in sent[0] else origin)


def test_answer_that_nginx_sends_has_the_id_that_the_request_brought(site: Site) -> None:
    port, _, target = site
    assert ask(port, "GET", target, "X-Request-ID: abc").headers["x-request-id"] == "abc"
    assert "x-request-id" not in ask(port, "GET", target).headers
