"""The part `docker` of `manage.py doctor`: the engine, the image, and a container that really reads and writes."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, cast

from django.core.files.storage import storages

from assets import checks
from assets.ids import new_id
from assets.workflows import DockerExecution, ExecutionError, Task
from assets.workflows.execution import Launch, LogTail
from assets.workflows.execution_folders import Claim, run_folders
from assets.workflows.mounts import Input, Layout
from storagecache.capabilities import Pingable
from storagecache.doctor.registry import DOCKER_ACCESS, Level, Outcome, failed, ok, part
from storagecache.environment import Environment
from storagecache.errors import StorageError

_SECONDS: Final = 45.0  # for the container
_ENGINE_SECONDS: Final = 10.0  # for an answer of the engine
_SCRIPT: Final = """
import sys
open("/workspace/outputs/doctor", "w").close()
for path in sys.argv[2:]:
    if open(path).read() != sys.argv[1]: sys.exit(path + " holds something else")
"""


@part("docker", seconds=90)
def try_docker(environment: Environment) -> Iterator[Outcome]:
    """Try what docker jobs need, where any are likely to run."""
    if not (environment.job_execution_strategy == "docker" or environment.docker_image or environment.docker_host):
        yield ok("jobs run in containers", f"no: JOB_EXECUTION_STRATEGY is {environment.job_execution_strategy}")
        return
    execution = DockerExecution()
    yield (engine := _attempt("the container engine answers", lambda: _ask_engine(execution)))
    yield from _mounts(environment)
    if engine.level is Level.FAILED:
        return
    yield (image := _attempt("the image of docker jobs is there", lambda: _ask_image(execution)))
    if image.level is not Level.FAILED:
        yield _attempt("a container reads assets and writes its workspace", lambda: _run(environment, execution))


def _attempt(tried: str, verb: Callable[[], str]) -> Outcome:
    try:
        return ok(tried, verb())
    except ExecutionError as error:
        return failed(tried, error.problem, error.remedy, trouble=DOCKER_ACCESS)
    except (OSError, StorageError) as error:
        remedy = "Mend what it names: the folders of assets and workspaces."
        return failed(tried, str(error), remedy, trouble=DOCKER_ACCESS)


def _ask_engine(execution: DockerExecution) -> str:
    client = execution.connect(seconds=_ENGINE_SECONDS)
    try:
        return f"version {client.version().get('Version', 'unknown')}"
    finally:
        client.close()


def _ask_image(execution: DockerExecution) -> str:
    client = execution.connect(seconds=_ENGINE_SECONDS)
    try:
        return execution.find_image(client)
    finally:
        client.close()


def _mounts(environment: Environment) -> Iterator[Outcome]:
    tried = "the user of containers may read what is mounted"
    messages = list(checks.findings(environment))
    for message in messages:
        yield failed(tried, f"{message.msg} ({message.id})", message.hint or "", trouble=DOCKER_ACCESS)
    if not messages:
        yield ok(tried)


def _run(environment: Environment, execution: DockerExecution) -> str:
    """Run a container as a job's, with a new file of the asset folder as its input."""
    secret, claim = secrets.token_hex(16), Claim.take(new_id())
    try:
        with (
            _marker(environment, secret) as inputs,
            run_folders(claim, None, None, execution.owner()) as layout,
        ):
            code, log = _start(environment, execution, claim, layout, inputs, secret)
    finally:
        claim.release()
    if code != 0:
        last = log.text().strip().splitlines()[-1:] or ["it said nothing"]
        problem = f"The container ended with {code}: {last[0]}."
        raise ExecutionError(problem, "Let the engine see the asset folder under the path that the service uses.")
    return "as docker jobs do"


def _start(
    environment: Environment,
    execution: DockerExecution,
    claim: Claim,
    layout: Layout,
    inputs: tuple[Input, ...],
    secret: str,
) -> tuple[int | None, LogTail]:
    plan = execution.plan(environment, layout, inputs, ())
    command = (execution.python, "-c", _SCRIPT, secret, *plan.paths.values())
    task, log = Task(command=command, time_limit=_SECONDS), LogTail()
    launch = Launch(job_id=claim.job_id.hex, task=task, layout=layout, plan=plan, variables=dict(plan.variables))
    running = execution.start(launch, log)
    try:
        return running.wait(_SECONDS), log
    finally:
        running.kill()
        running.close()


@contextmanager
def _marker(environment: Environment, secret: str) -> Iterator[tuple[Input, ...]]:
    """Put a file into the asset folder, readable as objects are; with S3 there is none to see."""
    if environment.storage_kind != "filesystem":
        yield ()
        return
    cast(Pingable, storages["assets"]).check_ready()  # a folder that was never used is made now
    path = Path(environment.asset_folder) / f".doctor-{secrets.token_hex(8)}"
    path.write_text(secret, encoding="ascii")
    try:
        path.chmod(0o444)
        yield (
            Input(
                id="0" * 32,
                name=path.name,
                key=path.name,
                sha256="",
                content_type="text/plain",
                size=len(secret),
                local_path=str(path),
            ),
        )
    finally:
        with suppress(OSError):
            path.unlink()
