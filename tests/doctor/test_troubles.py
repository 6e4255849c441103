"""Every line of the Troubleshooting chapter of the storage guide, provoked for real: the doctor names it."""

from __future__ import annotations

import http.server
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from storagecache.doctor import web
from tests.doctor.conftest import Doctor, is_root
from tests.servers import ContainerEngine, SeaweedServer

NOBODY = 65534
URLS, KEYS, PERMISSIONS, DOCKER = (
    "Missing asset URLs", "S3 authentication errors", "Local file permissions", "Docker jobs cannot access assets",
)  # fmt: skip


class OtherSite(http.server.BaseHTTPRequestHandler):
    """Not this service."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def other_site() -> Iterator[str]:
    """Give the address of another service."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), OtherSite) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_host_of_the_api_url_that_nobody_knows_is_a_missing_url(doctor: Doctor) -> None:
    report = doctor(NODETOOL_API_URL="http://no-such-host.invalid")
    (line,) = report.bad("addresses")
    assert (line["status"], line["trouble"], report.code) == ("failed", URLS, 1)
    assert "no-such-host.invalid" in line["detail"]
    assert "NODETOOL_API_URL" in line["remedy"]


def test_api_url_of_another_service_is_a_missing_url(doctor: Doctor, other_site: str) -> None:
    report = doctor(NODETOOL_API_URL=other_site)
    (line,) = report.bad("addresses")
    assert (line["status"], line["trouble"], report.code) == ("failed", URLS, 1)
    assert "Something else answers" in line["detail"]


def test_api_url_that_is_not_set_for_other_machines_is_a_missing_url(doctor: Doctor) -> None:
    report = doctor(HOST="0.0.0.0", AUTH_PROVIDER="token", ALLOWED_HOSTS="files.example.org")
    (line,) = report.bad("configuration")
    assert (line["status"], line["trouble"]) == ("warning", URLS)
    assert "Set NODETOOL_API_URL" in line["remedy"]


def test_service_that_does_not_run_is_only_a_warning(doctor: Doctor) -> None:
    report = doctor(PORT="1")
    assert report.code == 0
    assert [line["status"] for line in report.bad()] == ["warning"]


def test_asset_domain_that_nobody_knows_is_a_missing_url(doctor: Doctor, s3_variables: dict[str, str]) -> None:
    report = doctor(ASSET_DOMAIN="no-such-host.invalid", **s3_variables)
    lines = report.bad("s3")
    assert [(line["status"], line["trouble"]) for line in lines] == [("failed", URLS)]
    assert "ASSET_DOMAIN" in lines[0]["remedy"]
    assert "ASSET_DOMAIN" in report.bad("addresses")[-1]["tried"]


def test_asset_domain_that_is_something_else_is_a_missing_url(
    doctor: Doctor, s3_variables: dict[str, str], other_site: str
) -> None:
    (line,) = doctor(ASSET_DOMAIN=other_site, **s3_variables).bad("s3")
    assert (line["status"], line["trouble"]) == ("failed", URLS)


@contextmanager
def proxy_with_its_own_name(upstream: str) -> Iterator[str]:
    """Run a proxy before a bucket which tells the server another Host than the client asked for."""

    class Proxy(OtherSite):
        def do_GET(self) -> None:
            reply = web.get(upstream + self.path)
            self.send_response(reply.status)
            self.end_headers()
            self.wfile.write(reply.body)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_domain_whose_proxy_changes_the_host_is_an_s3_authentication_error(
    doctor: Doctor, s3_variables: dict[str, str]
) -> None:
    with proxy_with_its_own_name(s3_variables["S3_ENDPOINT_URL"]) as domain:
        (line,) = doctor(ASSET_DOMAIN=domain, **s3_variables).bad("s3")
    assert (line["status"], line["trouble"]) == ("failed", KEYS)
    assert "answered 403 SignatureDoesNotMatch" in line["detail"]
    assert "hand on the Host" in line["remedy"]


@pytest.mark.parametrize(
    ("wrong", "detail", "remedy"),
    [
        ({"S3_SECRET_ACCESS_KEY": "canary-wrong"}, "secret key does not belong", "Correct S3_SECRET_ACCESS_KEY"),
        ({"S3_ACCESS_KEY_ID": "canary-wrong"}, "knows no such access key", "Correct S3_ACCESS_KEY_ID"),
        ({"S3_ACCESS_KEY_ID": "", "S3_SECRET_ACCESS_KEY": ""}, "There are no keys", "Set S3_ACCESS_KEY_ID"),
    ],
    ids=["secret", "id", "none"],
)
def test_wrong_keys_are_an_s3_authentication_error(
    doctor: Doctor, s3_variables: dict[str, str], wrong: dict[str, str], detail: str, remedy: str
) -> None:
    report = doctor(**s3_variables | wrong)
    (line,) = report.bad("s3")
    assert (line["status"], line["trouble"], report.code) == ("failed", KEYS, 1)
    assert detail in line["detail"]
    assert line["remedy"].startswith(remedy)
    assert "settings show --secrets" in line["remedy"]
    assert "canary-wrong" not in report.text


def test_half_of_the_keys_are_an_s3_authentication_error(doctor: Doctor, s3_variables: dict[str, str]) -> None:
    report = doctor(**s3_variables | {"S3_SECRET_ACCESS_KEY": ""})
    assert report.bad("configuration")[0]["trouble"] == KEYS
    assert report.code == 1


@pytest.mark.skipif(not is_root(), reason="needs root to give folders away")
@pytest.mark.parametrize("name", ["ASSET_FOLDER", "TEMP_FOLDER", "WORKSPACE_DIR"])
def test_folder_of_another_user_is_a_permission(doctor: Doctor, tmp_path: Path, name: str) -> None:
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    for path in [doctor.manage.folder, *doctor.manage.folder.rglob("*")]:
        os.chown(path, NOBODY, NOBODY)
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o755)
    report = doctor.as_user(NOBODY, **{name: str(theirs)})
    line = report.bad("folders")[0]
    assert (line["status"], line["trouble"], report.code) == ("failed", PERMISSIONS, 1)
    assert "belongs to user 0 (mode 0755); this is user 65534" in line["detail"]
    assert line["remedy"].startswith(f"Run `chown -R {NOBODY} {theirs}")
    if name != "WORKSPACE_DIR":
        assert report.bad("configuration")[0]["trouble"] == PERMISSIONS


@pytest.mark.skipif(not is_root(), reason="needs root to give folders away")
def test_folder_that_was_mended_as_told_is_well(doctor: Doctor, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    for path in [doctor.manage.folder, *doctor.manage.folder.rglob("*")]:
        os.chown(path, NOBODY, NOBODY)
    assert doctor.as_user(NOBODY).bad("folders", "database", "configuration") == []


def test_engine_that_is_not_there_is_told_for_docker_jobs(doctor: Doctor, tmp_path: Path) -> None:
    missing = f"unix://{tmp_path}/no.sock"
    report = doctor(JOB_EXECUTION_STRATEGY="docker", DOCKER_HOST=missing)
    (line,) = report.bad("docker")
    assert (line["status"], line["trouble"], report.code) == ("failed", DOCKER, 1)
    assert line["detail"].startswith(f"No Docker engine answers at {missing}")
    assert "DOCKER_HOST" in line["remedy"]


def test_engine_that_hangs_ends_in_time(doctor: Doctor, container_engine: ContainerEngine) -> None:
    with container_engine.server.paused():
        report = doctor(DOCKER_HOST=container_engine.url)
    (line,) = report.bad("docker")
    assert (line["status"], line["trouble"]) == ("failed", DOCKER)
    assert "No Docker engine answers" in line["detail"]


@pytest.mark.skipif(not is_root(), reason="containers run as the user of the service unless that is root")
def test_asset_folder_that_containers_cannot_read_is_told(
    doctor: Doctor, tmp_path: Path, container_engine: ContainerEngine
) -> None:
    (doctor.manage.folder / "assets").mkdir(exist_ok=True)
    (doctor.manage.folder / "assets").chmod(0o700)
    report = doctor(JOB_EXECUTION_STRATEGY="docker", DOCKER_HOST=container_engine.url, DOCKER_IMAGE="test:1")
    lines = report.bad("docker")
    assert {line["trouble"] for line in lines} == {DOCKER}
    assert "Docker jobs run as user 65534 and cannot read" in lines[0]["detail"]
    assert "chmod o+rX" in lines[0]["remedy"]
    assert report.code == 1


def test_folder_of_nodes_that_is_not_there_is_told(
    doctor: Doctor, tmp_path: Path, container_engine: ContainerEngine
) -> None:
    report = doctor(
        JOB_EXECUTION_STRATEGY="docker", DOCKER_HOST=container_engine.url, DOCKER_IMAGE="test:1",
        FONT_PATH=str(tmp_path / "fonts"),
    )  # fmt: skip
    assert "Docker jobs cannot access /fonts" in report.bad("docker")[0]["detail"]


@pytest.mark.parametrize("auth", ["local", "token"])
def test_container_that_sees_a_new_asset_is_well(
    doctor: Doctor, tmp_path: Path, container_engine: ContainerEngine, auth: str
) -> None:
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    variables = {"JOB_EXECUTION_STRATEGY": "docker", "DOCKER_HOST": container_engine.url, "AUTH_PROVIDER": auth}
    report = doctor(DOCKER_IMAGE="test:1", **variables)
    assert report.bad("docker") == []
    assert report.of("docker")[-1]["tried"] == "a container reads assets and writes its workspace"
    assert not [path for path in doctor.manage.folder.rglob("*") if "doctor" in path.name]
    missing = doctor(DOCKER_IMAGE="no-such:1", **variables).bad("docker")
    assert [line["detail"] for line in missing] == ["The image no-such:1 is not there."]


def test_engine_of_s3_jobs_needs_no_asset_folder(
    doctor: Doctor, tmp_path: Path, container_engine: ContainerEngine, s3_variables: dict[str, str],
    seaweedfs: SeaweedServer,
) -> None:  # fmt: skip
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    report = doctor(DOCKER_HOST=container_engine.url, DOCKER_IMAGE="test:1", **s3_variables)
    assert report.bad("docker", "s3") == []
