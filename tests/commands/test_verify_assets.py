"""The report and the exit code of verify_assets: 0 clean, 1 findings, 2 could not tell."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.core.management import CommandError, call_command

from assets.ids import new_id
from assets.management.commands import verify_assets
from storagecache.keys import new_object_key
from tests.integrity.conftest import in_memory, on_disk, remove_bytes, upload
from tests.manage import Manage

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def owner(settings: Any) -> User:
    settings.STORAGES = {**settings.STORAGES, **in_memory()}
    return User.objects.create_user("ann")


def run(*arguments: str) -> tuple[int, str]:
    stream = io.StringIO()
    try:
        call_command("verify_assets", *arguments, stdout=stream)
    except CommandError as error:
        return error.returncode, stream.getvalue()
    return 0, stream.getvalue()


def test_verify_assets_clean_catalog_ends_with_0(owner: User) -> None:
    upload(owner, b"12345")
    code, out = run("--deep", "--json")
    report = json.loads(out)
    assert (code, report["status"], report["total"], report["findings"]) == (0, "clean", 0, [])
    assert (report["objects"], report["rows"], report["hashed_bytes"]) == (1, 1, 5)


def test_verify_assets_findings_are_listed_and_end_with_1(owner: User) -> None:
    asset = upload(owner, b"12345")
    remove_bytes(asset)
    code, out = run("--json")
    report = json.loads(out)
    assert (code, report["status"], report["total"]) == (1, "findings", 1)
    assert report["counts"]["row_without_object"] == 1
    assert asset.object is not None
    assert report["findings"][0] | {"detail": ""} == {
        "kind": "row_without_object", "bucket": "assets", "key": asset.object.key,
        "id": asset.object.pk.hex, "detail": "",
    }  # fmt: skip
    code, out = run()
    assert code == 1
    assert f"row_without_object  assets/{asset.object.key}" in out


def test_verify_assets_many_findings_are_all_counted(owner: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_assets, "LISTED", 2)
    for _ in range(3):
        storages["assets"].save(new_object_key(new_id()), ContentFile(b"x"))
    report = json.loads(run("--json")[1])
    assert (report["total"], len(report["findings"]), report["truncated"]) == (3, 2, True)
    assert "... and 1 more" in run()[1]


def test_verify_assets_bucket_out_of_reach_ends_with_2(owner: User, settings: Any, tmp_path: Any) -> None:
    settings.STORAGES = {**settings.STORAGES, **on_disk(tmp_path / "not" / "mounted")}
    code, out = run("--json")
    assert (code, json.loads(out)["status"]) == (2, "unsure")


def test_verify_assets_bucket_not_configured_ends_with_2(owner: User, settings: Any) -> None:
    upload(owner, b"12345")
    moved = in_memory()
    moved["assets"]["OPTIONS"]["bucket"] = "elsewhere"
    settings.STORAGES = {**settings.STORAGES, **moved}
    code, out = run("--json")
    assert code == 2
    assert "not configured" in json.loads(out)["error"]


@pytest.mark.parametrize("since", ["24h", "2026-05-04", "2026-05-04T12:00", "2026-05-04T12:00:00+02:00", "20260504"])
def test_verify_assets_since_takes_times_and_ages(owner: User, since: str) -> None:
    code, out = run("--since", since, "--json")
    assert code == 0
    assert json.loads(out)["since"].endswith(("+00:00", "+02:00"))


@pytest.mark.parametrize(
    "arguments",
    [
        ("--since", "soon"),
        ("--since", "999999999999w"),
        ("--since", "2026-13-01"),
        ("--undo", "1"),
        ("--undo", "x", "--repair"),
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_verify_assets_bad_argument_is_refused(owner: User, arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError, match=r"must be|not allowed"):
        call_command("verify_assets", *arguments)


@pytest.mark.parametrize(
    "variables",
    [{"ASSET_STORAGE": "memory"}, {"DB_PATH": "/nowhere/catalog.sqlite3"}, {}],
    ids=["memory-of-another-process", "no-database", "not-migrated"],
)
def test_verify_assets_process_that_cannot_tell_ends_with_2(manage: Manage, variables: dict[str, str]) -> None:
    result = manage("verify_assets", "--json", **variables)
    assert result.returncode == 2, result.stderr
    assert json.loads(result.stdout)["status"] == "unsure"
    assert "Traceback" not in result.stderr


def test_verify_assets_repair_then_undo_puts_the_stray_back(owner: User) -> None:
    for number in range(12):
        upload(owner, b"%d" % number)
    stray = storages["assets"].save("ab/stray", ContentFile(b"stray"))
    code, out = run("--repair", "--json")
    report = json.loads(out)
    assert (code, report["repaired"]["set_aside"], storages["assets"].exists(stray)) == (1, 1, False)
    assert run()[0] == 0
    code, out = run("--undo", report["run"], "--json")
    assert (code, json.loads(out)["returned"], storages["assets"].exists(stray)) == (0, 1, True)
    assert run("--undo", report["run"]) == (0, "0 objects were put back.\n")


def test_verify_assets_undo_of_an_unknown_run_ends_with_2(owner: User) -> None:
    assert run("--undo", new_id().hex)[0] == 2


def test_verify_assets_refused_repair_ends_with_2_and_says_why(owner: User) -> None:
    upload(owner, b"one")
    storages["assets"].save("ab/stray", ContentFile(b"stray"))
    code, out = run("--repair", "--json")
    assert (code, "more than 10 %" in json.loads(out)["error"]) == (2, True)
    assert storages["assets"].exists("ab/stray")
