"""What a job is asked to do: a callable or a command with a JSON request, its inputs, limits and secrets. Values."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

MOST_INPUTS: Final = 1000  # each may become a mount
_ID_LENGTH: Final = 255  # characters, as in the catalog
_CALLABLE: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A secret that a job gets because it is named here, in the environment or as a file named by `<NAME>_FILE`.

    Without a value it is the service's own variable of this name.
    """

    name: str
    value: str | None = field(default=None, repr=False)
    as_file: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} cannot be the name of a secret.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One thing to do. Either `callable` (`package.module:function`, called with request and job) or `command`.

    `code` is a folder with the module of the callable, which the job reads. `time_limit` is in seconds. `network`
    gives a container the engine's default network; without it there is none.
    """

    callable: str = ""
    command: tuple[str, ...] = ()
    request: object = None  # JSON
    inputs: tuple[UUID, ...] = ()
    workflow_id: str = ""
    node_id: str = ""
    code: str | None = None
    time_limit: float = 3600.0
    network: bool = False
    secrets: tuple[Secret, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.callable) == bool(self.command):
            raise ValueError("A task has either a callable or a command.")
        if self.callable and not _CALLABLE.fullmatch(self.callable):
            raise ValueError(f"{self.callable!r} is not of the form package.module:function.")
        if max(len(self.workflow_id), len(self.node_id)) > _ID_LENGTH:
            raise ValueError(f"The id of a workflow or node of a task has at most {_ID_LENGTH} characters.")
        if any("\0" in word for word in self.command):
            raise ValueError("A command of a task has no NUL.")
        if not self.time_limit > 0:
            raise ValueError("The time limit must be more than 0 seconds.")
        if len(self.inputs) > MOST_INPUTS:
            raise ValueError(f"A task has at most {MOST_INPUTS} inputs.")
        self.request_text()

    def request_text(self, **more: object) -> str:
        """Write what the job is told; `more` beside what the task says.

        Raises:
            ValueError, TypeError: the request is not JSON.
        """
        told = {"callable": self.callable, "request": self.request, **more}
        return json.dumps(told, ensure_ascii=False, allow_nan=False)

    @property
    def title(self) -> str:
        """What the record of the job calls it; never the request, which may hold anything."""
        return self.callable or self.command[0]
