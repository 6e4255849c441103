"""Jobs: a task is recorded, prepared, run by a strategy, watched, and its outputs are registered. No HTTP leads here.

Rows are written by `assets.services.jobs`; how a job runs is the business of its `Execution`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from django.contrib.auth.models import AbstractBaseUser
from django.core.files.storage import storages
from django.utils import timezone

from assets.ids import new_id
from assets.models import Asset, Job
from assets.services import open_asset, release_connection, storage_for
from assets.services.jobs import JobEnd, finish_job, lose_jobs, note_alive, open_job
from assets.workflows import execution_folders, inside
from assets.workflows.execution import (
    GUIDE,
    Execution,
    ExecutionError,
    Launch,
    LogTail,
    Owner,
    Running,
    ThreadedExecution,
)
from assets.workflows.execution_docker import INSIDE_NAME, DockerExecution
from assets.workflows.execution_subprocess import SubprocessExecution
from assets.workflows.manifest import render_manifest
from assets.workflows.mounts import MANIFEST_NAME, REQUEST_NAME, Input, Layout, MountPlan, fetched_path
from assets.workflows.outputs import Collected, Origin, collect_outputs, read_result
from assets.workflows.tasks import Secret, Task
from storagecache.capabilities import LocalFiles, Pingable
from storagecache.environment import Environment
from storagecache.errors import DigestMismatchError, StorageError

logger = logging.getLogger(__name__)

NOTED_EVERY: Final = 60.0  # seconds between two notes that a job is alive
_BLOCK: Final = 1 << 20


class JobFailedError(RuntimeError):
    """A job that did not succeed; says how it ended and the end of its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobReport:
    """How a job ended: its record, the assets it left and what its callable returned."""

    job: Job
    outputs: tuple[Asset, ...] = ()
    result: object = None  # JSON

    def check(self) -> JobReport:
        """Give this report when the job succeeded.

        Raises:
            JobFailedError
        """
        if self.job.state != Job.State.SUCCEEDED:
            raise JobFailedError(f"Job {self.job.pk.hex} {self.job.state}: {self.job.error}\n{self.job.log_tail}")
        return self


def run_job(
    task: Task,
    *,
    user: AbstractBaseUser,
    execution: Execution | None = None,
    workspace: str | None = None,
    on_log: Callable[[str], None] = lambda line: None,
) -> JobReport:
    """Run a task to its end; see `start_job`."""
    return start_job(task, user=user, execution=execution, workspace=workspace, on_log=on_log).wait()


def start_job(
    task: Task,
    *,
    user: AbstractBaseUser,
    execution: Execution | None = None,
    workspace: str | None = None,
    on_log: Callable[[str], None] = lambda line: None,
) -> JobHandle:
    """Start a task in the background, by default with JOB_EXECUTION_STRATEGY. `workspace` is a folder that is kept.

    `on_log` gets each line the job writes, in a thread of its own.

    Raises:
        ValueError: an input is not there or not this user's, or a secret is not known.
        ExecutionError: the folders of jobs cannot be made.
        BackendUnavailableError: the catalog does not answer.
    """
    inputs = _find_inputs(task, user)
    secrets = resolve_secrets(task.secrets)
    chosen = execution or default_execution()
    claim = execution_folders.Claim.take(new_id())
    try:
        job = open_job(
            claim.job_id, user=user, strategy=chosen.strategy, task=task.title, workflow=task.workflow_id,
            node=task.node_id,
        )  # fmt: skip
    except BaseException:
        claim.release()
        raise
    log = LogTail(on_log, secrets.values())
    run = _Run(
        job=job, claim=claim, task=task, user=user, execution=chosen, workspace=workspace, inputs=inputs, log=log,
        secrets=secrets,
    )  # fmt: skip
    return JobHandle(run)


def default_execution() -> Execution:
    """Give the strategy that JOB_EXECUTION_STRATEGY names."""
    strategies: dict[str, Callable[[], Execution]] = {
        "threaded": ThreadedExecution,
        "subprocess": SubprocessExecution,
        "docker": DockerExecution,
    }
    return strategies[Environment.current().job_execution_strategy]()


def recover_jobs() -> list[str]:
    """Find jobs whose process died: mark them lost, remove their folders and containers. At each start, call this.

    Returns the ids of the jobs that are lost now. A container engine that does not answer is logged.
    """
    execution_folders.remove_leftovers()
    lost = lose_jobs(execution_folders.is_alive)
    has_containers = any(job.strategy == "docker" for job in lost)
    if has_containers or Environment.current().job_execution_strategy == "docker":
        try:
            DockerExecution().remove_leftovers(execution_folders.is_alive)
        except ExecutionError as error:
            logger.warning("leftover containers not removed reason=%s", error)
    return [job.pk.hex for job in lost]


def resolve_secrets(secrets: Iterable[Secret]) -> Mapping[str, str]:
    """Give the values of named secrets.

    Raises:
        ValueError: one has no value, and no secret variable of the service has this name.
    """
    environment = Environment.current()
    own = {variable.name: attribute for attribute, variable in Environment.variables().items() if variable.secret}
    values: dict[str, str] = {}
    for secret in secrets:
        value = secret.value if secret.value is not None else getattr(environment, own.get(secret.name, ""), None)
        if not isinstance(value, str) or not value:
            raise ValueError(f"The secret {secret.name} has no value.")
        values[secret.name] = value
    return values


class JobHandle:
    """A job under way, for the process that started it."""

    def __init__(self, run: _Run) -> None:
        """Start the thread that watches it."""
        self._run = run
        self._thread = threading.Thread(target=run.run, name=f"watch-{run.job.pk.hex}", daemon=True)
        self._thread.start()

    @property
    def job_id(self) -> str:
        """The id of the job, 32 hex digits."""
        return self._run.job.pk.hex

    def cancel(self) -> None:
        """End the job and all it started; returns at once, and does nothing when it has ended."""
        self._run.cancel()

    def wait(self, seconds: float | None = None) -> JobReport:
        """Wait for the end of the job, its outputs registered.

        Raises:
            TimeoutError: it still runs.
        """
        self._thread.join(seconds)
        if self._run.report is None:
            raise TimeoutError(f"Job {self.job_id} still runs.")
        return self._run.report


@dataclass(slots=True, kw_only=True)
class _Run:
    """One run of one job; lives in its watching thread."""

    job: Job
    claim: execution_folders.Claim
    task: Task
    user: AbstractBaseUser
    execution: Execution
    workspace: str | None
    inputs: tuple[Asset, ...]
    log: LogTail
    secrets: Mapping[str, str] = field(repr=False)
    report: JobReport | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)
    running: Running | None = None

    def cancel(self) -> None:
        self.cancelled.set()
        if self.running is not None:
            self.running.kill()

    def run(self) -> None:
        """Run the job and record its end, whatever happens."""
        end, collected, result = JobEnd(Job.State.FAILED), Collected(), None
        try:
            owner = self.execution.owner()
            with execution_folders.run_folders(self.claim, self.workspace, self.task.code, owner) as layout:
                end = self._execute(layout)
                if end.state != Job.State.CANCELLED:
                    collected = collect_outputs(layout.workspace, self._origin())
                    result = _parsed(read_result(layout.workspace))
        except (ExecutionError, StorageError) as error:
            end = JobEnd(Job.State.FAILED, error=str(error))
        except OSError as error:
            end = JobEnd(Job.State.FAILED, error=f"The folders of the job cannot be filled: {error}. See {GUIDE}.")
        except Exception as error:
            logger.exception("job failed id=%s", self.job.pk.hex)
            end = JobEnd(Job.State.FAILED, error=f"{type(error).__name__}: {error}")
        finally:
            self.claim.release()
        self._finish(end, collected, result)

    def _execute(self, layout: Layout) -> JobEnd:
        launch = self._prepare(layout)
        if self.cancelled.is_set():
            return JobEnd(Job.State.CANCELLED)
        self.running = running = self.execution.start(launch, self.log)
        try:
            return self._watch(running)
        finally:
            try:
                running.kill()
            finally:
                running.close()

    def _watch(self, running: Running) -> JobEnd:
        """Wait for the end, the time limit or a cancel; note every minute that the job is alive."""
        deadline = time.monotonic() + self.task.time_limit
        while not self.cancelled.is_set():
            left = deadline - time.monotonic()
            if left <= 0:
                return JobEnd(Job.State.TIMED_OUT, error=f"It took longer than {self.task.time_limit:g} s.")
            code = running.wait(min(left, NOTED_EVERY))
            if code is not None and not self.cancelled.is_set():
                return JobEnd(Job.State.FAILED if code else Job.State.SUCCEEDED, exit_code=code)
            if code is None and left > NOTED_EVERY:
                with suppress(StorageError):  # a catalog that is busy misses a note
                    note_alive(self.job)
                release_connection()
        return JobEnd(Job.State.CANCELLED)

    def _prepare(self, layout: Layout) -> Launch:
        """Put everything the job is told and given into its folders."""
        environment = Environment.current()
        if environment.storage_kind == "filesystem":
            cast(Pingable, storages["assets"]).check_ready()  # a folder that was never used is made now
        sources = tuple(map(describe_input, self.inputs))
        release_connection()
        files = [secret.name for secret in self.task.secrets if secret.as_file]
        plan = self.execution.plan(environment, layout, sources, files)
        _fetch(plan, layout, dict(zip((each.id for each in sources), self.inputs, strict=True)))
        secret_paths = {name: plan.variables[f"{name}_FILE"] for name in files}
        request = self.task.request_text(context=self._bound(), secrets=secret_paths)
        _write_told(layout, request, render_manifest(sources, plan.paths))
        _write_secrets(layout, {name: self.secrets[name] for name in files}, self.execution.owner())
        return Launch(job_id=self.job.pk.hex, task=self.task, layout=layout, plan=plan, variables=self._variables(plan))

    def _bound(self) -> dict[str, str]:
        task = self.task
        bound = {"user_id": str(self.user.pk), "workflow_id": task.workflow_id, "node_id": task.node_id}
        return bound | {"job_id": self.job.pk.hex}

    def _variables(self, plan: MountPlan) -> dict[str, str]:
        named = {name.upper(): value for name, value in self._bound().items()}
        as_variables = {each.name: self.secrets[each.name] for each in self.task.secrets if not each.as_file}
        return dict(plan.variables) | {name: value for name, value in named.items() if value} | as_variables

    def _origin(self) -> Origin:
        return Origin(
            user=self.user,
            job_id=self.job.pk.hex,
            workflow_id=self.task.workflow_id,
            node_id=self.task.node_id,
            sources=tuple(asset.pk for asset in self.inputs),
        )

    def _finish(self, end: JobEnd, collected: Collected, result: object) -> None:
        outputs = tuple(collected.assets)
        try:
            finish_job(self.job, end, log_tail=self.log.text(), outputs=outputs, problems=collected.problems)
        except StorageError:
            logger.exception("end of job not recorded id=%s", self.job.pk.hex)  # the next start marks it lost
        finally:
            release_connection()
            self.report = JobReport(job=self.job, outputs=outputs, result=result)


def describe_input(asset: Asset) -> Input:
    """Say where the bytes of an asset lie. The asset is joined with its object."""
    storage, stored = storage_for(asset), asset.object
    assert stored is not None  # storage_for refuses folders
    return Input(
        id=asset.pk.hex,
        name=asset.name,
        key=stored.key,
        sha256=stored.sha256,
        content_type=asset.content_type,
        size=stored.size,
        local_path=storage.local_path(stored.key) if isinstance(storage, LocalFiles) else None,
    )


def _find_inputs(task: Task, user: AbstractBaseUser) -> tuple[Asset, ...]:
    """Find the inputs with one query, in the order of the task; another user's is as good as none."""
    wanted = dict.fromkeys(task.inputs)
    live = Asset.objects.alive(timezone.now()).filter(owner_id=user.pk, object__isnull=False)
    found = {asset.pk: asset for asset in live.filter(pk__in=wanted).select_related("object")}
    missing = next((asset_id for asset_id in wanted if asset_id not in found), None)
    if missing is not None:
        raise ValueError(f"Asset {missing.hex} not found")
    return tuple(found[asset_id] for asset_id in wanted)


def _fetch(plan: MountPlan, layout: Layout, assets: Mapping[str, Asset]) -> None:
    for source in plan.to_fetch:
        path = Path(fetched_path(layout, source))
        if not path.exists():  # two assets may share one object
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            _put_input(path, source, assets[source.id])
    for folder, _, _ in os.walk(str(layout.control)):
        Path(folder).chmod(0o755)


def _put_input(path: Path, source: Input, asset: Asset) -> None:
    """Link the file of an input, or copy its bytes and hold them against their digest."""
    if source.local_path is not None:
        with suppress(OSError):  # another filesystem
            os.link(source.local_path, path)
            return
    digest = hashlib.sha256()
    with open_asset(asset) as stream, path.open("xb") as file:
        while block := stream.read(_BLOCK):
            digest.update(block)
            file.write(block)
    path.chmod(0o444)
    if digest.hexdigest() != source.sha256:
        raise DigestMismatchError(f"The bytes of {source.name} are not those of the catalog. Run verify_assets.")


def _write_told(layout: Layout, request: str, manifest: str) -> None:
    control = Path(layout.control)
    _write(control / MANIFEST_NAME, manifest, 0o444)
    _write(control / REQUEST_NAME, request, 0o444)
    shutil.copyfile(inside.__file__, control / INSIDE_NAME)
    (control / INSIDE_NAME).chmod(0o444)


def _write_secrets(layout: Layout, values: Mapping[str, str], owner: Owner | None) -> None:
    for name, value in values.items():
        path = Path(layout.secrets) / name
        _write(path, value, 0o400)
        if owner is not None and os.geteuid() == 0:
            os.chown(path, owner.uid, owner.gid)


def _write(path: Path, text: str, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        os.fchmod(descriptor, mode)


def _parsed(data: bytes | None) -> object:
    try:
        return cast(Any, json.loads(data)) if data is not None else None
    except ValueError:
        return None
