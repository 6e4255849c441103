"""`manage.py prepare`: make the catalog usable before anything serves it. The supervisor runs it at each start.

It migrates when there is something to migrate, and makes the first admin. It never touches a bucket, so that it costs
a second when there is nothing to do. Static files need nothing: WhiteNoise serves them from where they lie.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractUser, Permission
from django.core.checks import Tags
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

from assets.engines import engine
from assets.services.sections import write_section
from storagecache.environment import Environment
from storagecache.errors import StorageError

ADMIN_NAME: Final = "admin"


class Command(BaseCommand):
    """Migrate if needed, and make the first admin if there is none."""

    help = "Prepares the catalog for a start: migrations and the first admin user. Fast when nothing is to be done."
    # What an operator can mend. The others judge the code, and import all routes: 0.3 s of each start.
    requires_system_checks = [Tags.files]

    def handle(self, *_args: Any, **_options: Any) -> None:
        """Prepare, one process at a time; those that come later find nothing to do."""
        environment = Environment.current()
        try:
            with _file_lock(environment.config_folder / "prepare.lock"):
                _throw_away_catalog(environment)
                _make_private(environment)
                with engine().turn_of_hosts():
                    self._migrate()
                    self._make_admin(environment.admin_password)
        except (DatabaseError, OSError, StorageError) as error:
            raise CommandError(f"The catalog cannot be prepared: {error}") from error
        finally:
            connection.close()

    def _migrate(self) -> None:
        if not _is_behind():
            return
        self.stdout.write("Migrating the catalog ...")
        call_command("migrate", interactive=False, verbosity=0)

    def _make_admin(self, password: str | None) -> None:
        """Make the first admin: on a fresh catalog it is user 1, the local user.

        A generated password is shown before it is committed: a kill in between leaves no admin with a lost password.
        """
        users = get_user_model()._default_manager
        if users.filter(is_superuser=True).exists():
            return
        if users.filter(username=ADMIN_NAME).exists():
            self.stderr.write(
                f"No superuser, and the name {ADMIN_NAME!r} is taken: make one with `manage.py createsuperuser`."
            )
            return
        chosen = password or secrets.token_urlsafe(12)
        admin = _new_admin(chosen)
        with write_section():
            self._tell(None if password else chosen)
            admin.save()

    def _tell(self, generated: str | None) -> None:
        shown = f"{generated} (shown only this once)" if generated else "as given by ADMIN_PASSWORD"
        self.stdout.write(f"First admin user: name {ADMIN_NAME}, password {shown}")
        self.stdout.flush()


def _new_admin(password: str) -> AbstractUser:
    admin = get_user_model()(username=ADMIN_NAME, is_staff=True, is_superuser=True)
    admin.set_password(password)  # slow on purpose: outside of the section that writes
    return admin


def _is_behind() -> bool:
    """Tell whether a migration is missing, or what follows the migrations (permissions) was cut short."""
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        return True
    return not Permission.objects.exists()


def _throw_away_catalog(environment: Environment) -> None:
    """Remove the catalog of bytes that went with the last process (memory storage)."""
    if environment.storage_kind != "memory" or environment.env == "test":
        return
    for suffix in ("", "-wal", "-shm", ".lock"):
        Path(f"{environment.catalog_path}{suffix}").unlink(missing_ok=True)


def _make_private(environment: Environment) -> None:
    """Let nobody else on this machine read the catalog: it holds the hashes of passwords and tokens."""
    if environment.database_url is None:
        os.close(os.open(environment.catalog_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        environment.catalog_path.chmod(0o600)  # SQLite gives -wal and -shm the mode of the file itself


@contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
