"""The workflow API: what nodes are given, jobs, and the strategies that run them."""

from assets.workflows.context import ProcessingContext
from assets.workflows.errors import AssetNotFoundError, RefusedUriError
from assets.workflows.execution import ExecutionError, ThreadedExecution
from assets.workflows.execution_docker import DockerExecution
from assets.workflows.execution_subprocess import SubprocessExecution
from assets.workflows.jobs import JobFailedError, JobHandle, JobReport, recover_jobs, run_job, start_job
from assets.workflows.libraries import MissingLibraryError
from assets.workflows.references import AssetRef, AudioRef, DataframeRef, ImageRef, TextRef, VideoRef
from assets.workflows.tasks import Secret, Task

__all__ = [
    "AssetNotFoundError",
    "AssetRef",
    "AudioRef",
    "DataframeRef",
    "DockerExecution",
    "ExecutionError",
    "ImageRef",
    "JobFailedError",
    "JobHandle",
    "JobReport",
    "MissingLibraryError",
    "ProcessingContext",
    "RefusedUriError",
    "Secret",
    "SubprocessExecution",
    "Task",
    "TextRef",
    "ThreadedExecution",
    "VideoRef",
    "recover_jobs",
    "run_job",
    "start_job",
]
