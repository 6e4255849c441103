"""The workflow API: jobs, and the strategies that run them."""

from assets.workflows.execution import ExecutionError, ThreadedExecution
from assets.workflows.execution_docker import DockerExecution
from assets.workflows.execution_subprocess import SubprocessExecution
from assets.workflows.jobs import JobFailedError, JobHandle, JobReport, recover_jobs, run_job, start_job
from assets.workflows.tasks import Secret, Task

__all__ = [
    "DockerExecution",
    "ExecutionError",
    "JobFailedError",
    "JobHandle",
    "JobReport",
    "Secret",
    "SubprocessExecution",
    "Task",
    "ThreadedExecution",
    "recover_jobs",
    "run_job",
    "start_job",
]
