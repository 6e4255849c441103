"""Lets objects begin anew in a forked child, without being kept alive for it."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Forkable(Protocol):
    """Holds locks, threads or connections that are the parent's after a fork."""

    def after_fork(self) -> None:
        """Replace them; called in the child, where no other thread runs yet."""
        ...


_forkables: WeakSet[Forkable] = WeakSet()


def watch_forks(forkable: Forkable) -> None:
    """Call `after_fork` of an object in every forked child, while the object lives."""
    _forkables.add(forkable)


def _tell_all() -> None:
    for forkable in list(_forkables):
        forkable.after_fork()


os.register_at_fork(after_in_child=_tell_all)
