"""What a hostile job may leave in its outputs, and what becomes of it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from django.contrib.auth.models import User

from assets.models import Asset
from assets.workflows.outputs import MOST_OUTPUTS, Origin, collect_outputs, read_result
from tests.roles import ChangeEnvironment
from tests.workflows.conftest import Place


@pytest.fixture
def outputs(place: Place) -> Path:
    """Give the outputs of a workspace."""
    folder = place.folder / "workspace" / "outputs"
    folder.mkdir(parents=True)
    return folder


def collect(outputs: Path, owner: User) -> tuple[list[str], list[str]]:
    """Collect; gives names and problems."""
    found = collect_outputs(str(outputs.parent), Origin(user=owner, job_id="j"))
    return [str(asset.metadata["output"]) for asset in found.assets], found.problems


def test_regular_files_at_any_depth_become_assets_and_go(outputs: Path, owner: User) -> None:
    (outputs / "a" / "b").mkdir(parents=True)
    for path in ("one.txt", "a/two.txt", "a/b/three.txt", "a/empty"):
        (outputs / path).write_text("" if path.endswith("empty") else path)
    assert collect(outputs, owner) == (["a/b/three.txt", "a/empty", "a/two.txt", "one.txt"], [])
    assert collect(outputs, owner) == ([], [])
    assert Asset.objects.filter(job_id="j", owner=owner).count() == 4


def test_tricks_are_left_out_and_told_and_lose_no_other_file(outputs: Path, owner: User, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "secret").write_text("secret")
    (outputs / "link").symlink_to(secret)
    (outputs / "folder-link").symlink_to(tmp_path / "folder")
    (outputs / "hard").hardlink_to(secret)
    (outputs / "dangling").symlink_to("nowhere")
    os.mkfifo(outputs / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(outputs / "socket"))
    if os.geteuid() == 0:
        os.mknod(outputs / "device", 0o600 | 0o020000, os.makedev(1, 5))
    (outputs / "zz.txt").write_text("good")

    names, problems = collect(outputs, owner)

    assert names == ["zz.txt"]
    told = {line.partition(":")[0] for line in problems}
    assert told == {path.name for path in outputs.iterdir()}
    assert len(told) >= 6


def test_outputs_that_is_a_link_is_not_followed(place: Place, owner: User) -> None:
    elsewhere = place.folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "x.txt").write_text("x")
    workspace = place.folder / "workspace"
    workspace.mkdir()
    (workspace / "outputs").symlink_to(elsewhere)
    assert collect(workspace / "outputs", owner)[0] == []
    assert (elsewhere / "x.txt").exists()


def test_names_that_lie_are_shown_for_what_they_are(outputs: Path, owner: User) -> None:
    for name in (b"bad\xff.txt", b"new\nline.txt", "\u202egnp.txt".encode()):
        Path(os.fsdecode(os.fsencode(str(outputs)) + b"/" + name)).write_text("x")
    names, problems = collect(outputs, owner)
    assert sorted(names) == ["bad\ufffd.txt", "new\ufffdline.txt", "\ufffdgnp.txt"]
    assert problems == []


def test_file_beyond_the_quota_is_told_and_loses_no_other(
    outputs: Path, owner: User, change_environment: ChangeEnvironment
) -> None:
    change_environment(user_quota_bytes=100)
    (outputs / "big").write_bytes(b"x" * 1000)
    (outputs / "small").write_bytes(b"x")
    names, problems = collect(outputs, owner)
    assert names == ["small"]
    assert [line for line in problems if line.startswith("big: Your storage is full")] == problems
    assert (outputs / "big").exists()


def test_file_of_holes_is_refused_unread(outputs: Path, owner: User, change_environment: ChangeEnvironment) -> None:
    """A terabyte that costs its job nothing must not cost the service hours."""
    change_environment(max_upload_bytes=1 << 20)
    with (outputs / "huge").open("wb") as file:
        file.truncate(1 << 40)
    (outputs / "most").write_bytes(bytes(1 << 20))
    names, problems = collect(outputs, owner)
    assert names == ["most"]
    assert problems == ["huge: 1099511627776 bytes are more than MAX_UPLOAD_BYTES (1048576); left out"]


def test_more_outputs_than_allowed_are_told(outputs: Path, owner: User) -> None:
    for number in range(MOST_OUTPUTS + 1):
        (outputs / f"{number:05}").symlink_to("nowhere")
    _names, problems = collect(outputs, owner)
    assert len(problems) == MOST_OUTPUTS + 1
    assert "the rest is left out" in problems[-1]


def test_folders_too_deep_are_told(outputs: Path, owner: User) -> None:
    (outputs / "/".join("d" * 30)).mkdir(parents=True)
    names, problems = collect(outputs, owner)
    assert (names, len(problems)) == ([], 1)


def test_result_that_is_no_plain_small_file_is_none(place: Place) -> None:
    result = place.folder / ".result.json"
    assert read_result(str(place.folder)) is None
    result.symlink_to("/etc/hostname")
    assert read_result(str(place.folder)) is None
    result.unlink()
    result.write_bytes(b"1" * ((1 << 20) + 1))
    assert read_result(str(place.folder)) is None
    result.write_bytes(b"[1]")
    assert read_result(str(place.folder)) == b"[1]"
