"""The service is killed while a job runs: nothing of the job outlives it, and the next start says it is lost."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.manage import PROJECT, Manage
from tests.servers import ContainerEngine

SECONDS = 30  # a generous bound of what takes one


@contextlib.contextmanager
def parent(manage: Manage, strategy: str, **variables: str) -> Iterator[tuple[subprocess.Popen[str], str, list[int]]]:
    """Start a service with a job; gives it, the id of the job and the processes that the job tells."""
    _, environment = manage.how(DJANGO_SETTINGS_MODULE="nodetool_site.settings", **variables)
    command = [sys.executable, "-m", "tests.workflows.parent", strategy, "family"]
    with subprocess.Popen(command, env=environment, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            told = sorted((process.stdout.readline(), process.stdout.readline()), key=lambda line: line.startswith("["))
            yield process, told[0].strip(), json.loads(told[1])
        finally:
            process.kill()


def wait_until(done: Callable[[], bool]) -> None:
    """Poll what another process does."""
    deadline = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < deadline, "still there"
        time.sleep(0.02)  # a poll of other processes, not a wait for a time


def recover(manage: Manage, **variables: str) -> list[Any]:
    """Start again: recover; gives the states of the jobs."""
    code = (
        "from assets.workflows import recover_jobs; from assets.models import Job; recover_jobs();"
        "print([(job.pk.hex, job.state) for job in Job.objects.all()])"
    )
    answer = manage("shell", "-v0", "-c", code, **variables)
    assert answer.returncode == 0, answer.stderr
    return list(eval(answer.stdout.strip().splitlines()[-1]))


def test_killed_service_takes_every_process_of_a_subprocess_job_along(manage: Manage) -> None:
    assert manage("prepare").returncode == 0
    with parent(manage, "subprocess") as (process, job_id, family):
        assert len(family) == 2
        assert all(Path(f"/proc/{pid}").exists() for pid in family)
        process.kill()
        process.wait()
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family))
    assert recover(manage) == [(job_id, "lost")]
    assert [path.name for path in (manage.folder / "workspaces/.runs").iterdir()] == [".gate"]


def test_killed_keeper_takes_the_job_along(manage: Manage) -> None:
    assert manage("prepare").returncode == 0
    with parent(manage, "subprocess") as (process, _, family):
        keeper = int(Path(f"/proc/{family[0]}/stat").read_text().rpartition(")")[2].split()[1])
        assert f"{process.pid}" == Path(f"/proc/{keeper}/stat").read_text().rpartition(")")[2].split()[1]
        subprocess.run(["kill", "-9", str(keeper)], check=True)
        wait_until(lambda: not Path(f"/proc/{family[0]}").exists())


def test_killed_service_takes_its_container_along(manage: Manage, container_engine: ContainerEngine) -> None:
    import docker

    where = {"DOCKER_HOST": container_engine.url, "DOCKER_IMAGE": "test:1", "DOCKER_MEM_LIMIT": "256m"}
    assert manage("prepare").returncode == 0
    client = docker.DockerClient(base_url=container_engine.url)
    with contextlib.closing(client), parent(manage, "docker", **where) as (process, job_id, _):
        named = {"name": f"nodetool-{job_id}"}
        assert len(client.containers.list(filters=named)) == 1
        process.kill()
        process.wait()
        # Without asking for each by its id: podman answers 500 when it went meanwhile.
        wait_until(lambda: not client.api.containers(all=True, filters=named))
    assert recover(manage, **where) == [(job_id, "lost")]


def test_engine_that_dies_fails_the_job_and_lets_the_service_go_on(
    manage: Manage, container_engine: ContainerEngine
) -> None:
    where = {"DOCKER_HOST": container_engine.url, "DOCKER_IMAGE": "test:1", "DOCKER_MEM_LIMIT": "256m"}
    assert manage("prepare").returncode == 0
    with parent(manage, "docker", **where) as (process, job_id, _):
        container_engine.server.stop()
        try:
            said = process.communicate(timeout=90)[0]
        finally:
            container_engine.server.start()
    assert process.returncode == 0
    assert "The engine lost the container" in said
    assert "folders" not in said  # which have nothing to do with it
    assert recover(manage, JOB_EXECUTION_STRATEGY="docker", **where) == [(job_id, "failed")]


@pytest.mark.parametrize("other_service", [False, True], ids=["own", "of another service"])
def test_leftover_container_is_removed_at_the_next_start(
    manage: Manage, container_engine: ContainerEngine, other_service: bool
) -> None:
    import docker

    from assets.workflows.execution_docker import JOB_LABEL, SERVICE_LABEL

    where = {"DOCKER_HOST": container_engine.url, "JOB_EXECUTION_STRATEGY": "docker"}
    assert manage("prepare").returncode == 0
    code = "from assets.workflows import execution_docker; print(execution_docker._service())"
    service = manage("shell", "-v0", "-c", code).stdout.split()[-1]
    client = docker.DockerClient(base_url=container_engine.url)
    with contextlib.closing(client):
        labels = {JOB_LABEL: "0" * 32, SERVICE_LABEL: "another" if other_service else service}
        left = client.containers.create("test:1", ["python3"], labels=labels, network_mode="none")
        recover(manage, **where)
        kept = [each.id for each in client.containers.list(all=True)]
        assert (left.id in kept) is other_service
        if other_service:
            left.remove(force=True)
