"""The first code of a job: finds its callable, calls it and leaves what it returns. Runs inside a container too.

It is copied there as one file: nothing but the standard library may be imported, and nothing of the service.
The callable, named as `package.module:function`, is called with (request, job); what it returns must be JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

CONTROL_NAME = ".assets"
RESULT_NAME = ".result.json"
RESULT_BYTES = 1 << 20


class JobView:
    """What a callable may ask of the job it runs in. Safe for threads.

    `workspace`, `outputs` and `scratch` are folders; what is left in `outputs` becomes assets when the job ends.
    `variables` are those of a job in a thread, which has no environment of its own; elsewhere it is empty.
    """

    def __init__(
        self,
        workspace: str | os.PathLike[str],
        scratch: str | os.PathLike[str],
        *,
        log: Callable[[str], object] = print,
        is_cancelled: Callable[[], bool] = lambda: False,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """Read what the job was told."""
        self.workspace = Path(workspace)
        self.outputs = self.workspace / "outputs"
        self.scratch = Path(scratch)
        self.log = log
        self.is_cancelled = is_cancelled
        self.variables = dict(variables or {})
        self.inputs: tuple[dict[str, str], ...] = tuple(self._told("manifest.json"))
        self.told: dict[str, Any] = self._told("request.json")

    def asset_path(self, asset_id: str) -> Path:
        """Give the file of an input.

        Raises:
            ValueError: it is no input of this job.
        """
        wanted = asset_id.replace("-", "")
        for entry in self.inputs:
            if entry["id"] == wanted:
                return Path(entry["path"])
        raise ValueError(f"Asset {asset_id} not found")

    def secret(self, name: str) -> str:
        """Give a secret that the task names and that travels as a file; in a thread any that it names.

        Raises:
            ValueError: there is no such secret.
        """
        path = self.told["secrets"].get(name)
        if path:
            return Path(path).read_text(encoding="utf-8")
        if name not in self.variables:
            raise ValueError(f"The task names no secret {name} that travels as a file.")
        return self.variables[name]

    @property
    def context(self) -> dict[str, Any]:
        """What `ProcessingContext.from_request` makes the node's context of: by the manifest, without a catalog."""
        return {**self.told["context"], "workspace_dir": str(self.workspace), "has_catalog": False}

    def _told(self, name: str) -> Any:
        return json.loads((self.workspace / CONTROL_NAME / name).read_text(encoding="utf-8"))


def call(job: JobView) -> Any:
    """Call the callable of the job; returns what it returns."""
    module, _, name = job.told["callable"].partition(":")
    function = importlib.import_module(module)
    for part in name.split("."):
        function = getattr(function, part)
    return function(job.told["request"], job)  # type: ignore[operator]


def leave_result(job: JobView, result: Any) -> None:
    """Leave what a callable returned for the service.

    Raises:
        TypeError, ValueError: it is no JSON, or too much.
    """
    text = json.dumps(result, ensure_ascii=False)
    if len(text.encode("utf-8", "surrogatepass")) > RESULT_BYTES:
        raise ValueError(f"What a callable returns has at most {RESULT_BYTES} bytes as JSON: leave more as an output.")
    (job.workspace / RESULT_NAME).write_text(text, encoding="utf-8")


def main(workspace: str, scratch: str) -> int:
    """Run the job; returns the exit code of the process."""
    sys.path.append(workspace)
    try:
        job = JobView(workspace, scratch, log=_log)
        leave_result(job, call(job))
    except Exception:  # noqa: BLE001  # whatever it is, the log says it
        traceback.print_exc()
        return 1
    return 0


def _log(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
