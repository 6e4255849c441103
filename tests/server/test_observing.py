"""Metrics, request ids and logs of the whole service, as its processes add up and write."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.server.processes import answers, descendants, kill, until
from tests.server.service import Service, serving
from tests.servers import SeaweedServer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="watches the processes through /proc")

BODY = b"x" * 300_000
SECRET_KEY = "canary-" + "k" * 50
PASSWORD = "canary-admin-password"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    chosen = {"LOG_FORMAT": "json", "LOG_LEVEL": "DEBUG", "SECRET_KEY": SECRET_KEY, "ADMIN_PASSWORD": PASSWORD}
    with serving(folder, METRICS_TOKEN="canary-metrics", **chosen) as running:
        yield running


def link(service: Service, key: str) -> str:
    stored = json.loads(service.ask("PUT", f"/storage/assets/{key}", body=BODY).body)
    parts = urlsplit(json.loads(service.ask("GET", f"/api/assets/{stored['id']}").body)["get_url"])
    return f"{parts.path}?{parts.query}"


def metric(service: Service, name: str, **labels: str) -> float:
    """Give a number of /metrics, 0 when it is not there."""
    text = service.ask("GET", "/metrics").body.decode()
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    lines = [line for line in text.splitlines() if re.match(rf"{name}[{{ ]", line)]
    return sum(float(line.rpartition(" ")[2]) for line in lines if all(part in line for part in wanted))


def log(service: Service) -> str:
    return (service.folder / "log").read_text()


def test_requests_of_all_processes_add_up(service: Service) -> None:
    target = link(service, "counted").replace("/storage/assets/", "/api/storage/")  # which no other test asks
    got = {"method": "GET", "route": "nodetool-storage", "status": "200"}
    put = {"method": "PUT", "route": "nodetool-storage", "status": "201"}
    before = metric(service, "nodetool_http_requests_total", **got)
    sent = metric(service, "nodetool_http_sent_bytes_total", route="nodetool-storage")
    for _ in range(30):  # each on a connection of its own, which the kernel deals out to the processes
        assert service.ask("GET", target).body == BODY
    until(lambda: metric(service, "nodetool_http_requests_total", **got) == before + 30)
    until(lambda: metric(service, "nodetool_http_sent_bytes_total", route="nodetool-storage") == sent + 30 * len(BODY))
    received = metric(service, "nodetool_http_received_bytes_total", route="nodetool-storage")
    puts = metric(service, "nodetool_http_requests_total", **put)
    service.ask("PUT", "/api/storage/counted-2", body=BODY)
    until(lambda: metric(service, "nodetool_http_requests_total", **put) == puts + 1)
    until(
        lambda: metric(service, "nodetool_http_received_bytes_total", route="nodetool-storage") == received + len(BODY)
    )


def test_numbers_of_a_killed_process_are_kept(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        target = link(service, "kept")
        for _ in range(20):
            service.ask("GET", target)
        got = {"method": "GET", "route": "storage"}
        until(lambda: metric(service, "nodetool_http_requests_total", **got) == 20)
        main = next(p for p in descendants(service.process.pid) if len(descendants(p)) == 2)
        for web in descendants(main):
            kill(web)
        until(lambda: answers(service.port))
        assert metric(service, "nodetool_http_requests_total", **got) == 20


def test_route_is_named_by_its_pattern_and_unknown_ones_share_a_name(service: Service) -> None:
    service.ask("GET", "/api/assets/0123456789abcdef0123456789abcdef")
    service.ask("GET", "/nowhere/0123456789")
    until(lambda: metric(service, "nodetool_http_requests_total", route="/api/assets/<asset_id>", status="404") >= 1)
    until(lambda: metric(service, "nodetool_http_requests_total", route="none", status="404") >= 1)
    assert b"0123456789" not in service.ask("GET", "/metrics").body


def test_request_id_is_in_answers_that_want_it_and_in_the_log(service: Service) -> None:
    target = link(service, "named")
    for path in (target, "/healthz"):
        assert service.ask("GET", path, "X-Request-ID: canon-1").headers["x-request-id"] == "canon-1"
        assert "x-request-id" not in service.ask("GET", path).headers
        assert "x-request-id" not in service.ask("GET", path, "X-Request-ID: a b").headers
    made = service.ask("GET", "/storage/assets/absent").headers["x-request-id"]
    assert made != service.ask("GET", "/storage/assets/absent").headers["x-request-id"]
    until(lambda: f'"request_id": "{made}"' in log(service))


def test_every_line_of_the_log_is_json(service: Service) -> None:
    service.ask("GET", "/storage/assets/absent")
    _, _, serving_since = log(service).partition('"serving on ')  # before that, `prepare` tells what it migrates
    lines = [json.loads(line) for line in serving_since.splitlines()[1:]]
    assert {"time", "level", "logger", "message"} <= set.intersection(*(set(line) for line in lines))
    assert {line["logger"] for line in lines} >= {"nodetool_site.supervisor", "django.request"}


def test_log_at_its_loudest_holds_no_secret_and_no_signed_query(service: Service) -> None:
    target = link(service, "secret")
    signature = target.rpartition("signature=")[2]
    token = next(word for word in service.manage("token", "create", "admin").split() if word.startswith("nts_"))
    for path in (target, f"{target}x", "/api/assets", "/metrics", f"/nowhere?{target.partition('?')[2]}"):
        service.ask("GET", path, f"Authorization: Bearer {token}", "X-Forwarded-For: 192.0.2.1")
    service.ask("GET", target, "Host: evil.example")
    service.ask("PUT", target, body=b"x")
    service.ask("POST", "/admin/login/", body=f"username=admin&password={PASSWORD}".encode())
    written = log(service)
    assert "evil.example" in written
    for secret in (signature, token, token[4:], SECRET_KEY, PASSWORD, "canary"):
        assert secret not in written


def test_log_of_s3_at_its_loudest_holds_no_secret(tmp_path: Path, seaweedfs: SeaweedServer) -> None:
    with serving(tmp_path, LOG_LEVEL="DEBUG", **seaweedfs.variables()) as service:
        service.ask("PUT", "/storage/assets/a.bin", body=b"bytes")
        answer = service.ask("GET", "/storage/assets/a.bin")
        assert answer.status == 302
        assert metric(service, "nodetool_s3_seconds_count", call="PutObject") == 1
        with seaweedfs.server.paused():
            assert service.ask("PUT", "/storage/assets/b.bin", body=b"bytes").status == 503
        until(lambda: metric(service, "nodetool_s3_errors_total") >= 1)
        written = log(service)
    signature = answer.headers["location"].rpartition("X-Amz-Signature=")[2]
    for secret in (signature, seaweedfs.secret_key, seaweedfs.access_key):
        assert secret not in written
