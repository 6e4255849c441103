"""The table of what a job sees: by storage, by who may use the service, by where it runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assets.workflows.manifest import render_manifest
from assets.workflows.mounts import Input, Layout, Mount, plan_for_container, plan_for_host
from storagecache.environment import Environment

LAYOUT = Layout(workspace="/w/1", scratch="/r/scratch", secrets="/r/secrets")
OWN = (Mount("/w/1", "/workspace", writable=True), Mount("/w/1/.assets", "/workspace/.assets"),
       Mount("/r/scratch", "/scratch", writable=True), Mount("/r/scratch", "/tmp", writable=True))  # fmt: skip
INSIDE = {"WORKSPACE_DIR": "/workspace", "TEMP_FOLDER": "/scratch", "TMPDIR": "/scratch", "HOME": "/scratch"}
OUTSIDE = {"WORKSPACE_DIR": "/w/1", "TEMP_FOLDER": "/r/scratch", "TMPDIR": "/r/scratch", "HOME": "/r/scratch"}
ASSET = Input(
    id="a" * 32, name="a.png", key="aa/1.png", sha256="0" * 64, content_type="image/png", size=1,
    local_path="/data/assets/aa/1.png",
)  # fmt: skip
TEMP = replace(ASSET, id="b" * 32, key="bb/2.png", local_path="/data/temp/bb/2.png")
REMOTE = replace(ASSET, local_path=None)
S3 = {
    "asset_storage": "s3", "asset_bucket": "b", "asset_temp_bucket": "t", "s3_endpoint_url": "https://s3.example",
    "s3_access_key_id": "AK", "s3_secret_access_key": "SK",
}  # fmt: skip
BUCKETS = {
    "ASSET_STORAGE": "s3", "ASSET_BUCKET": "b", "ASSET_TEMP_BUCKET": "t", "S3_ENDPOINT_URL": "https://s3.example",
    "S3_REGION": "us-east-1",
}  # fmt: skip
NODE_FOLDERS = {"font_path": Path("/f"), "comfy_folder": Path("/c"), "chroma_path": Path("/ch")}


def environment(**fields: Any) -> Environment:
    """Make an environment on disk, with one local user."""
    given = {"asset_storage": "filesystem", "asset_folder_path": Path("/data/assets"), "auth_provider": "local"}
    return Environment(config_folder=Path("/config"), **given | fields)


CONTAINER: list[tuple[str, dict[str, Any], tuple[Input, ...], tuple[Mount, ...], dict[str, str], list[str], int]] = [
    ("local sees the asset folder", {}, (ASSET,), (Mount("/data/assets", "/assets"),),
     {"ASSET_STORAGE": "filesystem", "ASSET_FOLDER": "/assets"}, ["/assets/aa/1.png"], 0),
    ("local sees a temp input alone", {}, (ASSET, TEMP),
     (Mount("/data/assets", "/assets"), Mount("/data/temp/bb/2.png", "/inputs/bb/2.png")),
     {"ASSET_STORAGE": "filesystem", "ASSET_FOLDER": "/assets"}, ["/assets/aa/1.png", "/inputs/bb/2.png"], 0),
    ("tokens: inputs alone", {"auth_provider": "token"}, (ASSET, replace(ASSET, id="c" * 32), TEMP),
     (Mount("/data/assets/aa/1.png", "/assets/aa/1.png"), Mount("/data/temp/bb/2.png", "/inputs/bb/2.png")),
     {"ASSET_STORAGE": "filesystem", "ASSET_FOLDER": "/assets"},
     ["/assets/aa/1.png", "/assets/aa/1.png", "/inputs/bb/2.png"], 0),
    ("production is never local", {"env": "production"}, (ASSET,),
     (Mount("/data/assets/aa/1.png", "/assets/aa/1.png"),),
     {"ASSET_STORAGE": "filesystem", "ASSET_FOLDER": "/assets"}, ["/assets/aa/1.png"], 0),
    ("tokens without inputs: nothing", {"auth_provider": "token"}, (), (),
     {"ASSET_STORAGE": "filesystem", "ASSET_FOLDER": "/assets"}, [], 0),
    ("S3: the bucket, no key", S3, (REMOTE,), (), BUCKETS, ["/workspace/.assets/inputs/aa/1.png"], 1),
    ("folders of nodes", NODE_FOLDERS, (),
     (Mount("/f", "/fonts"), Mount("/c", "/comfy"), Mount("/ch", "/chroma"), Mount("/data/assets", "/assets")),
     {"ASSET_STORAGE": "filesystem", "ASSET_FOLDER": "/assets", "FONT_PATH": "/fonts", "COMFY_FOLDER": "/comfy",
      "CHROMA_PATH": "/chroma"}, [], 0),
]  # fmt: skip
HOST: list[tuple[str, dict[str, Any], tuple[Input, ...], dict[str, str], list[str], int]] = [
    ("local sees the files themselves", {}, (ASSET, TEMP),
     {"ASSET_STORAGE": "filesystem", "ASSET_FOLDER": "/data/assets"},
     ["/data/assets/aa/1.png", "/data/temp/bb/2.png"], 0),
    ("tokens: inputs are put aside", {"auth_provider": "token"}, (ASSET,),
     {"ASSET_STORAGE": "filesystem", "ASSET_FOLDER": "/w/1/.assets/inputs"}, ["/w/1/.assets/inputs/aa/1.png"], 1),
    ("S3: the bucket, no key", S3, (REMOTE,), BUCKETS, ["/w/1/.assets/inputs/aa/1.png"], 1),
    ("folders of nodes", NODE_FOLDERS, (),
     {"ASSET_STORAGE": "filesystem", "ASSET_FOLDER": "/data/assets", "FONT_PATH": "/f", "COMFY_FOLDER": "/c",
      "CHROMA_PATH": "/ch"}, [], 0),
]  # fmt: skip


@pytest.mark.parametrize("row", CONTAINER, ids=lambda row: row[0])
def test_container_sees(row: Any) -> None:
    _, fields, inputs, mounts, variables, paths, fetched = row
    plan = plan_for_container(environment(**fields), LAYOUT, inputs)
    assert set(plan.mounts) == {*OWN, *mounts}
    assert len(plan.mounts) == len(set(plan.mounts))
    assert dict(plan.variables) == INSIDE | variables
    assert [plan.paths[each.id] for each in inputs] == paths
    assert len(plan.to_fetch) == fetched


@pytest.mark.parametrize("row", HOST, ids=lambda row: row[0])
def test_process_on_this_machine_sees(row: Any) -> None:
    _, fields, inputs, variables, paths, fetched = row
    plan = plan_for_host(environment(**fields), LAYOUT, inputs)
    assert plan.mounts == ()
    assert dict(plan.variables) == OUTSIDE | variables
    assert [plan.paths[each.id] for each in inputs] == paths
    assert len(plan.to_fetch) == fetched


def test_only_workspace_and_scratch_are_writable() -> None:
    layout = replace(LAYOUT, code="/code-here")
    plan = plan_for_container(environment(**NODE_FOLDERS), layout, (ASSET, TEMP), secret_files=("KEY",))
    assert {mount.target for mount in plan.mounts if mount.writable} == {"/workspace", "/scratch", "/tmp"}
    assert Mount("/code-here", "/code") in plan.mounts
    assert Mount("/r/secrets/KEY", "/run/secrets/KEY") in plan.mounts
    assert (plan.variables["PYTHONPATH"], plan.variables["KEY_FILE"]) == ("/code", "/run/secrets/KEY")


def test_no_plan_holds_a_secret_or_the_temp_folder() -> None:
    for fields in ({}, S3, {"auth_provider": "token"}):
        where = environment(secret_key="hush", admin_password="hush", temp_folder_path=Path("/data/temp"), **fields)
        for plan in (plan_for_container(where, LAYOUT, ()), plan_for_host(where, LAYOUT, ())):
            text = repr((plan.mounts, dict(plan.variables)))
            assert [word for word in ("hush", "AK", "SK", "/data/temp") if word in text] == []


def test_manifest_names_id_name_path_digest_and_type() -> None:
    hostile = replace(ASSET, name='"]\n../ü')
    assert json.loads(render_manifest((hostile,), {ASSET.id: "/assets/aa/1.png"})) == [
        {"id": ASSET.id, "name": '"]\n../ü', "path": "/assets/aa/1.png", "sha256": "0" * 64, "type": "image/png"}
    ]
