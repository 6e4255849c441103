"""The options of purge_temp, what it prints, and its exit code."""

from __future__ import annotations

import io
import json
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.storage import storages
from django.core.management import CommandError, call_command
from django.utils import timezone

from assets.models import Asset, StoredObject
from assets.services import delete_assets
from tests.integrity.conftest import in_memory, on_disk, upload
from tests.manage import Manage

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def owner(settings: Any) -> User:
    settings.STORAGES = {**settings.STORAGES, **in_memory()}
    return User.objects.create_user("ann")


def run(*arguments: str) -> Any:
    return json.loads(text(*arguments, "--json"))


def text(*arguments: str) -> str:
    stream = io.StringIO()
    call_command("purge_temp", *arguments, stdout=stream)
    return stream.getvalue()


def expire(asset: Asset) -> None:
    Asset.objects.filter(pk=asset.pk).update(expires_at=timezone.now() - timedelta(seconds=1))


def test_purge_temp_expired_goes_and_the_rest_stays(owner: User) -> None:
    expired, alive = (upload(owner, content, bucket="temp") for content in (b"12345", b"123"))
    expire(expired)
    report = run()
    assert (report["objects"], report["bytes"], report["expired"]) == (1, 5, 1)
    assert (report["failures"], report["dry_run"]) == ([], False)
    assert list(Asset.objects.values_list("pk", flat=True)) == [alive.pk]


def test_purge_temp_zero_age_never_touches_temp_that_has_not_expired(owner: User) -> None:
    alive = upload(owner, b"123", bucket="temp")
    assert run("--older-than", "0")["objects"] == 0
    assert alive.object is not None
    assert storages["temp"].exists(alive.object.key)


def test_purge_temp_older_than_overrides_the_grace_time(owner: User) -> None:
    asset = upload(owner, b"12345")
    delete_assets([asset.pk])
    assert run()["objects"] == 0
    assert run("--older-than", "1h")["objects"] == 0
    assert run("--older-than", "0s")["objects"] == 1


def test_purge_temp_dry_run_changes_nothing(owner: User) -> None:
    expire(upload(owner, b"12345", bucket="temp"))
    report = run("--dry-run")
    assert (report["objects"], report["bytes"], report["expired"], report["dry_run"]) == (1, 5, 1, True)
    assert (Asset.objects.count(), StoredObject.objects.count()) == (1, 1)
    assert text("--dry-run").startswith("Would delete 1 objects, 5 bytes")


def test_purge_temp_without_json_prints_count_and_bytes(owner: User) -> None:
    expire(upload(owner, b"12345", bucket="temp"))
    assert text().startswith("Deleted 1 objects, 5 bytes")


def test_purge_temp_limit_and_batch_bound_the_work(owner: User) -> None:
    for number in range(5):
        expire(upload(owner, b"%d" % number, bucket="temp"))
    assert run("--limit", "3", "--batch", "2")["objects"] == 3
    assert run("--batch", "1")["objects"] == 2


@pytest.mark.parametrize(
    "arguments",
    [("--older-than", "soon"), ("--older-than", "-1h"), ("--older-than", "999999999999w"), ("--batch", "0"),
     ("--batch", "x"), ("--limit", "0"), ("--limit", "-1"), ("--nonsense",)],
    ids=lambda arguments: " ".join(arguments),
)  # fmt: skip
def test_purge_temp_bad_value_is_refused_clearly(arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError, match=r"must be|unrecognized|expected one argument"):
        text(*arguments)


def test_purge_temp_what_cannot_be_deleted_ends_with_1(owner: User, settings: Any, tmp_path: Path) -> None:
    settings.STORAGES = {**settings.STORAGES, **on_disk(tmp_path)}
    asset = upload(owner, b"12345", bucket="temp")
    expire(asset)
    assert asset.object is not None
    folder = tmp_path / "temp" / asset.object.key.split("/")[0]
    shutil.rmtree(folder)
    folder.symlink_to(folder)  # nobody, not even root, reaches what is below
    stream = io.StringIO()
    with pytest.raises(CommandError, match="could not be deleted") as caught:
        call_command("purge_temp", "--json", stdout=stream)
    assert caught.value.returncode == 1
    assert len(json.loads(stream.getvalue())["failures"]) == 1
    assert StoredObject.objects.count() == 1


def test_purge_temp_process_prints_only_json_on_stdout(manage: Manage) -> None:
    manage("prepare")
    result = manage("purge_temp", "--json")
    assert (result.returncode, json.loads(result.stdout)["objects"]) == (0, 0)


def test_purge_temp_process_bad_value_ends_without_traceback(manage: Manage) -> None:
    result = manage("purge_temp", "--older-than", "soon")
    assert result.returncode in (1, 2)
    assert "must be a duration such as 90s" in result.stderr
    assert "Traceback" not in result.stderr


def test_purge_temp_unmigrated_catalog_is_one_line(manage: Manage) -> None:
    result = manage("purge_temp", "--dry-run")
    assert result.returncode == 1
    assert "Traceback" not in result.stderr


def test_purge_temp_memory_of_another_process_is_refused(manage: Manage) -> None:
    result = manage("purge_temp", ASSET_STORAGE="memory")
    assert result.returncode == 1
    assert "in the process that serves them" in result.stderr
