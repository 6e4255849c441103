"""Backup and restore as docs/operations.md tells: a running service is saved, and goes on elsewhere."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.manage import Manage
from tests.server.service import Service, serving
from tests.servers import PostgresServer, SeaweedServer, new_seaweed, started

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="watches the processes through /proc"),
    pytest.mark.timeout(300),  # each starts services twice and six commands
]

Variables = dict[str, str]
KEPT = {f"kept/{number}.bin": bytes([number]) * (1000 * number) for number in range(5)}
SECRET_KEY = "backup-" + "k" * 50


def fill(service: Service) -> None:
    for key, body in KEPT.items():
        assert service.ask("PUT", f"/storage/assets/{key}", body=body).status == 201


def go_on(service: Service) -> None:
    """Do what happens between the two steps of a backup: something comes, something goes."""
    assert service.ask("PUT", "/storage/assets/newer.bin", body=b"newer").status == 201
    assert service.ask("DELETE", "/storage/assets/kept/1.bin").status == 204
    assert service.ask("PUT", "/storage/assets/kept/2.bin", body=b"replaced").status == 200
    service.manage("purge_temp")


def check(folder: Path, variables: Variables) -> None:
    """Prepare, verify and serve what was restored."""
    manage = Manage(folder / "config", variables)
    assert manage("prepare").returncode == 0
    done = manage("verify_assets", "--deep", "--json")
    found = json.loads(done.stdout)
    assert found["status"] != "unsure", done.stdout + done.stderr
    counts = {kind: number for kind, number in found["counts"].items() if number}
    assert counts == {"object_without_row": 2}  # newer.bin, and what replaced kept/2.bin
    assert manage("verify_assets", "--adopt").returncode == 1  # adopted; the two are still told
    refused = manage("verify_assets", "--repair", REPAIR_MAX_PERCENT="50")
    assert refused.returncode == 2  # objects younger than every row: nobody went on with this catalog yet
    with serving(folder, **variables) as service:
        for key, body in KEPT.items():
            assert service.ask("GET", f"/storage/assets/{key}").body == body
        assert service.ask("GET", "/storage/assets/newer.bin").status == 404
        assert service.ask("PUT", "/storage/assets/next.bin", body=b"next").status == 201
    repaired = manage("verify_assets", "--repair", "--json", REPAIR_MAX_PERCENT="50")  # two of seven objects
    assert json.loads(repaired.stdout)["repaired"]["set_aside"] == 2, repaired.stdout + repaired.stderr


def disk(old: Path, new: Path) -> None:
    """Copy the folder of the bucket."""
    source = old / "config" / "assets"
    (new / "config").mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, new / "config" / "assets", ignore=shutil.ignore_patterns(".staging"))


def saved_sqlite(service: Service) -> Callable[[Path], None]:
    """Back the catalog up; gives what restores it into a folder."""
    copy = service.folder / "catalog.sqlite3"
    catalog = service.folder / "config" / "nodetool.sqlite3"
    with closing(sqlite3.connect(catalog)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)

    def restore(folder: Path) -> None:
        (folder / "config").mkdir(parents=True, exist_ok=True)
        shutil.copy(copy, folder / "config" / "nodetool.sqlite3")

    return restore


def saved_postgresql(postgres: PostgresServer, url: str, file: Path) -> Callable[[str], None]:
    """Back the catalog up; gives what restores it into a database."""
    command = [str(postgres.binaries / "pg_dump"), "--format=custom", f"--file={file}", url]
    subprocess.run(command, check=True, capture_output=True)

    def restore(new_url: str) -> None:
        restoring = [str(postgres.binaries / "pg_restore"), "--no-owner", f"--dbname={new_url}", str(file)]
        subprocess.run(restoring, check=True, capture_output=True)

    return restore


def test_backup_of_sqlite_and_a_folder_goes_on_elsewhere(tmp_path: Path) -> None:
    old, new, common = tmp_path / "old", tmp_path / "new", {"SECRET_KEY": SECRET_KEY}
    with serving(old, **common) as service:
        fill(service)
        restore = saved_sqlite(service)
        go_on(service)
        disk(old, new)
    restore(new)
    check(new, common)


def test_backup_of_postgresql_and_a_folder_goes_on_elsewhere(tmp_path: Path, postgres_server: PostgresServer) -> None:
    old, new, common = tmp_path / "old", tmp_path / "new", {"SECRET_KEY": SECRET_KEY}
    url, new_url = postgres_server.new_database(), postgres_server.new_database()
    with serving(old, DATABASE_URL=url, **common) as service:
        fill(service)
        restore = saved_postgresql(postgres_server, url, tmp_path / "catalog.dump")
        go_on(service)
        disk(old, new)
    restore(new_url)
    check(new, common | {"DATABASE_URL": new_url})


def test_backup_of_postgresql_and_s3_goes_on_elsewhere(
    tmp_path: Path, postgres_server: PostgresServer, seaweedfs: SeaweedServer
) -> None:
    url, new_url, bucket = postgres_server.new_database(), postgres_server.new_database(), seaweedfs.new_bucket()
    common = {"SECRET_KEY": SECRET_KEY, "S3_DELIVERY": "proxy"}
    with started("seaweedfs-restored", new_seaweed) as other:
        with serving(tmp_path / "old", DATABASE_URL=url, **common, **seaweedfs.variables(bucket)) as service:
            fill(service)
            restore = saved_postgresql(postgres_server, url, tmp_path / "catalog.dump")
            go_on(service)
            _copy_bucket(seaweedfs, other, bucket)
        restore(new_url)
        check(tmp_path / "new", common | other.variables(bucket) | {"DATABASE_URL": new_url})


def _copy_bucket(old: SeaweedServer, new: SeaweedServer, bucket: str) -> None:
    source, target = old.client(), new.client()
    target.create_bucket(Bucket=bucket)
    for held in source.list_objects_v2(Bucket=bucket).get("Contents", []):
        body = source.get_object(Bucket=bucket, Key=held["Key"])["Body"].read()
        target.put_object(Bucket=bucket, Key=held["Key"], Body=body)
