"""How long commands read their arguments, show progress and end; what they do lives in services and integrity."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.core.management.base import CommandError
from django.db import DatabaseError
from tqdm import tqdm

from storagecache.environment import Environment
from storagecache.errors import StorageError

T = TypeVar("T")


def argument(cast: Callable[[str], T]) -> Callable[[str], T]:
    """Let argparse say what would have been right."""

    def read(value: str) -> T:
        try:
            return cast(value)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{value!r} must be {error}.") from None

    return read


@contextmanager
def readable_errors(*, returncode: int) -> Iterator[None]:
    """Turn what the catalog and the buckets raise into one line and an exit code."""
    try:
        yield
    except (StorageError, DatabaseError) as error:
        raise CommandError(str(error).strip(), returncode=returncode) from error


def user_named(name: str) -> User:
    """Find a user by the name they log in with.

    Raises:
        CommandError: there is none.
    """
    try:
        found: User = get_user_model()._default_manager.get_by_natural_key(name)
    except get_user_model().DoesNotExist as error:
        raise CommandError(f"There is no user {name!r}.") from error
    return found


def refuse_memory(*, returncode: int) -> None:
    """Refuse to judge objects that live in the memory of another process."""
    environment = Environment.current()
    if environment.storage_kind == "memory" and environment.env != "test":
        raise CommandError(
            "ASSET_STORAGE=memory: the objects live in the process that serves them, out of reach here.",
            returncode=returncode,
        )


def shows_progress() -> bool:
    """Tell whether somebody looks at a terminal."""
    return sys.stderr.isatty()


@contextmanager
def progress_bar(total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar of objects on the terminal; gives what advances it."""
    with tqdm(total=total, unit="object") as bar:

        def advance(count: int) -> None:
            bar.update(count)

        yield advance
