"""System checks of jobs: whether the user of a container may read what is mounted for it. Asks no engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from django.core.checks import CheckMessage, Tags, register
from django.core.checks import Warning as Caution

from storagecache.environment import Environment


@register(Tags.files)
def check_jobs(app_configs: Sequence[Any] | None = None, **_: Any) -> list[CheckMessage]:
    """Check the environment of this process."""
    environment = Environment.current()
    return list(findings(environment)) if environment.job_execution_strategy == "docker" else []


def findings(environment: Environment) -> Iterator[CheckMessage]:
    """Give the folders that containers see and may not read."""
    from assets.workflows.execution import ExecutionError  # only where jobs run in containers
    from assets.workflows.execution_docker import DockerExecution, check_mounts
    from assets.workflows.mounts import MountPlan, standing_mounts

    for mount in standing_mounts(environment):
        if Path(mount.source) == environment.asset_folder and not environment.asset_folder.exists():
            continue  # made at first use
        try:
            check_mounts(MountPlan(mounts=(mount,)), DockerExecution().owner())
        except ExecutionError as error:
            yield Caution(error.problem, hint=error.remedy, id="assets.W001")
