"""The strategy `docker`: a job in a container of a Docker-compatible engine, with as little as it needs.

Not root, a read-only root, no capabilities, no new privileges, bounded memory, processors and processes, and no network
unless the task asks. A container ends with the job, on cancel, and with the service: a keeper removes it when the
service dies, and what even that leaves is found by its labels at the next start.
"""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from assets.workflows import keeper
from assets.workflows.execution import KILLED, ExecutionError, Launch, LogTail, Owner, Running
from assets.workflows.mounts import CONTROL_NAME, SCRATCH, WORKSPACE, Input, Layout, MountPlan, plan_for_container
from storagecache.environment import Environment

logger = logging.getLogger(__name__)

JOB_LABEL: Final = "nodetool.job"
SERVICE_LABEL: Final = "nodetool.service"  # several services may share an engine
INSIDE_NAME: Final = "inside.py"  # the first code of the job, in its control folder
_NOBODY: Final = Owner(65534, 65534)
_ENGINE_SECONDS: Final = 60  # for one answer of the engine
_GONE: Final = 125  # exit code when the engine lost the container, as of docker run


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerExecution:
    """Runs jobs in containers; what is not given comes from DOCKER_IMAGE, DOCKER_MEM_LIMIT and their kin.

    `memory` is a text such as `2g`; `cpus` counts processors; `gpus` are device ids, or `all`. `user` is by default
    the user of the service, and nobody when that is root. `python` is what the image calls Python.
    """

    image: str | None = None
    memory: str | None = None
    cpus: float | None = None
    gpus: tuple[str, ...] | None = None
    processes: int = 512
    user: Owner | None = None
    url: str | None = None
    python: str = "python3"
    strategy: str = field(default="docker", init=False)

    def owner(self) -> Owner:
        """Give the user inside the container; root is refused.

        Raises:
            ExecutionError
        """
        chosen = self.user or (Owner(os.geteuid(), os.getegid()) if os.geteuid() else _NOBODY)
        if chosen.uid == 0:
            raise ExecutionError("A job cannot run as root in its container.", "Choose another user for it.")
        return chosen

    def plan(
        self, environment: Environment, layout: Layout, inputs: Iterable[Input], secret_files: Iterable[str]
    ) -> MountPlan:
        """Plan the mounts of the container."""
        return plan_for_container(environment, layout, inputs, secret_files=secret_files)

    def start(self, launch: Launch, log: LogTail) -> Running:
        """Check the engine, the image and every mount; then start the container under its keeper."""
        user = self.owner()
        check_mounts(launch.plan, user)
        client = self.connect()
        image = self.find_image(client)
        process = _start_keeper(launch.job_id, self._url())
        try:
            with _explained("The engine cannot start the container", "Read what it says, and the job's mounts."):
                options = self._options(launch, user)
                container = client.containers.create(image, _command(launch, self.python), **options)
                return _RunningContainer(container, process, log)
        except BaseException:
            _release_keeper(process, removed=False)
            client.close()
            raise

    def remove_leftovers(self, is_alive: Callable[[str], bool]) -> list[str]:
        """Remove this service's containers whose job, asked by its id, is not alive; returns the ids of the jobs.

        Raises:
            ExecutionError: the engine does not answer.
        """
        client = self.connect()
        removed = []
        labels = [JOB_LABEL, f"{SERVICE_LABEL}={_service()}"]
        with _explained("The engine cannot remove leftovers", "Remove them by hand."):
            for container in client.containers.list(all=True, filters={"label": labels}, ignore_removed=True):
                job_id = container.labels[JOB_LABEL]
                if not is_alive(job_id):
                    _remove(container)
                    removed.append(job_id)
        client.close()
        return removed

    def _url(self) -> str | None:
        return self.url or Environment.current().docker_host

    def connect(self, *, seconds: float = _ENGINE_SECONDS) -> Any:
        """Give a client of the engine (docker.DockerClient) that waits so long for an answer; the caller closes it.

        Raises:
            ExecutionError: no engine answers.
        """
        import docker

        where = self._url() or "unix:///var/run/docker.sock"
        remedy = "Start it, or name its socket with DOCKER_HOST; the user of the service needs access to it."
        with _explained(f"No Docker engine answers at {where}", remedy):
            _probe(where)
            return docker.DockerClient(base_url=self._url(), timeout=seconds)

    def find_image(self, client: Any) -> str:
        """Give the name of the image, which the engine has.

        Raises:
            ExecutionError: none is named, or it is not there.
        """
        import docker

        image = self.image or Environment.current().docker_image
        if not image:
            raise ExecutionError("No image is named for docker executions.", "Set DOCKER_IMAGE.")
        with _explained(f"The engine cannot look for the image {image}", "Check the engine."):
            try:
                client.images.get(image)
            except docker.errors.ImageNotFound as error:
                problem = f"The image {image} is not there."
                raise ExecutionError(problem, f"Get it (docker pull {image}) or change DOCKER_IMAGE.") from error
        return image

    def _options(self, launch: Launch, user: Owner) -> dict[str, Any]:
        environment = Environment.current()
        memory = self.memory or environment.docker_mem_limit
        cpus = self.cpus or environment.docker_cpu_limit
        return {
            "name": container_name(launch.job_id),
            "labels": {JOB_LABEL: launch.job_id, SERVICE_LABEL: _service()},
            "user": f"{user.uid}:{user.gid}",
            "working_dir": str(WORKSPACE),
            "environment": {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", **launch.variables},
            "mounts": _mounts(launch.plan),
            "read_only": True,
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges"],
            "mem_limit": memory,
            "memswap_limit": memory,
            "nano_cpus": int(cpus * 1_000_000_000),
            "pids_limit": self.processes,
            "device_requests": _gpu_requests(self.gpus if self.gpus is not None else environment.docker_gpu_devices),
            "network_mode": None if launch.task.network else "none",
            "log_config": {"type": "json-file", "config": {"max-size": "16m"}},
            "detach": True,
        }


def container_name(job_id: str) -> str:
    """Give the name of the container of a job."""
    return f"nodetool-{job_id}"


def check_mounts(plan: MountPlan, user: Owner) -> None:
    """Look whether every mount is there and open to the user of the container.

    Raises:
        ExecutionError: one is missing, unreadable, or not writable where it must be.
    """
    for mount in plan.mounts:
        try:
            status = os.stat(mount.source)
        except OSError as error:
            problem = f"Docker jobs cannot access {mount.target}: {mount.source}: {error.strerror}."
            raise ExecutionError(problem, "Make or mount the folder, or correct the variable that names it.") from error
        needed = (0o2 if mount.writable else 0) | 0o4 | (0o1 if os.path.isdir(mount.source) else 0)
        if not _allows(status, user, needed):
            verb = "write" if mount.writable else "read"
            problem = f"Docker jobs run as user {user.uid} and cannot {verb} {mount.source}, owned by {status.st_uid}."
            raise ExecutionError(problem, f"Run chown {user.uid} or chmod o+{'rwx' if mount.writable else 'rX'} on it.")


def _allows(status: os.stat_result, user: Owner, needed: int) -> bool:
    """Judge by owner, group and others, as the kernel does for one who is not root."""
    shift = 6 if status.st_uid == user.uid else 3 if status.st_gid == user.gid else 0
    return status.st_mode >> shift & needed == needed


def _command(launch: Launch, python: str) -> list[str]:
    if launch.task.command:
        return list(launch.task.command)
    return [python, "-P", str(WORKSPACE / CONTROL_NAME / INSIDE_NAME), str(WORKSPACE), str(SCRATCH)]


def _mounts(plan: MountPlan) -> list[Any]:
    from docker.types import Mount

    return [Mount(each.target, each.source, type="bind", read_only=not each.writable) for each in plan.mounts]


def _gpu_requests(devices: tuple[str, ...]) -> list[Any]:
    from docker.types import DeviceRequest

    if not devices:
        return []
    if devices == ("all",):
        return [DeviceRequest(count=-1, capabilities=[["gpu"]])]
    return [DeviceRequest(device_ids=list(devices), capabilities=[["gpu"]])]


def _probe(url: str) -> None:
    """Connect once to a socket of this machine: the library leaves a socket open when nobody answers."""
    if url.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_ENGINE_SECONDS)
            probe.connect("/" + url.removeprefix("unix://").lstrip("/"))


def _service() -> str:
    """Name this service among others on the same engine: by its workspaces."""
    return hashlib.sha256(str(Environment.current().workspace_folder).encode()).hexdigest()[:16]


@contextmanager
def _explained(problem: str, remedy: str) -> Iterator[None]:
    """Say what the engine refused, and the next step."""
    import docker
    from requests import RequestException

    try:
        yield
    except docker.errors.APIError as error:
        raise ExecutionError(f"{problem}: {error.explanation or error}.", remedy) from error
    except (docker.errors.DockerException, RequestException, OSError) as error:
        raise ExecutionError(f"{problem}: {error}.", remedy) from error


def _start_keeper(job_id: str, url: str | None) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-I", keeper.__file__, "container", container_name(job_id), *([url] if url else [])]
    return subprocess.Popen(  # noqa: S603  # our own script
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


def _release_keeper(process: subprocess.Popen[bytes], *, removed: bool) -> None:
    """Tell the keeper that the container is removed; else it removes it itself."""
    assert process.stdin is not None
    with suppress(OSError):
        if removed:
            process.stdin.write(b"\n")
        process.stdin.close()
    process.wait(_ENGINE_SECONDS)


class _RunningContainer:
    """A container, a thread that reads its log, and one that waits for its end."""

    def __init__(self, container: Any, process: subprocess.Popen[bytes], log: LogTail) -> None:
        self._container, self._keeper, self._log = container, process, log
        self._code: int | None = None
        self._killed = False
        self._ended = threading.Event()
        container.start()
        threading.Thread(target=self._await_end, daemon=True).start()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait(self, seconds: float) -> int | None:
        return self._code if self._ended.wait(seconds) else None

    def kill(self) -> None:
        import docker
        from requests import RequestException

        self._killed = True
        try:
            self._container.kill()
        except docker.errors.APIError:
            logger.debug("container not killed, most likely it has ended name=%s", self._container.name)
        except RequestException as error:  # close, the keeper and the next start try again
            logger.warning("container not killed name=%s reason=%s", self._container.name, error)

    def close(self) -> None:
        self._reader.join(_ENGINE_SECONDS)
        try:
            _remove(self._container)
        except Exception:  # whatever the engine has, the keeper tries again, and so does the next start
            logger.exception("container not removed name=%s", self._container.name)
            _release_keeper(self._keeper, removed=False)
        else:
            _release_keeper(self._keeper, removed=True)
        self._container.client.close()

    def _await_end(self) -> None:
        try:
            self._code = int(self._container.wait(timeout=None)["StatusCode"])
            if self._code == KILLED and not self._killed:  # podman on cgroups v1 does not tell OOMKilled
                self._log.say("Killed, most likely for more memory than DOCKER_MEM_LIMIT allows.")
        except Exception as error:  # noqa: BLE001  # the engine went away, whatever it says
            self._log.say(f"The engine lost the container: {error}")
            self._code = _GONE if self._code is None else self._code
        finally:
            self._ended.set()

    def _read(self) -> None:
        try:
            for block in self._container.logs(stream=True, follow=True, stdout=True, stderr=True):
                self._log.write(block)
        except Exception as error:  # noqa: BLE001  # a log that breaks off must not fail the job
            self._log.say(f"The log broke off: {error}")


def _remove(container: Any) -> None:
    import docker

    with suppress(docker.errors.NotFound):
        container.remove(force=True, v=True)
