"""A fresh machine, a restart, two starts at once, and the throw-away catalog of memory storage."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from assets.management.commands.prepare import Command, _is_behind
from tests.manage import Manage
from tests.servers import PostgresServer

USERS = "SELECT id, username, is_superuser, is_staff FROM auth_user"
CHECK = (
    "from django.contrib.auth import authenticate; import sys; "
    "sys.stdout.write(str(authenticate(username='admin', password={!r}).pk))"
)


def rows(catalog: Path, query: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(catalog) as connection:
        found = connection.execute(query).fetchall()
    connection.close()
    return found


def test_prepare_fresh_folder_makes_admin_with_the_printed_password(manage: Manage) -> None:
    first = manage("prepare")
    assert first.returncode == 0, first.stderr
    (line,) = [line for line in first.stdout.splitlines() if "password" in line]
    assert line.startswith("First admin user: name admin, password ")
    password = line.split("password ")[1].split()[0]
    assert rows(manage.folder / "nodetool.sqlite3", USERS) == [(1, "admin", 1, 1)]
    assert manage("shell", "--no-imports", "-c", CHECK.format(password)).stdout == "1"


def test_prepare_again_says_and_does_nothing(manage: Manage) -> None:
    manage("prepare")
    before = rows(manage.folder / "nodetool.sqlite3", "SELECT * FROM auth_user")
    again = manage("prepare", ADMIN_PASSWORD="another")
    assert (again.returncode, again.stdout) == (0, "")
    assert rows(manage.folder / "nodetool.sqlite3", "SELECT * FROM auth_user") == before


def test_prepare_imports_no_route_and_tells_what_the_operator_can_mend(manage: Manage) -> None:
    production = {"ENV": "production", "SECRET_KEY": "k" * 60, "ALLOWED_HOSTS": "storage.example.org"}
    manage("prepare", **production)
    again = manage("prepare", **production, PYTHONPROFILEIMPORTTIME="1")
    assert again.returncode == 0
    assert "storagecache.W007" in again.stderr
    imported = {line.rpartition("|")[2].strip() for line in again.stderr.splitlines() if "import time" in line}
    assert "assets.engines" in imported
    assert "assets.api.records" not in imported


def test_prepare_with_admin_password_does_not_print_it(manage: Manage) -> None:
    first = manage("prepare", ADMIN_PASSWORD="correct horse battery")
    assert "First admin user: name admin, password as given by ADMIN_PASSWORD" in first.stdout
    assert "correct horse battery" not in first.stdout + first.stderr
    assert manage("shell", "--no-imports", "-c", CHECK.format("correct horse battery")).stdout == "1"


def test_prepare_three_at_once_makes_one_admin(manage: Manage) -> None:
    started = [manage.start("prepare") for _ in range(3)]
    outputs = [process.communicate(timeout=60) for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], outputs
    assert sum(out.count("password") for out, _ in outputs) == 1
    assert rows(manage.folder / "nodetool.sqlite3", USERS) == [(1, "admin", 1, 1)]


def test_prepare_memory_storage_throws_its_catalog_away(manage: Manage) -> None:
    manage("prepare", ASSET_STORAGE="memory", ADMIN_PASSWORD="one")
    for suffix in ("-wal", "-shm", ".lock"):
        (manage.folder / f"memory.sqlite3{suffix}").write_bytes(b"stale")
    again = manage("prepare", ASSET_STORAGE="memory", ADMIN_PASSWORD="two")
    assert "First admin user" in again.stdout
    assert manage("shell", "--no-imports", "-c", CHECK.format("two"), ASSET_STORAGE="memory").stdout == "1"


def test_prepare_memory_storage_leaves_the_lasting_catalog_alone(manage: Manage) -> None:
    manage("prepare")
    manage("prepare", ASSET_STORAGE="memory")
    assert "First admin" not in manage("prepare").stdout


def test_prepare_taken_name_is_not_raised_to_superuser(manage: Manage) -> None:
    manage("migrate", "--verbosity=0")
    manage("shell", "--no-imports", "-c",
           "from django.contrib.auth.models import User; User.objects.create_user('admin')")  # fmt: skip
    result = manage("prepare")
    assert result.returncode == 0
    assert "createsuperuser" in result.stderr
    assert rows(manage.folder / "nodetool.sqlite3", USERS) == [(1, "admin", 0, 0)]


def test_prepare_broken_catalog_ends_with_one_line(manage: Manage) -> None:
    manage.folder.mkdir()
    (manage.folder / "nodetool.sqlite3").write_bytes(b"this is no database, but long enough to be looked at" * 50)
    result = manage("prepare")
    assert result.returncode == 1
    assert "The catalog cannot be prepared: file is not a database" in result.stderr
    assert "Traceback" not in result.stderr


def test_prepare_on_postgresql_three_at_once_makes_one_admin(manage: Manage, postgres_server: PostgresServer) -> None:
    url = postgres_server.new_database()
    folders = [Manage(manage.folder.with_name(f"host-{number}")) for number in range(3)]
    started = [host.start("prepare", DATABASE_URL=url) for host in folders]
    outputs = [process.communicate(timeout=60) for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], outputs
    assert sum(out.count("First admin user") for out, _ in outputs) == 1


@pytest.mark.django_db
def test_prepare_current_catalog_is_not_behind() -> None:
    assert not _is_behind()


@pytest.mark.django_db
def test_prepare_with_lost_permissions_is_behind() -> None:
    from django.contrib.auth.models import Permission

    Permission.objects.all().delete()
    assert _is_behind()


def test_prepare_help_names_what_it_does() -> None:
    assert "first admin" in Command.help
