"""What a container may and may not, on a real engine; and what is said when engine, image or folders are wrong."""

from __future__ import annotations

import contextlib
import json
import os
import socketserver
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User

from assets.models import Job
from assets.workflows import DockerExecution, Task, run_job, start_job
from assets.workflows.execution import ExecutionError, Owner
from assets.workflows.execution_docker import check_mounts
from assets.workflows.mounts import Mount, MountPlan
from tests.roles import ChangeEnvironment
from tests.workflows.conftest import CODE, NODES, Place, make_asset, make_place


def task(name: str, **options: Any) -> Task:
    """Make a task of one of the nodes."""
    return Task(**{"callable": f"{NODES}:{name}", "code": CODE, "time_limit": 60.0} | options)


def test_container_is_confined(place: Place, owner: User, docker: DockerExecution) -> None:
    report = run_job(task("try_to_break_out"), user=owner, execution=docker).check()
    assert report.result == {
        "root": False, "assets": False, "manifest": False, "control": False, "network": False, "interfaces": ["lo"],
        "capabilities": "0000000000000000", "no_new_privileges": "1", "scratch": True, "tmp": True,
    }  # fmt: skip


def test_container_in_token_mode_sees_its_inputs_and_nothing_else(
    request: pytest.FixtureRequest, tmp_path: Path, settings: Any, owner: User, stranger: User, docker: DockerExecution
) -> None:
    make_place("filesystem", "token", request, tmp_path, settings)
    make_asset(stranger, "theirs.txt", b"theirs")
    mine = make_asset(owner, "mine.txt", b"mine")
    report = run_job(task("look_around", inputs=(mine.pk,)), user=owner, execution=docker).check()
    assert mine.object is not None
    assert isinstance(report.result, dict)
    assert report.result["seen"]["/assets"] == [mine.object.key.partition("/")[0]]
    assert report.result["uid"] != 0


def test_container_with_many_inputs_sees_them_all(
    request: pytest.FixtureRequest, tmp_path: Path, settings: Any, owner: User, docker: DockerExecution
) -> None:
    """Each input is a mount of its own where several users share the asset folder."""
    make_place("filesystem", "token", request, tmp_path, settings)
    made = [make_asset(owner, f"{number}.txt", b"%d" % number) for number in range(120)]
    report = run_job(task("add_up", inputs=tuple(asset.pk for asset in made)), user=owner, execution=docker).check()
    assert report.result == sum(range(120))


def test_container_over_its_memory_is_killed_and_says_so(place: Place, owner: User, docker: DockerExecution) -> None:
    report = run_job(task("eat_memory"), user=owner, execution=replace(docker, memory="64m"))
    assert (report.job.state, report.job.exit_code) == ("failed", 137)
    assert "DOCKER_MEM_LIMIT" in report.job.log_tail


def test_container_gets_its_limits(place: Place, owner: User, docker: DockerExecution) -> None:
    import docker as library

    client, said = library.DockerClient(base_url=docker.url), threading.Event()
    handle = start_job(task("spin"), user=owner, execution=replace(docker, cpus=0.5), on_log=lambda _: said.set())
    assert said.wait(30)
    host = client.containers.get(f"nodetool-{handle.job_id}").attrs["HostConfig"]
    handle.cancel()
    handle.wait(30)
    client.close()
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (256 << 20, 500_000_000, 512)
    assert (host["ReadonlyRootfs"], host["NetworkMode"]) == (True, "none")


def test_root_in_a_container_is_refused(place: Place, owner: User) -> None:
    report = run_job(task("say"), user=owner, execution=DockerExecution(user=Owner(0, 0), image="test:1"))
    assert "cannot run as root" in report.job.error


def test_missing_engine_is_told_with_the_remedy(place: Place, owner: User) -> None:
    missing = f"unix://{place.folder}/no.sock"
    report = run_job(task("say"), user=owner, execution=DockerExecution(url=missing, image="test:1"))
    assert report.job.state == "failed"
    assert report.job.error.startswith(f"No Docker engine answers at {missing}")
    assert "DOCKER_HOST" in report.job.error
    assert report.job.error.endswith("See docs/troubleshooting.md.")


@pytest.mark.parametrize(
    ("image", "said"), [("no-such:1", "The image no-such:1 is not there."), (None, "No image is named")]
)
def test_missing_image_is_told_with_the_remedy(
    place: Place, owner: User, docker: DockerExecution, image: str | None, said: str
) -> None:
    report = run_job(task("say"), user=owner, execution=replace(docker, image=image))
    assert said in report.job.error
    assert "DOCKER_IMAGE" in report.job.error


def test_unreadable_asset_folder_is_told_with_the_remedy(place: Place, owner: User, docker: DockerExecution) -> None:
    (place.folder / "assets").chmod(0o700)
    report = run_job(task("say"), user=owner, execution=replace(docker, user=Owner(1234, 1234)))
    assert f"Docker jobs run as user 1234 and cannot read {place.folder}/assets" in report.job.error
    assert "chmod o+rX" in report.job.error


def test_missing_folder_of_nodes_is_told_with_the_remedy(
    place: Place, owner: User, docker: DockerExecution, change_environment: ChangeEnvironment
) -> None:
    change_environment(
        font_path=place.folder / "fonts", workspace_path=place.folder / "w", asset_storage="filesystem",
        asset_folder_path=place.folder / "assets",
    )  # fmt: skip
    report = run_job(task("say"), user=owner, execution=docker)
    assert f"Docker jobs cannot access /fonts: {place.folder}/fonts: No such file or directory" in report.job.error


def test_workspace_of_another_owner_is_told_with_the_remedy(place: Place, owner: User, docker: DockerExecution) -> None:
    workspace = place.folder / "mine"
    workspace.mkdir(mode=0o755)
    chosen = replace(docker, user=Owner(1234, 1234))
    report = run_job(task("say"), user=owner, execution=chosen, workspace=str(workspace))
    assert f"cannot write {workspace}" in report.job.error
    assert "chown 1234" in report.job.error
    assert Job.objects.get().state == "failed"


def test_container_has_a_network_when_it_asks(place: Place, owner: User, docker: DockerExecution) -> None:
    for network in (True, False):
        report = run_job(task("try_to_break_out", network=network), user=owner, execution=docker).check()
        assert isinstance(report.result, dict)
        assert (report.result["interfaces"] != ["lo"]) is network


def test_program_that_is_not_in_the_image_is_told(place: Place, owner: User, docker: DockerExecution) -> None:
    command = ("/no/such/program",)
    report = run_job(Task(command=command), user=owner, execution=docker)
    assert report.job.state == "failed"
    assert "The engine cannot start the container" in report.job.error


@contextlib.contextmanager
def engine_without_gpus() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Run an engine that knows every image and refuses to make a container; gives its URL and what it was told."""
    told: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_known = "/containers/" not in self.path
            self._answer(200 if is_known else 404, {"ApiVersion": "1.41", "Id": "sha256:1", "message": "not here"})

        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self._answer(500, {"message": "could not select device driver"})

        def _answer(self, status: int, value: dict[str, Any]) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with contextlib.ExitStack() as opened:
        folder = opened.enter_context(tempfile.TemporaryDirectory())  # the path of a socket is short
        server = opened.enter_context(socketserver.ThreadingUnixStreamServer(f"{folder}/s", Handler))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"unix://{folder}/s", told
        server.shutdown()


@pytest.mark.parametrize(
    ("devices", "wanted"),
    [(("all",), [(-1, None)]), (("0", "GPU-7f"), [(0, ["0", "GPU-7f"])]), ((), [])],
    ids=["all", "ids", "none"],
)
def test_gpus_are_asked_for_and_a_refusal_is_told(
    place: Place, owner: User, change_environment: ChangeEnvironment, devices: tuple[str, ...], wanted: list[Any]
) -> None:
    change_environment(docker_gpu_devices=devices, docker_image="test:1")
    with engine_without_gpus() as (url, told):
        report = run_job(task("say"), user=owner, execution=DockerExecution(url=url))
    (asked,) = told
    requests = asked["HostConfig"].get("DeviceRequests") or []
    assert [(each["Count"], each["DeviceIDs"] or None) for each in requests] == wanted
    assert all(each["Capabilities"] == [["gpu"]] for each in requests)
    assert "The engine cannot start the container: could not select device driver." in report.job.error


@pytest.mark.parametrize(
    ("mode", "owner_id", "writable", "allowed"),
    [(0o755, 0, False, True), (0o700, 0, False, False), (0o700, 7, True, True), (0o755, 0, True, False),
     (0o777, 0, True, True), (0o077, 7, False, False)],
)  # fmt: skip
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give folders away")
def test_mounts_are_judged_as_the_kernel_would(
    tmp_path: Path, mode: int, owner_id: int, writable: bool, allowed: bool
) -> None:
    os.chown(tmp_path, owner_id, 0)
    tmp_path.chmod(mode)
    plan = MountPlan(mounts=(Mount(str(tmp_path), "/x", writable=writable),))
    if allowed:
        check_mounts(plan, Owner(7, 7))
    else:
        with pytest.raises(ExecutionError):
            check_mounts(plan, Owner(7, 7))
