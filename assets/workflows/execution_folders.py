"""The folders of a job on this machine: made before it, held by a lock while it runs, removed after it.

<WORKSPACE_DIR>/.runs/<job id>/lock       held as long as the process that runs the job lives
                              scratch/    scratch space
                              secrets/    secrets that travel as files
                              workspace/  unless the caller gives one that is kept
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from assets.workflows.execution import ExecutionError, Owner
from assets.workflows.mounts import CONTROL_NAME, OUTPUTS_NAME, RESULT_NAME, Layout, fetched_folder
from storagecache.environment import Environment

_RUNS: Final = ".runs"
_LOCK: Final = "lock"


@dataclass(frozen=True, slots=True)
class Claim:
    """The run folder of a job and the lock that tells its process is alive: taken before the job has a row."""

    job_id: UUID
    folder: Path
    lock: int  # descriptor

    @classmethod
    def take(cls, job_id: UUID) -> Claim:
        """Make the run folder and take its lock, while nobody looks for leftovers.

        Raises:
            ExecutionError: the folder cannot be made.
        """
        folder = _runs() / job_id.hex
        with _explained():
            _runs().mkdir(mode=0o700, parents=True, exist_ok=True)
            with _gate(fcntl.LOCK_SH):
                folder.mkdir(mode=0o700)
                lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                fcntl.flock(lock, fcntl.LOCK_EX)
        return cls(job_id, folder, lock)

    def release(self) -> None:
        """Remove the run folder and let the lock go."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self.lock)


@contextmanager
def run_folders(claim: Claim, workspace: str | None, code: str | None, owner: Owner | None) -> Iterator[Layout]:
    """Make the folders of a job inside its claim, and hold its workspace while the block runs.

    Raises:
        ExecutionError: a folder cannot be made, or another job runs in this workspace.
    """
    with _explained():
        layout = _make(claim.folder, workspace, code, owner)
    with _exclusive(layout.workspace):
        with _explained():
            _prepare_workspace(Path(layout.workspace), claim.job_id.hex, owner)
        try:
            yield layout
        finally:
            shutil.rmtree(fetched_folder(layout), ignore_errors=True)  # copies, which a kept workspace would keep


def is_alive(job_id: str) -> bool:
    """Tell whether a process of this machine runs the job."""
    try:
        descriptor = os.open(_runs() / job_id / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def remove_leftovers() -> list[str]:
    """Remove the folders of jobs whose process is gone; returns the ids of those jobs."""
    if not _runs().is_dir():
        return []
    with _gate(fcntl.LOCK_EX):
        dead = [path for path in _runs().iterdir() if path.is_dir() and not is_alive(path.name)]
        for path in dead:
            shutil.rmtree(path, ignore_errors=True)
    return [path.name for path in dead]


def _make(run: Path, workspace: str | None, code: str | None, owner: Owner | None) -> Layout:
    for name in ("scratch", "secrets"):
        (run / name).mkdir(mode=0o700)
    own = run / "workspace"
    if workspace is None:
        own.mkdir(mode=0o700)
        _give(own, owner)
    _give(run / "scratch", owner)
    chosen = os.path.abspath(workspace or own)
    return Layout(workspace=chosen, scratch=str(run / "scratch"), secrets=str(run / "secrets"), code=code)


def _prepare_workspace(workspace: Path, job_id: str, owner: Owner | None) -> None:
    """Empty what earlier jobs were told and left; what they could not hand over is set aside, never lost."""
    control, outputs = workspace / CONTROL_NAME, workspace / OUTPUTS_NAME
    if control.is_symlink() or control.is_file():
        control.unlink()
    elif control.exists():
        shutil.rmtree(control)
    control.mkdir(mode=0o755)
    control.chmod(0o755)  # whatever the umask: the user of a container reads it
    with suppress(FileNotFoundError):
        (workspace / RESULT_NAME).unlink()
    with suppress(FileNotFoundError):
        outputs.rename(workspace / f"{OUTPUTS_NAME}-before-{job_id}")
    outputs.mkdir(mode=0o755)
    _give(outputs, owner)


def _give(folder: Path, owner: Owner | None) -> None:
    """Let the user of a container own a folder, where this process may give it away."""
    if owner is not None and os.geteuid() == 0:
        os.chown(folder, owner.uid, owner.gid)


@contextmanager
def _exclusive(workspace: str) -> Iterator[None]:
    """Hold the workspace: two jobs in one would take each other's outputs."""
    with _explained():
        descriptor = os.open(workspace, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ExecutionError(f"Another job runs in the workspace {workspace}.", "Wait for it.") from error
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _gate(kind: int) -> Iterator[None]:
    descriptor = os.open(_runs() / ".gate", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, kind)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = error.filename or Environment.current().workspace_folder
        problem = f"The folders of the job cannot be made: {where}: {error.strerror}."
        raise ExecutionError(
            problem, "Give the folder to the user who runs the service, or set WORKSPACE_DIR."
        ) from error


def _runs() -> Path:
    return Environment.current().workspace_folder / _RUNS
