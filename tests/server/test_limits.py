"""What the real service refuses over sockets, and with which status: heads, bodies, forms."""

from __future__ import annotations

import contextlib
import http.client
import json
import sys
from collections.abc import Iterator

import pytest

from assets.serving.heads import MAX_HEADER_BYTES, MAX_HEADERS, MAX_TARGET
from tests.server.service import Service, serving

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="watches the processes through /proc")

JSON = "Content-Type: application/json"
BOUNDARY = "Content-Type: multipart/form-data; boundary=b"
COOKIE = f"Cookie: csrftoken={'c' * 32}"  # without it the form is not even read


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.mark.parametrize(
    "size", [MAX_HEADER_BYTES + 1, 60_000, 1 << 20], ids=["ours", "below the server's", "server's"]
)
def test_header_that_is_too_large_is_431(service: Service, size: int) -> None:
    assert service.ask("GET", "/healthz", "X-Long: " + "x" * size).status == 431


@pytest.mark.parametrize("count", [MAX_HEADERS + 1, 10 * MAX_HEADERS])
def test_headers_that_are_too_many_are_431(service: Service, count: int) -> None:
    assert service.ask("GET", "/healthz", *(f"X-{number}: 1" for number in range(count))).status == 431
    assert service.ask("GET", "/healthz", *(f"X-{number}: 1" for number in range(MAX_HEADERS // 2))).status == 200


@pytest.mark.parametrize("size", [MAX_TARGET, 100_000])
def test_address_that_is_too_long_is_414(service: Service, size: int) -> None:
    assert service.ask("GET", "/storage/assets/" + "x" * size).status == 414


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"[" * 1_000_000, 400, "deeper"),
        (b'{"asset_ids": [], "asset_ids": []}', 400, "twice"),
        (b'{"asset_ids": NaN}', 400, "NaN"),
        (b" " * ((4 << 20) + 1), 413, "4194304"),
    ],
    ids=["deep", "twice", "nan", "large"],
)
def test_json_out_of_bounds_is_refused_with_its_reason(service: Service, body: bytes, status: int, reason: str) -> None:
    answer = service.ask("POST", "/api/assets/urls", JSON, body=body)
    assert answer.status == status
    assert reason in json.loads(answer.body)["detail"]


def test_json_that_is_too_large_leaves_the_connection_to_the_next_request(service: Service) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
    with contextlib.closing(connection):
        connection.request("POST", "/api/assets/urls", b" " * (16 << 20), {"Content-Type": "application/json"})
        refused = connection.getresponse()
        assert (refused.status, list(json.loads(refused.read()))) == (413, ["detail"])
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200


def form(parts: int, *, file: bool) -> bytes:
    """Make a form of so many parts."""
    named = '; filename="f"' if file else ""
    head = b'--b\r\nContent-Disposition: form-data; name="a"' + named.encode() + b"\r\n\r\nx\r\n"
    return head * parts + b"--b--\r\n"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (form(101, file=True), "100 files"),
        (form(1001, file=False), "1000 fields"),
        (b"--b\r\nX: " + b"x" * 10_000, "head"),
    ],
    ids=["files", "fields", "head of a part"],
)
def test_form_of_too_many_parts_is_refused_with_its_reason(service: Service, body: bytes, reason: str) -> None:
    answer = service.ask("POST", "/admin/login/", BOUNDARY, COOKIE, body=body)
    assert answer.status == 400
    assert reason in json.loads(answer.body)["detail"]
