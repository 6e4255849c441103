"""An SQLite catalog becomes a PostgreSQL one: every row, every value, and it goes on from there."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.manage import Manage
from tests.servers import PostgresServer

FILL = """
import io
from django.contrib.auth.models import Group, User
from django.utils import timezone
from assets.models import Asset, StoredObject
from assets.services import put_content, purge
from assets.services.tokens import create_token
owner = User.objects.get(pk=1)
other = User.objects.create_user("other", password="x", email="o@example.org")
other.groups.add(Group.objects.create(name="group"))
names = ["plain.txt", "ünïcode \\u00df \\u4e2d.txt", "emoji \\U0001f600.txt", "quote'\\".txt", "n" * 1000]
now = timezone.now()
StoredObject.objects.bulk_create([StoredObject(storage="assets", bucket="assets", key=f"00/{n}", size=n,
    sha256="0" * 64, content_type="text/plain", state_changed_at=now,
    referenced_at=now, created_at=now) for n in range(2500)])
for number in range(10):
    made = put_content(owner=[owner, other][number % 2], bucket="assets", key=f"k/{number}",
        content=io.BytesIO(b"%d" % number), content_type="text/plain").asset
    made.name = names[number % 5]; made.tags = ["a", "b"]
    made.metadata = {"z": 1.0, "large": [1e23, -1.7976931348623157e308, 5e-324, 10**400],
        "a": [1e22, -0.0, 0.1, True, None, {"x": "\\u2028"}], "number": number}
    made.duration = 0.1 + number; made.save()
put_content(owner=owner, bucket="temp", key="t", content=io.BytesIO(b"t"), content_type="text/plain")
create_token(other, "kept")
"""
LOOK = """
import json, sys
from django.contrib.auth.models import User
from assets.models import Asset, StoredObject, ApiToken
from assets.services.tokens import create_token
made = create_token(User.objects.get(username="other"), "new")[0].pk
user = User.objects.create_user("next").pk
rows = [[str(a.pk), a.name, a.name_key, str(a.folder), json.dumps(a.metadata, sort_keys=True), a.tags, a.duration]
    for a in Asset.objects.filter(key__startswith="k/").order_by("pk")]
group = User.objects.get(username="other").groups.get().name
sys.stdout.write(json.dumps([Asset.objects.count(), StoredObject.objects.count(), made, user, rows, group]))
"""
# A trigger that changes a row on its way in: what a copy that came out differently looks like.
SPOIL = """
from django.db import connection
connection.cursor().execute(
    "CREATE FUNCTION spoil() RETURNS trigger AS $$ BEGIN NEW.key := NEW.key || 'x'; RETURN NEW; END $$ "
    "LANGUAGE plpgsql;"
    "CREATE TRIGGER spoil BEFORE INSERT ON assets_storedobject FOR EACH ROW EXECUTE FUNCTION spoil()")
"""
COUNT = (
    "import sys; from assets.models import Asset; from django.contrib.auth.models import User, Permission;"
    "sys.stdout.write(str((Asset.objects.count(), User.objects.count(), Permission.objects.exists())))"
)


def shell(manage: Manage, code: str, **variables: str) -> str:
    done = manage("shell", "--no-imports", "-c", code, **variables)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Manage:
    """Give an SQLite catalog with more rows than a batch."""
    manage = Manage(tmp_path_factory.mktemp("catalog") / "config")
    manage("prepare")
    shell(manage, FILL)
    return manage


def numbers(text: str) -> Any:
    """Read JSON with the numbers as they are written, of which Python makes a float or an int by their looks."""
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


def catalog(manage: Manage) -> str:
    return str(manage.folder / "nodetool.sqlite3")


def copied(manage: Manage, url: str) -> subprocess.CompletedProcess[str]:
    return manage("copy_catalog", catalog(manage), "--json", DATABASE_URL=url)


def test_copy_catalog_copies_every_row_and_goes_on_from_there(filled: Manage, postgres_server: PostgresServer) -> None:
    url = postgres_server.new_database()
    done = copied(filled, url)
    assert done.returncode == 0, done.stderr
    tables = {table["table"]: table["rows"] for table in json.loads(done.stdout)["tables"]}
    assert (tables["auth_user_groups"], tables["assets_apitoken"]) == (1, 1)
    new: list[Any] = json.loads(shell(filled, LOOK, DATABASE_URL=url))
    old: list[Any] = json.loads(shell(filled, LOOK))
    assert new[2:4] == old[2:4]  # numbers go on behind the copied ones
    assert new[:2] == old[:2] == [tables["assets_asset"], tables["assets_storedobject"]]
    assert old[1] > 2500  # more than two batches
    assert len(old[4]) == 10
    assert [row[:4] + row[5:] for row in new[4]] == [row[:4] + row[5:] for row in old[4]]
    assert [numbers(row[4]) for row in new[4]] == [numbers(row[4]) for row in old[4]]
    assert new[5] == old[5] == "group"


def test_copy_catalog_second_time_is_refused(filled: Manage, postgres_server: PostgresServer) -> None:
    url = postgres_server.new_database()
    assert copied(filled, url).returncode == 0
    again = copied(filled, url)
    assert again.returncode == 1
    assert "not empty: " in again.stderr
    assert "assets_asset" in again.stderr


def test_copy_catalog_that_comes_out_differently_keeps_nothing(filled: Manage, postgres_server: PostgresServer) -> None:
    url = postgres_server.new_database()
    filled("migrate", DATABASE_URL=url)
    shell(filled, SPOIL, DATABASE_URL=url)
    done = copied(filled, url)
    assert done.returncode == 1
    assert "assets_storedobject came out differently" in done.stderr
    assert shell(filled, COUNT, DATABASE_URL=url) == "(0, 0, True)"


@pytest.mark.parametrize(
    ("column", "value", "why"),
    [
        ("name", "'a' || char(0)", "NUL"),
        ("metadata", """'{"x": "\\u0000"}'""", "unsupported Unicode escape sequence"),
        ("workflow_id", "printf('%.300c', 'w')", "value too long"),
        ("duration", "'long'", "expected a number"),
    ],
    ids=["nul", "nul-in-json", "too-long", "no-number"],
)
def test_copy_catalog_names_the_row_that_postgresql_does_not_take(
    filled: Manage, tmp_path: Path, postgres_server: PostgresServer, column: str, value: str, why: str
) -> None:
    spoilt, url = tmp_path / "spoilt.sqlite3", postgres_server.new_database()
    with closing(sqlite3.connect(catalog(filled))) as source, closing(sqlite3.connect(spoilt)) as target:
        source.backup(target)
        (row,) = target.execute("SELECT id FROM assets_asset ORDER BY id LIMIT 1 OFFSET 3").fetchone()
        target.execute(f"UPDATE assets_asset SET {column} = {value} WHERE id = ?", (row,))
        target.commit()
    done = filled("copy_catalog", str(spoilt), DATABASE_URL=url)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert f"assets_asset has a row that PostgreSQL does not take, id {UUID(row)}: " in done.stderr
    assert why in done.stderr
    assert shell(filled, COUNT, DATABASE_URL=url) == "(0, 0, True)"


def test_copy_catalog_without_postgresql_or_source_is_refused(
    filled: Manage, manage: Manage, tmp_path: Path, postgres_server: PostgresServer
) -> None:
    onto_sqlite = manage("copy_catalog", catalog(filled))
    assert onto_sqlite.returncode == 1
    assert "DATABASE_URL" in onto_sqlite.stderr
    absent = manage("copy_catalog", str(tmp_path / "absent"), DATABASE_URL=postgres_server.new_database())
    assert absent.returncode == 1
    assert "There is no catalog" in absent.stderr
    assert not (tmp_path / "absent").exists()


def test_copy_catalog_of_an_older_version_is_refused(manage: Manage, postgres_server: PostgresServer) -> None:
    manage("migrate", "assets", "0003")
    done = copied(manage, postgres_server.new_database())
    assert done.returncode == 1
    assert "lacks migrations" in done.stderr
