"""A service that starts a job and can be killed: prints the id of the job, then every line of it.

python -m tests.workflows.parent STRATEGY REQUEST       (its variables say where)
"""

from __future__ import annotations

import sys
from pathlib import Path


def main(strategy: str, request: str) -> None:
    """Start the node `spin` and wait for it."""
    import django

    django.setup()
    from django.contrib.auth.models import User

    from assets.workflows import DockerExecution, SubprocessExecution, Task, start_job

    user, _ = User.objects.get_or_create(username="owner")
    execution = DockerExecution() if strategy == "docker" else SubprocessExecution()
    task = Task(callable="nodes:spin", code=str(Path(__file__).parent), request=request)
    handle = start_job(task, user=user, execution=execution, on_log=lambda line: print(line, flush=True))  # noqa: T201
    print(handle.job_id, flush=True)  # noqa: T201
    print(handle.wait().job.error, flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
