"""The files of deploy/ against each other, the documentation and the programs that read them."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from nodetool_site.healthcheck import is_healthy
from nodetool_site.supervisor import StartError, programs
from storagecache.environment import Environment
from tests.deploy.nginx import DEPLOY, checked, written
from tests.server.processes import PROJECT, free_port, listens
from tests.server.service import serving
from tests.server.wire import connected, request
from tests.servers import Server

VARIABLES = {variable.name for variable in Environment.variables().values()} | {"NODETOOL_CONFIG_DIR"}
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
OTHERS = {"POSTGRES_PASSWORD", "HTTP_PORT"}  # of Compose and its other containers
PLACEHOLDER = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def example() -> dict[str, str]:
    lines = (DEPLOY / "env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def interpolated(text: str, values: dict[str, str]) -> str:
    """Fill in as Compose does; what is required and empty is an error."""

    def value(found: re.Match[str]) -> str:
        name, rule, default = found.groups()
        assert values.get(name) or rule != "?", name
        return values.get(name) or (default if rule == "-" else "")

    return PLACEHOLDER.sub(value, text)


def filled() -> dict[str, str]:
    required = {found[0] for found in PLACEHOLDER.findall((DEPLOY / "compose.yaml").read_text()) if found[1] == "?"}
    return {name: value or ("Secret0123456789" * 4 if name in required else "") for name, value in example().items()}


def test_compose_has_the_whole_topology() -> None:
    assert COMPOSE["services"].keys() == {"web", "worker", "nginx", "postgres", "memcached", "seaweedfs"}
    for name in ("web", "worker"):
        assert {"workspace:/workspace", "assets:/assets"} <= set(COMPOSE["services"][name]["volumes"])
    named = {volume.split(":")[0] for service in COMPOSE["services"].values() for volume in service.get("volumes", [])}
    assert {name for name in named if not name.startswith(".")} == COMPOSE["volumes"].keys()
    assert all((DEPLOY / name).exists() for name in named if name.startswith("."))


def test_compose_waits_only_for_services_that_tell_when_they_are_ready() -> None:
    for service in COMPOSE["services"].values():
        for other, how in service.get("depends_on", {}).items():
            has_check = "healthcheck" in COMPOSE["services"][other] or other == "web"  # whose check is the image's
            assert how["condition"] != "service_healthy" or has_check


def test_nginx_is_started_anew_with_the_web_processes_whose_addresses_it_looks_up_once() -> None:
    assert "resolver" not in (DEPLOY / "nginx.conf").read_text()
    assert COMPOSE["services"]["nginx"]["depends_on"]["web"]["restart"] is True


@pytest.mark.parametrize("name", ["web", "worker"])
def test_compose_gives_the_service_documented_variables_only(name: str) -> None:
    service = COMPOSE["services"][name]
    assert set(service["environment"]) <= VARIABLES
    (program,) = programs(*service["command"])
    assert program.name == name


def test_compose_and_example_name_the_same_variables() -> None:
    asked = {found[0] for found in PLACEHOLDER.findall((DEPLOY / "compose.yaml").read_text())}
    assert asked == set(example())
    assert asked <= VARIABLES | OTHERS


def test_example_that_is_filled_in_makes_a_service_that_starts(tmp_path: Path) -> None:
    service = COMPOSE["services"]["web"]["environment"]
    values = {name: interpolated(str(text), filled()) for name, text in service.items()}
    process = values | {"NODETOOL_CONFIG_DIR": str(tmp_path), "HOST": "0.0.0.0"}
    made = Environment.load(process, project_folder=tmp_path, under_pytest=False)
    assert (made.env, made.storage_kind, made.auth) == ("production", "s3", "token")
    assert made.memcache_servers == (("memcached", 11211),)


def test_example_that_is_not_filled_in_is_refused_by_compose() -> None:
    missing = {name for name, value in example().items() if not value} - {"METRICS_TOKEN", "ASSET_DOMAIN"}
    missing -= {"ACCEL_REDIRECT"}
    required = {found[0] for found in PLACEHOLDER.findall((DEPLOY / "compose.yaml").read_text()) if found[1] == "?"}
    assert missing <= required


def test_s3_server_is_told_the_keys_of_the_service() -> None:
    told = json.loads(interpolated(COMPOSE["configs"]["s3"]["content"], filled()))
    (credentials,) = told["identities"][0]["credentials"]
    assert credentials == {
        "accessKey": filled()["S3_ACCESS_KEY_ID"],
        "secretKey": filled()["S3_SECRET_ACCESS_KEY"],
    }


def test_images_of_others_are_pinned() -> None:
    images = [service["image"] for service in COMPOSE["services"].values() if "build" not in service]
    assert all(re.search(r":\d[\w.-]*$", image) for image in images)


def test_nginx_accepts_its_configuration(tmp_path: Path) -> None:
    command = written(tmp_path, port=free_port(), backends=[1, 2], assets=tmp_path)
    assert "test is successful" in checked(command)


def test_body_beyond_any_upload_is_refused_by_nginx_before_it_is_buffered(tmp_path: Path) -> None:
    port, longest, form = free_port(), 5 << 30, 4 << 20
    nginx = Server(
        written(tmp_path, port=port, backends=[free_port()], assets=tmp_path), tmp_path, lambda: listens(port)
    )
    nginx.start()
    try:
        with connected(port) as wire:
            wire.send(request("PUT", "/storage/assets/x", f"Content-Length: {longest * 2}"))
            answer = wire.answer()
            assert answer.status == 413
            answer.detail()
        with connected(port) as wire:  # the largest that the service takes is asked for
            wire.send(request("POST", "/api/assets", f"Content-Length: {longest + form}", "Expect: 100-continue"))
            assert wire.head() == 100
    finally:
        nginx.stop()


def test_headers_that_nginx_hands_on_are_the_documented_ones() -> None:
    pattern = re.compile(r"^\s*((?:etag|add_header) .*;)$", re.MULTILINE)
    documented = pattern.findall((PROJECT / "docs" / "operations.md").read_text())
    assert pattern.findall((DEPLOY / "objects.conf").read_text()) == documented


def test_image_is_not_root_has_a_health_check_and_copies_what_exists() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    words = [line.split() for line in lines if line and not line.startswith((" ", "#"))]
    users = [line[1] for line in words if line[0] == "USER"]
    assert users == ["10001:10001"]
    assert "HEALTHCHECK" in {line[0] for line in words}
    copied = [name for line in words if line[0] == "COPY" and "--from=packages" not in line for name in line[1:-1]]
    assert all((PROJECT / name).exists() for name in copied)
    allowed = {line[1:] for line in (PROJECT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(copied) == allowed
    set_in_image = re.findall(r"\b([A-Z_]+)=", "\n".join(lines).partition("ENV PATH=")[2].partition("WORKDIR")[0])
    assert set(set_in_image) - {"PYTHONUNBUFFERED"} <= VARIABLES


@pytest.mark.skipif(sys.platform != "linux", reason="watches the processes through /proc")
def test_files_of_the_image_are_all_that_the_service_needs(tmp_path: Path) -> None:
    words = [line.split() for line in (DEPLOY / "Dockerfile").read_text().splitlines()]
    image = tmp_path / "app"
    for line in words:
        if line[:1] == ["COPY"] and line[-1].startswith("/app/"):
            source = PROJECT / line[1]
            target = image / line[-1].removeprefix("/app/")
            shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, _made(target))
    with serving(tmp_path / "data", project=image) as service:
        assert service.ask("PUT", "/storage/assets/a.txt", body=b"from an image").status == 201
        assert service.ask("GET", "/storage/assets/a.txt").body == b"from an image"
        assert json.loads(service.ask("GET", "/readyz").body)["status"] == "ok"
        assert service.ask("GET", "/admin/login/").status == 200


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_documentation_names_files_and_commands_that_exist() -> None:
    text = (PROJECT / "docs" / "deployment.md").read_text()
    for name in re.findall(r"deploy/[\w.]+", text):
        assert name == "deploy/.env" or (PROJECT / name).exists(), name
    assert set(re.findall(r"`([A-Z][A-Z0-9_]{3,})=?", text)) - {"SIGTERM", "POST"} <= VARIABLES | OTHERS


def test_program_of_an_unknown_name_is_refused() -> None:
    assert [program.name for program in programs()] == ["web", "worker"]
    with pytest.raises(StartError, match="'wep'"):
        programs("wep")


def test_healthcheck_tells_whether_the_service_answers(tmp_path: Path) -> None:
    chosen = {"ENV": "production", "SECRET_KEY": "k" * 50, "ALLOWED_HOSTS": ".example.org", "HOST": "0.0.0.0"}
    storage = {"ASSET_STORAGE": "filesystem"}
    port = str(free_port())
    variables = chosen | storage | {"NODETOOL_CONFIG_DIR": str(tmp_path / "config")}
    dead = Environment.load(variables | {"PORT": port}, under_pytest=False)
    assert not is_healthy(dead)
    with serving(tmp_path, **chosen, **storage) as service:
        alive = Environment.load(variables | {"PORT": str(service.port)}, under_pytest=False)
        assert is_healthy(alive)
        foreign = Environment.load(
            variables | {"PORT": str(service.port), "ALLOWED_HOSTS": "other"}, under_pytest=False
        )
        assert not is_healthy(foreign)
