"""Signed links on the real service over sockets, where the layer below Django answers them: framing, ranges, losses."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.server.service import Service, serving
from tests.server.wire import TIMEOUT, CutError, request

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="watches the processes through /proc")

BODY = os.urandom(1 << 20)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("service")) as running:
        yield running


def link(service: Service, key: str, body: bytes) -> str:
    """Store a body and give the path and query of a link to it."""
    stored = json.loads(service.ask("PUT", f"/storage/assets/{key}", body=body).body)
    answer = service.ask("GET", f"/api/assets/{stored['id']}")
    parts = urlsplit(json.loads(answer.body)["get_url"])
    return f"{parts.path}?{parts.query}"


@pytest.mark.parametrize("size", [0, 1, 4096, 100_000, 1 << 20])
def test_link_gives_whole_bodies_and_stays_in_step(service: Service, size: int) -> None:
    body = BODY[:size]
    target = link(service, f"whole-{size}", body)
    with service.connected() as wire:
        first = wire.ask("GET", target)
        assert (first.status, first.body) == (200, body)
        head = wire.ask("HEAD", target)
        assert head.lasting == first.lasting
        assert 0 <= first.life - head.life <= TIMEOUT  # it was asked for later
        unchanged = wire.ask("GET", target, f"If-None-Match: {first.etag}")
        assert unchanged.status == 304
        assert {"content-length", "content-type", "transfer-encoding"}.isdisjoint(unchanged.headers)
        assert "transfer-encoding" not in first.headers
        assert wire.ask("GET", target).body == body


def test_link_pipelined_requests_are_answered_in_order(service: Service) -> None:
    target = link(service, "piped", BODY)
    with service.connected() as wire:
        ranges = [(0, 1), (0, 400_000), (1_000_000, 48_576), (77, 262_144)]
        for start, length in ranges:
            wire.send(request("GET", target, f"Range: bytes={start}-{start + length - 1}"))
            wire.send(request("HEAD", target))
        for start, length in ranges:
            assert wire.answer().body == BODY[start : start + length]
            assert wire.answer("HEAD").headers["content-length"] == str(len(BODY))


def test_link_ends_with_the_object(service: Service) -> None:
    target = link(service, "ended", b"first")
    assert service.ask("GET", target).body == b"first"
    again = link(service, "ended", b"second")
    assert service.ask("GET", target).status == 404
    assert service.ask("GET", again).body == b"second"
    service.ask("DELETE", "/storage/assets/ended")
    assert service.ask("GET", again).status == 404


def test_link_to_a_torn_or_lost_file_never_lies(service: Service) -> None:
    body = os.urandom(1 << 20)
    target = link(service, "torn", body)
    path = next(path for path in service.assets.rglob("*") if path.is_file() and _holds(path, body))
    path.chmod(0o644)
    os.truncate(path, 600_000)
    for headers in ((), ("Range: bytes=500000-700000",)):
        with service.connected() as wire, pytest.raises(CutError):
            wire.ask("GET", target, *headers)
    assert service.ask("GET", target, "Range: bytes=0-9").body == body[:10]
    path.unlink()
    assert service.ask("GET", target).status == 404


def _holds(path: Path, body: bytes) -> bool:
    return path.read_bytes() == body
