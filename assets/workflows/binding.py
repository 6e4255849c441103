"""Who works and where: what a context is bound to, and the assets that it used."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from django.contrib.auth.models import AbstractBaseUser

from storagecache.errors import UnsupportedCapabilityError


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """User, workflow, job, node and workspace. `has_catalog`: the database may be asked."""

    user_id: int
    workflow_id: str = ""
    job_id: str = ""
    node_id: str = ""
    workspace_dir: Path | None = None
    has_catalog: bool = True

    def workspace(self) -> Path:
        """Give the workspace.

        Raises:
            ValueError: there is none.
        """
        if self.workspace_dir is None:
            raise ValueError("This context has no workspace_dir.")
        return self.workspace_dir

    def need_catalog(self, what: str) -> None:
        """Refuse `what` (a plural) where the database may not be asked.

        Raises:
            UnsupportedCapabilityError
        """
        if not self.has_catalog:
            raise UnsupportedCapabilityError(f"{what} need the catalog, which this job cannot reach.")


class Used:
    """The assets that a context opened, resolved or was handed, in order; safe for threads."""

    def __init__(self, ids: Iterable[UUID] = ()) -> None:
        self._ids: dict[UUID, None] = dict.fromkeys(ids)
        self._lock = threading.Lock()

    def note(self, asset_id: UUID) -> None:
        """Remember an asset."""
        with self._lock:
            self._ids[asset_id] = None

    def ids(self) -> tuple[UUID, ...]:
        """Give what was noted so far."""
        with self._lock:
            return tuple(self._ids)


def user_id_of(user: AbstractBaseUser | int | str) -> int:
    """Read a user, or a user's id as a number or text.

    Raises:
        ValueError: it is no id.
    """
    text = str(user.pk if isinstance(user, AbstractBaseUser) else user)
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ValueError(f"User {text[:80]} not found")
    return int(text)
