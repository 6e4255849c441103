"""One asset over the API: made, read, changed, moved, deleted, restored; shapes, statuses, bad input, statements."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from assets.models import Account, Asset, Derivation, StoredObject
from assets.services import records
from tests.api.conftest import ago, copies, make_file, make_folder

UNKNOWN = "0" * 32
PNG = b"\x89PNG\r\n\x1a\n" + b"\x00" * 20


def post(client: Client, said: object, file: bytes | None = None, name: str = "a.txt", **headers: Any) -> Any:
    """Make an asset as NodeTool's clients do."""
    parts: dict[str, Any] = {"json": said if isinstance(said, str) else json.dumps(said)}
    if file is not None:
        parts["file"] = SimpleUploadedFile(name, file, content_type="text/plain")
    return client.post("/api/assets/", parts, headers=headers)


def put(client: Client, asset: Asset | str, body: object, **headers: str) -> Any:
    asset_id = asset if isinstance(asset, str) else asset.pk.hex
    raw = body if isinstance(body, bytes | str) else json.dumps(body)
    return client.put(f"/api/assets/{asset_id}", raw, content_type="application/json", headers=headers)


def delete(client: Client, asset: Asset, query: str = "", **headers: str) -> Any:
    return client.delete(f"/api/assets/{asset.pk.hex}{query}", headers=headers)


def deleted_ids(response: Any) -> list[str]:
    assert response.status_code == 200
    ids: list[str] = json.loads(b"".join(response))["deleted_asset_ids"]
    return ids


def get(client: Client, asset: Asset | str) -> Any:
    return client.get(f"/api/assets/{asset if isinstance(asset, str) else asset.pk.hex}")


def refused(response: Any, status: int, field: str = "") -> None:
    """Assert that a response is one error which names the field."""
    assert response.status_code == status, response.content
    assert list(response.json()) == ["detail"]
    assert field in response.json()["detail"]


# --- create ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/assets", "/api/assets/"])
def test_post_makes_a_file_with_all_that_is_said_of_it(client: Client, owner: User, path: str) -> None:
    folder, source = make_folder(owner), make_file(owner, "source", b"source")
    said = {
        "name": "ä.txt", "content_type": "text/plain", "parent_id": folder.pk.hex, "workflow_id": "w", "job_id": "j",
        "node_id": "n", "metadata": {"seed": 42, "deep": [{"x": None}]}, "tags": ["x", "y", "x"], "expires_in": 3600,
        "sources": [source.pk.hex, UNKNOWN], "duration": 1.5, "size": 7, "color": "unknown fields are ignored",
    }  # fmt: skip
    response = client.post(path, {"json": json.dumps(said), "file": SimpleUploadedFile("f", b"hello")})
    assert response.status_code == 200, response.content
    made = response.json()
    assert response["ETag"] == '"1"'
    expected = {name: said[name] for name in ("name", "content_type", "workflow_id", "job_id", "node_id", "metadata")}
    expected |= {"parent_id": folder.pk.hex, "tags": ["x", "y"], "size": 5, "revision": 1, "duration": 1.5}
    assert {name: made[name] for name in expected} == expected
    assert made["expires_at"] is not None
    assert made["sha256"] == hashlib.sha256(b"hello").hexdigest()
    assert made["key"] == f"{made['id']}.txt"
    assert list(Derivation.objects.values_list("source_id", "job_id", "node_id")) == [(source.pk, "j", "n")]
    assert get(client, made["id"]).json() == made


def test_post_without_name_and_type_takes_those_of_the_file(client: Client) -> None:
    made = client.post("/api/assets", {"json": "{}", "file": SimpleUploadedFile("p.png", PNG, "image/png")}).json()
    assert (made["name"], made["content_type"], made["parent_id"]) == ("p.png", "image/png", "1")


def test_post_of_bytes_that_contradict_their_type_is_octet_stream(client: Client) -> None:
    made = post(client, {"name": "a", "content_type": "image/png"}, b"<script>").json()
    assert made["content_type"] == "application/octet-stream"


def test_post_takes_json_as_a_blob(client: Client) -> None:
    blob = SimpleUploadedFile("blob", b'{"name": "b", "content_type": "text/plain"}', "application/json")
    response = client.post("/api/assets", {"json": blob, "file": SimpleUploadedFile("f", b"x")})
    assert response.status_code == 200, response.content
    assert response.json()["name"] == "b"


def test_post_makes_a_folder(client: Client, owner: User) -> None:
    parent = make_folder(owner)
    said = {"name": "F", "content_type": "folder", "parent_id": parent.pk.hex, "tags": ["t"], "metadata": {"a": 1}}
    made = post(client, said).json()
    assert (made["content_type"], made["parent_id"], made["size"], made["get_url"]) == (
        "folder",
        parent.pk.hex,
        None,
        None,
    )
    assert (made["tags"], made["metadata"]) == (["t"], {"a": 1})


def test_post_of_two_of_one_name_makes_both(client: Client) -> None:
    ids = {post(client, {"name": "same", "content_type": "folder"}).json()["id"] for _ in range(2)}
    assert len(ids) == 2


@pytest.fixture
def parents(owner: User, other: User) -> dict[str, Any]:
    trashed = make_folder(owner, "trashed")
    Asset.objects.filter(pk=trashed.pk).update(trashed_at=timezone.now(), trashed_root=trashed.pk)
    dying = make_folder(owner, "dying")
    Asset.objects.filter(pk=dying.pk).update(trashed_root=dying.pk)
    found = {"file": make_file(owner), "foreign": make_folder(other), "trashed": trashed, "dying": dying}
    return {name: asset.pk.hex for name, asset in found.items()} | {
        "unknown": UNKNOWN,
        "odd": "x",
        "empty": "",
        "2": "2",
    }


PARENTS = [("file", 422), *((name, 404) for name in ("foreign", "trashed", "dying", "unknown", "odd", "empty", "2"))]


@pytest.mark.parametrize(("parent", "status"), PARENTS)
def test_parent_that_is_no_folder_is_refused(
    client: Client, owner: User, parents: dict[str, str], parent: str, status: int
) -> None:
    moved = make_file(owner, "moved", b"moved")
    for content_type in ("folder", "text/plain"):
        said = {"name": "a", "content_type": content_type, "parent_id": parents[parent]}
        refused(post(client, said, None if content_type == "folder" else b"x"), status, "parent_id")
    refused(put(client, moved, {"parent_id": parents[parent]}), status, "parent_id")
    refused(put(client, moved, {"parent_id": parents[parent], "data": "x"}), status, "parent_id")
    assert get(client, moved).json()["revision"] == 1


NAMES = ["", " ", "\t", "\u3000", "a\x00", "a\nb", "\x7f", "a\x85", "x" * 10_000, "x" * 1025, 7, [], {}]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_name_that_is_none_is_refused(client: Client, owner: User, name: object) -> None:
    refused(post(client, {"name": name, "content_type": "folder"}), 422, "name")
    refused(put(client, make_file(owner), {"name": name}), 422, "name")


@pytest.mark.parametrize("name", ["x" * 1024, "😀" * 1024, "..", "a/b", "CON", "\u202e", "%00", "'; --", "ß" * 1024])
def test_name_of_any_other_kind_is_kept(client: Client, name: str) -> None:
    made = post(client, {"name": name, "content_type": "folder"}).json()
    assert get(client, made["id"]).json()["name"] == name


FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"content_type": "no type"}, "content_type"),
    ({"content_type": "text/" + "x" * 300}, "content_type"),
    ({"metadata": []}, "metadata"),
    ({"metadata": "x"}, "metadata"),
    ({"metadata": {"x": "y" * 300_000}}, "metadata"),
    ({"metadata": {"x": "a\x00"}}, "metadata"),
    ({"metadata": {"a\x00": 1}}, "metadata"),
    ({"tags": "x"}, "tags"),
    ({"tags": [""]}, "tags.0"),
    ({"tags": ["ok", "a\n"]}, "tags.1"),
    ({"tags": ["x" * 256]}, "tags.0"),
    ({"tags": ["x"] * 101}, "tags"),
]
CREATE_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"workflow_id": "x" * 256}, "workflow_id"),
    ({"job_id": 5}, "job_id"),
    ({"node_id": "\x00"}, "node_id"),
    ({"expires_in": 0}, "expires_in"),
    ({"expires_in": -1}, "expires_in"),
    ({"expires_in": 10**12}, "expires_in"),
    ({"expires_in": "soon"}, "expires_in"),
    ({"sources": ["x"]}, "sources.0"),
    ({"sources": [UNKNOWN] * 1001}, "sources"),
    ({"duration": -1}, "duration"),
    ({"size": -1}, "size"),
]


@pytest.mark.parametrize(("fields", "field"), FIELDS + CREATE_FIELDS)
def test_post_with_a_bad_field_is_refused_by_name(client: Client, fields: dict[str, Any], field: str) -> None:
    refused(post(client, {"name": "a", "content_type": "text/plain"} | fields, b"x"), 422, field)
    assert not Asset.objects.exists()


@pytest.mark.parametrize(("fields", "field"), FIELDS)
def test_put_with_a_bad_field_is_refused_by_name(
    client: Client, owner: User, fields: dict[str, Any], field: str
) -> None:
    asset = make_file(owner)
    refused(put(client, asset, fields), 422, field)
    assert get(client, asset).json()["revision"] == 1


def nested(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


RAW = [
    ('{"metadata": {"a": NaN}}', 400, "NaN"),
    ('{"metadata": {"a": [1, -Infinity]}}', 400, "Infinity"),
    ('{"metadata": {"a": 1e999}}', 400, "too large"),
    ('{"name": "a", "name": "b"}', 400, "twice"),
    ('{"metadata": {"x": {"k": 1, "k": 1}}}', 400, "twice"),
    ('{"metadata": {"a": "\\ud800"}}', 400, "surrogate"),
    ('{"name": "\\udc00"}', 400, "surrogate"),
    ('{"metadata": ' + nested(36) + "}", 422, "metadata"),
    ('{"metadata": ' + nested(500) + "}", 400, "levels"),
    ('{"metadata": ' + nested(100_000) + "}", 400, "levels"),
    ('{"metadata": {"a": "' + "x" * 5_000_000 + '"}}', 413, "4194304 bytes"),
    ('{"metadata": {"a": ' + "9" * 5000 + "}}", 400, "digits"),
    ("", 400, "JSON"),
    ("{", 400, "JSON"),
    ("[" * 100_000, 400, "levels"),
    ("[]", 422, ""),
    ("7", 422, ""),
    ("null", 422, ""),
    ('"text"', 422, ""),
]


@pytest.mark.parametrize(("raw", "status", "field"), RAW, ids=range(len(RAW)))
def test_json_that_two_readers_may_understand_differently_is_refused(
    client: Client, owner: User, raw: str, status: int, field: str
) -> None:
    asset = make_file(owner)
    refused(post(client, raw, b"x"), status, field)
    refused(put(client, asset, raw), status, field)
    assert list(Asset.objects.values_list("pk", "revision")) == [(asset.pk, 1)]


def test_body_that_is_no_utf_8_is_refused(client: Client, owner: User) -> None:
    refused(put(client, make_file(owner), b'{"name": "\xff"}'), 400, "UTF-8")


@pytest.mark.parametrize(
    ("said", "file", "field"),
    [
        ({"name": "a", "content_type": "text/plain"}, None, "file"),
        ({"name": "a"}, None, "file"),
        ({"name": "a", "content_type": "folder"}, b"x", "file"),
        ({"content_type": "folder"}, None, "name"),
        ({"name": "a", "content_type": "folder", "expires_in": 5}, None, "expires_in"),
    ],
)
def test_post_of_parts_that_do_not_fit_is_refused(client: Client, said: object, file: bytes | None, field: str) -> None:
    refused(post(client, said, file), 422, field)
    assert not Asset.objects.exists()


def test_post_without_json_is_refused(client: Client) -> None:
    refused(client.post("/api/assets", {"file": io.BytesIO(b"x")}), 422, "json")
    refused(client.post("/api/assets", "{}", content_type="application/json"), 422, "json")
    refused(client.post("/api/assets"), 422, "json")


def test_post_of_two_files_is_refused(client: Client) -> None:
    refused(client.post("/api/assets", {"json": "{}", "file": [io.BytesIO(b"x"), io.BytesIO(b"y")]}), 400, "file")


@pytest.mark.parametrize(
    "content_type", ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=x"]
)
def test_post_of_a_malformed_form_is_refused(client: Client, content_type: str) -> None:
    response = client.generic("POST", "/api/assets", b"--y\r\nnothing", content_type=content_type)
    assert response.status_code in (400, 422)
    assert list(response.json()) == ["detail"]


def test_post_of_a_form_that_was_cut_stores_nothing(client: Client) -> None:
    whole = (
        b'--b\r\nContent-Disposition: form-data; name="json"\r\n\r\n{"name": "a"}\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n0123456789\r\n--b--\r\n'
    )
    cut = client.generic(
        "POST", "/api/assets", whole[:-12], content_type="multipart/form-data; boundary=b",
        CONTENT_LENGTH=str(len(whole)), **{"wsgi.input": io.BytesIO(whole[:-12])},
    )  # fmt: skip
    refused(cut, 400, "early")
    assert not Asset.objects.exists()
    assert not StoredObject.objects.exists()


FORM = (
    b'--b\r\nContent-Disposition: form-data; name="json"\r\n\r\n{"name": "a"}\r\n'
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n%s\r\n'
)


@pytest.mark.parametrize("size", [10, (1 << 20) - 1, (1 << 20) + 1])
@pytest.mark.parametrize("end", [b"", b"--b", b"--b\r\n", b"--b-", b"--"])
def test_post_of_a_form_without_its_closing_boundary_stores_nothing(client: Client, end: bytes, size: int) -> None:
    sent = client.generic("POST", "/api/assets", FORM % (b"x" * size) + end, "multipart/form-data; boundary=b")
    refused(sent, 400, "closing boundary")
    assert not Asset.objects.exists()
    assert not StoredObject.objects.exists()


@pytest.mark.parametrize("end", [b"--b--", b"--b--\r\n", b"--b-- \r\nan epilogue"])
def test_post_of_a_form_is_taken_wherever_its_closing_boundary_lies(client: Client, end: bytes) -> None:
    for size in range(65_300, 65_310):  # so that the boundary lies on both sides of a block's end, and across it
        sent = client.generic("POST", "/api/assets", FORM % (b"x" * size) + end, "multipart/form-data; boundary=b")
        assert (sent.status_code, sent.json()["size"]) == (200, size)


def test_post_of_a_form_in_chunks_is_refused(client: Client) -> None:
    response = client.generic("POST", "/api/assets", b"", HTTP_TRANSFER_ENCODING="chunked")
    refused(response, 411, "Content-Length")


def test_post_of_a_file_that_is_too_large_is_refused(client: Client, configure: Callable[..., Any]) -> None:
    configure(max_upload_bytes=10)
    refused(post(client, {"name": "a"}, b"x" * 11), 413, "10 bytes")
    assert post(client, {"name": "a"}, b"x" * 10).status_code == 200


def test_post_over_quota_is_refused(client: Client, owner: User) -> None:
    Account.objects.create(user=owner, quota_bytes=10)
    refused(post(client, {"name": "a"}, b"x" * 11), 507, "full")
    assert not Asset.objects.exists()


# --- read -----------------------------------------------------------------------------------------


def test_home_is_a_folder_with_the_users_id(client: Client) -> None:
    home = get(client, "1").json()
    assert (home["id"], home["name"], home["content_type"], home["parent_id"]) == ("1", "Home", "folder", "")
    assert get(client, "2").status_code == 404


def test_by_filename_gives_the_newest_of_the_name_or_the_key(client: Client, owner: User, other: User) -> None:
    make_file(owner, "n.txt", b"1")
    newest = make_file(owner, "n.txt", b"2", parent=make_folder(owner))
    make_file(other, "n.txt", b"3")
    make_file(other, "theirs", b"4")
    gone = make_file(owner, "gone", b"5")
    Asset.objects.filter(pk=gone.pk).update(trashed_at=timezone.now())
    long = make_file(owner, "ä/" + "x" * 400, b"6")
    for name, found in (("n.txt", newest), (newest.key, newest), ("ä/" + "x" * 400, long)):
        assert client.get(f"/api/assets/by-filename/{name}").json()["id"] == found.pk.hex
    for name in ("N.TXT", "n.tx", "theirs", "gone", "%00", "%25", "ä/" + "x" * 399, "n.txt/"):
        refused(client.get(f"/api/assets/by-filename/{name}"), 404, "name")


def test_packages_are_none(client: Client) -> None:
    assert client.get("/api/assets/packages").json() == {"assets": []}


def test_recursive_nests_what_lies_in_what(client: Client, owner: User) -> None:
    top = make_folder(owner, "top")
    sub, empty = make_folder(owner, "sub", top), make_folder(owner, "empty", top)
    deep = make_file(owner, "deep", parent=sub)
    make_file(owner, "beside", b"beside")
    expired = make_file(owner, "expired", b"e", parent=top)
    Asset.objects.filter(pk=expired.pk).update(expires_at=ago(seconds=1))
    (root,) = client.get(f"/api/assets/{top.pk.hex}/recursive").json()["assets"]
    assert {name: root[name] for name in root if name != "children"} == get(client, top).json()
    assert [child["name"] for child in root["children"]] == ["sub", "empty"]
    (leaf,) = root["children"][0]["children"]
    assert (leaf["id"], leaf["children"]) == (deep.pk.hex, [])
    assert leaf["get_url"]
    assert root["children"][1] == {**get(client, empty).json(), "children": []}
    (alone,) = client.get(f"/api/assets/{deep.pk.hex}/recursive").json()["assets"]
    assert alone["children"] == []
    (home,) = client.get("/api/assets/1/recursive").json()["assets"]
    assert [child["name"] for child in home["children"]] == ["top", "beside"]


def test_recursive_of_a_deep_tree_is_written_whole(client: Client, owner: User) -> None:
    top = folder = make_folder(owner, "0")
    for number in range(1, 300):
        folder = make_folder(owner, str(number), folder)
    text = client.get(f"/api/assets/{top.pk.hex}/recursive").content.decode()
    assert text.count('"children":[') == 300
    assert json.loads(text)


def test_recursive_of_too_large_a_tree_is_refused_whatever_has_expired(
    client: Client, owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "MAX_TREE", 2)
    top = make_folder(owner, "top")
    a, _ = (make_file(owner, name, parent=top) for name in "ab")
    path = f"/api/assets/{top.pk.hex}/recursive"
    assert len(client.get(path).json()["assets"][0]["children"]) == 2
    make_file(owner, "c", parent=top)
    Asset.objects.filter(pk=a.pk).update(expires_at=ago(seconds=1))
    refused(client.get(path), 422, "2 assets")


# --- change ---------------------------------------------------------------------------------------


def test_put_changes_what_is_named_and_nothing_else(client: Client, owner: User) -> None:
    folder = make_folder(owner)
    asset = make_file(owner, "a", metadata={"a": 1}, tags=("t",), workflow_id="w")
    before = get(client, asset).json()
    response = put(client, asset, {"name": "ÜBER", "color": "ignored", "tags": None})
    after = response.json()
    assert (after["name"], after["revision"], response["ETag"]) == ("ÜBER", 2, '"2"')
    assert {k: v for k, v in after.items() if k not in ("name", "revision", "updated_at")} == {
        k: v for k, v in before.items() if k not in ("name", "revision", "updated_at")
    }
    assert Asset.objects.get(pk=asset.pk).name_folded == "über"
    changed = {"parent_id": folder.pk.hex, "metadata": {"b": True}, "tags": ["u", "u"], "content_type": "text/markdown"}
    after = put(client, asset, changed).json()
    assert {name: after[name] for name in changed} == changed | {"tags": ["u"]}
    assert (after["revision"], after["get_url"] is not None) == (3, True)
    assert get(client, asset).json() == after
    assert put(client, asset, {"parent_id": "1", "metadata": {}, "tags": []}).json()["parent_id"] == "1"


def test_put_of_what_is_so_already_keeps_the_revision(client: Client, owner: User) -> None:
    asset = make_file(owner, "a", metadata={"a": 1})
    for body in ({}, {"name": "a"}, {"parent_id": "1"}, {"metadata": {"a": 1}}, {"content_type": "text/plain"}):
        assert put(client, asset, body).json()["revision"] == 1
    assert put(client, asset, {"metadata": {"a": True}}).json()["metadata"] == {"a": True}


def test_put_of_a_type_that_the_bytes_are_not_is_octet_stream(client: Client, owner: User) -> None:
    asset = make_file(owner)
    assert put(client, asset, {"content_type": "image/png"}).json()["content_type"] == "application/octet-stream"


def test_put_data_replaces_the_bytes_with_the_rest(client: Client, owner: User) -> None:
    folder = make_folder(owner)
    asset = make_file(owner, "a.txt")
    after = put(client, asset, {"data": "täxt", "name": "b.txt", "parent_id": folder.pk.hex}).json()
    assert (after["size"], after["name"], after["parent_id"], after["revision"]) == (5, "b.txt", folder.pk.hex, 2)
    assert after["sha256"] == hashlib.sha256("täxt".encode()).hexdigest()
    assert put(client, asset, {"data": ""}).json()["size"] == 0
    assert Account.objects.get(pk=1).used_bytes == 0


def test_put_data_over_quota_changes_nothing(client: Client, owner: User) -> None:
    asset = make_file(owner, "a", b"1")
    Account.objects.filter(pk=1).update(quota_bytes=5)
    refused(put(client, asset, {"data": "123456", "name": "b"}), 507, "full")
    assert get(client, asset).json()["name"] == "a"


@pytest.mark.parametrize(("body", "field"), [({"data": "x"}, "data"), ({"content_type": "text/plain"}, "content_type")])
def test_put_of_bytes_to_a_folder_is_refused(client: Client, owner: User, body: object, field: str) -> None:
    folder = make_folder(owner)
    refused(put(client, folder, body), 422, field)
    assert put(client, folder, {"content_type": "folder"}).json()["revision"] == 1
    refused(put(client, make_file(owner), {"content_type": "folder"}), 422, "content_type")
    response = client.put(f"/api/assets/{folder.pk.hex}/content", b"x", content_type="text/plain")
    refused(response, 422, "folder")


@pytest.mark.parametrize(
    ("tag", "status"),
    [('"1"', 200), ("*", 200), ('"0", "1"', 200), ('"2"', 412), ('W/"1"', 412), ("1", 412), ("", 412)],
)
def test_put_with_if_match_holds_the_revision(client: Client, owner: User, tag: str, status: int) -> None:
    asset = make_file(owner)
    for body in ({"name": "b"}, {"data": "c"}):
        Asset.objects.update(revision=1)
        assert put(client, asset, body, If_Match=tag).status_code == status
    assert Asset.objects.get().name == ("b" if status == 200 else "a.png")


def test_move_into_itself_or_below_is_refused(client: Client, owner: User) -> None:
    top = make_folder(owner, "top")
    sub = make_folder(owner, "sub", top)
    deep = make_folder(owner, "deep", sub)
    for target in (top, sub, deep):
        refused(put(client, top, {"parent_id": target.pk.hex, "name": "x"}), 409, "parent_id")
    assert put(client, deep, {"parent_id": "1"}).status_code == 200
    assert put(client, top, {"parent_id": deep.pk.hex}).status_code == 200
    refused(put(client, deep, {"parent_id": sub.pk.hex}), 409, "parent_id")
    assert get(client, top).json()["name"] == "top"


def test_home_is_not_changed_or_deleted(client: Client) -> None:
    refused(put(client, "1", {"name": "x"}), 409, "home")
    refused(client.delete("/api/assets/1"), 409, "home")


# --- content --------------------------------------------------------------------------------------


def content(client: Client, asset: Asset, body: bytes, **headers: str) -> Any:
    content_type = headers.pop("Content_Type", "text/plain")
    return client.put(f"/api/assets/{asset.pk.hex}/content", body, content_type=content_type, headers=headers)


def test_content_replaces_the_bytes_and_keeps_the_rest(client: Client, owner: User) -> None:
    asset = make_file(owner, "a.txt", tags=("t",))
    response = content(client, asset, b"new bytes")
    after = response.json()
    assert (after["size"], after["revision"], after["tags"], after["key"]) == (9, 2, ["t"], asset.key)
    assert response["ETag"] == after["etag"] == f'"{hashlib.sha256(b"new bytes").hexdigest()}"'


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If_Match": '"0"'}, 412),
        ({"If_None_Match": "*"}, 412),
        ({"If_Match": "*"}, 200),
        ({"Content_MD5": "AAAAAAAAAAAAAAAAAAAAAA=="}, 400),
        ({"Repr_Digest": "sha-256=:AAAA:"}, 400),
        ({"Content_Range": "bytes 0-1/5"}, 400),
        ({"Transfer_Encoding": "chunked"}, 411),
    ],
)
def test_content_holds_what_the_headers_say(client: Client, owner: User, headers: dict[str, str], status: int) -> None:
    asset = make_file(owner)
    assert content(client, asset, b"new", **headers).status_code == status
    assert get(client, asset).json()["size"] == (3 if status == 200 else 10)


def test_content_that_is_too_large_is_refused(client: Client, owner: User, configure: Callable[..., Any]) -> None:
    asset = make_file(owner)
    configure(max_upload_bytes=10)
    refused(content(client, asset, b"x" * 11), 413)


# --- delete and restore ---------------------------------------------------------------------------


@pytest.fixture
def tree(owner: User) -> dict[str, Asset]:
    top = make_folder(owner, "top")
    sub = make_folder(owner, "sub", top)
    return {
        "top": top,
        "sub": sub,
        "a": make_file(owner, "a", b"a", parent=top, key="a"),
        "b": make_file(owner, "b", b"b", parent=sub, key="b"),
        "beside": make_file(owner, "beside", b"c", key="c"),
    }


def test_delete_of_a_file_trashes_it(client: Client, owner: User) -> None:
    asset = make_file(owner)
    response = delete(client, asset)
    assert response.json() == {"deleted_asset_ids": [asset.pk.hex]}
    assert get(client, asset).status_code == 404
    refused(delete(client, asset), 404, "id")
    assert Account.objects.get().used_bytes == 10
    restored = client.post(f"/api/assets/{asset.pk.hex}/restore").json()
    assert (restored["id"], restored["revision"], restored["size"]) == (asset.pk.hex, 3, 10)
    assert get(client, asset).json() == restored


def test_delete_takes_the_tree_children_first(client: Client, tree: dict[str, Asset]) -> None:
    ids = deleted_ids(delete(client, tree["top"]))
    assert set(ids) == {tree[name].pk.hex for name in ("top", "sub", "a", "b")}
    places = {name: ids.index(tree[name].pk.hex) for name in ("top", "sub", "a", "b")}
    assert places["b"] < places["sub"] < places["top"] == 3
    assert places["a"] < 3
    for name in ("top", "sub", "a", "b"):
        assert get(client, tree[name]).status_code == 404
    assert get(client, tree["beside"]).status_code == 200


@pytest.mark.parametrize("query", ["", "?permanent=1"])
def test_delete_names_what_was_made_of_what_went(
    client: Client, owner: User, tree: dict[str, Asset], query: str
) -> None:
    used, hidden, gone = (make_file(owner, name, name.encode()) for name in ("used", "hidden", "gone"))
    links = [(tree["b"], used), (tree["a"], used), (tree["b"], tree["a"]), (tree["b"], gone), (tree["beside"], hidden)]
    Derivation.objects.bulk_create(Derivation(source=source, asset=output) for source, output in links)
    deleted_ids(delete(client, gone))
    answer = json.loads(b"".join(delete(client, tree["top"], query)))
    assert set(answer["deleted_asset_ids"]) == {tree[name].pk.hex for name in ("top", "sub", "a", "b")}
    assert answer["used_by"] == [{"id": used.pk.hex, "name": "used"}]
    assert get(client, used).status_code == 200


def test_delete_of_a_file_names_at_most_a_hundred_that_were_made_of_it(client: Client, owner: User) -> None:
    source = make_file(owner)
    outputs = copies(make_file(owner, "made", b"made"), 101)
    Derivation.objects.bulk_create(Derivation(source=source, asset=output) for output in outputs)
    for query in ("", "?permanent=1"):  # into the trash, and out of it
        answer = delete(client, source, query)
        named = json.loads(b"".join(answer))["used_by"]
        assert [use["id"] for use in named] == [output.pk.hex for output in sorted(outputs, key=lambda a: a.pk)[:100]]


def test_delete_of_what_is_foreign_tells_no_uses(client: Client, other: User) -> None:
    source, output = make_file(other), make_file(other, "b", b"b")
    Derivation.objects.create(source=source, asset=output)
    refused(delete(client, source), 404, "id")


def test_restore_brings_back_only_what_that_delete_took(client: Client, tree: dict[str, Asset]) -> None:
    deleted_ids(delete(client, tree["a"]))
    deleted_ids(delete(client, tree["top"]))
    assert client.post(f"/api/assets/{tree['top'].pk.hex}/restore").json()["name"] == "top"
    assert [get(client, tree[name]).status_code for name in ("top", "sub", "b", "a")] == [200, 200, 200, 404]
    assert get(client, tree["b"]).json()["parent_id"] == tree["sub"].pk.hex
    assert client.post(f"/api/assets/{tree['a'].pk.hex}/restore").json()["parent_id"] == tree["top"].pk.hex


def test_restore_of_what_a_folder_took_along_brings_it_home(client: Client, tree: dict[str, Asset]) -> None:
    deleted_ids(delete(client, tree["top"]))
    restored = client.post(f"/api/assets/{tree['sub'].pk.hex}/restore").json()
    assert restored["parent_id"] == "1"
    assert [get(client, tree[name]).status_code for name in ("top", "sub", "b", "a")] == [404, 200, 200, 404]
    assert client.post(f"/api/assets/{tree['top'].pk.hex}/restore").status_code == 200
    assert get(client, tree["sub"]).json()["parent_id"] == "1"
    assert get(client, tree["a"]).json()["parent_id"] == tree["top"].pk.hex


@pytest.mark.parametrize("query", ["", "?permanent=1"])
def test_restore_where_the_parent_is_gone_is_home(client: Client, tree: dict[str, Asset], query: str) -> None:
    deleted_ids(delete(client, tree["b"]))
    deleted_ids(delete(client, tree["top"], query))
    assert client.post(f"/api/assets/{tree['b'].pk.hex}/restore").json()["parent_id"] == "1"


def test_restore_where_the_key_is_taken_is_refused_whole(client: Client, owner: User, tree: dict[str, Asset]) -> None:
    deleted_ids(delete(client, tree["top"]))
    rival = make_file(owner, "rival", b"r", key="b")
    refused(client.post(f"/api/assets/{tree['top'].pk.hex}/restore"), 409, "assets/b")
    assert get(client, tree["top"]).status_code == 404
    deleted_ids(delete(client, rival, "?permanent=1"))
    assert client.post(f"/api/assets/{tree['top'].pk.hex}/restore").status_code == 200


def test_restore_of_what_is_there_changes_nothing(client: Client, tree: dict[str, Asset]) -> None:
    restored = client.post(f"/api/assets/{tree['a'].pk.hex}/restore")
    assert (restored.status_code, restored.json()["revision"]) == (200, 1)
    refused(client.post(f"/api/assets/{UNKNOWN}/restore"), 404, "id")
    refused(client.post("/api/assets/x/restore"), 404, "id")


def test_delete_permanent_leaves_no_row(client: Client, tree: dict[str, Asset]) -> None:
    assert deleted_ids(delete(client, tree["top"], "?permanent=1"))[-1] == tree["top"].pk.hex
    assert list(Asset.objects.all()) == [tree["beside"]]
    assert Account.objects.get().used_bytes == 1
    refused(client.post(f"/api/assets/{tree['top'].pk.hex}/restore"), 404, "id")


def test_delete_permanent_empties_the_trash(client: Client, tree: dict[str, Asset]) -> None:
    deleted_ids(delete(client, tree["top"]))
    assert set(deleted_ids(delete(client, tree["sub"], "?permanent=1"))) == {tree[n].pk.hex for n in ("sub", "b")}
    assert deleted_ids(delete(client, tree["top"], "?permanent=true"))[-1] == tree["top"].pk.hex
    assert list(Asset.objects.all()) == [tree["beside"]]


def test_delete_with_a_stale_revision_is_refused(client: Client, tree: dict[str, Asset]) -> None:
    for name in ("a", "top"):
        refused(delete(client, tree[name], If_Match='"9"'), 412, "revision")
        assert get(client, tree[name]).status_code == 200
    assert delete(client, tree["a"], If_Match='"1"').status_code == 200


def test_foreign_asset_is_404_everywhere(client: Client, other: User) -> None:
    asset, folder = make_file(other), make_folder(other)
    for found in (asset, folder):
        path = f"/api/assets/{found.pk.hex}"
        for method, rest, body in (
            ("GET", "", None), ("PUT", "", {"name": "x"}), ("DELETE", "", None), ("DELETE", "?permanent=1", None),
            ("POST", "/restore", None), ("GET", "/recursive", None), ("PUT", "/content", {}), ("GET", "/summary", None),
        ):  # fmt: skip
            raw = b"" if body is None else json.dumps(body)
            refused(client.generic(method, path + rest, raw, content_type="application/json"), 404, "id")
    assert Asset.objects.filter(trashed_at=None).count() == 2


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", ""), ("GET", "/packages"), ("GET", "/by-filename/a.png"), ("GET", "/{id}"), ("PUT", "/{id}"),
        ("PUT", "/{id}/content"), ("DELETE", "/{id}"), ("POST", "/{id}/restore"), ("GET", "/{id}/recursive"),
        ("GET", "/{id}/summary"),
    ],
)  # fmt: skip
def test_unknown_query_parameter_is_refused_by_name(client: Client, owner: User, method: str, path: str) -> None:
    asset = make_file(owner)
    address = "/api/assets" + path.format(id=asset.pk.hex)
    for query, field in (("owner__id=1", "owner__id"), ("?=", "?")):
        response = client.generic(method, f"{address}?{query}", b"{}", content_type="application/json")
        refused(response, 422, f"{field}: ")
    assert get(client, asset).json()["revision"] == 1


@pytest.mark.parametrize("value", ["2", "maybe", ""])
def test_permanent_that_is_neither_is_refused(client: Client, owner: User, value: str) -> None:
    refused(delete(client, make_file(owner), f"?permanent={value}"), 422, "permanent")


# --- statements -----------------------------------------------------------------------------------


def statements(call: Callable[[], Any], status: int = 200) -> int:
    """Count what a call costs, but for the beginning and end of transactions."""
    with CaptureQueriesContext(connection) as seen:
        response = call()
        if response.streaming:
            b"".join(response)
    assert response.status_code == status
    return sum(not q["sql"].startswith(("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE")) for q in seen.captured_queries)


@pytest.mark.parametrize("count", [1, 200])
def test_routes_cost_the_same_statements_for_one_and_many(client: Client, owner: User, count: int) -> None:
    folder, target = make_folder(owner), make_folder(owner, "target")
    asset = make_file(owner, "a", b"a", parent=folder)
    copies(asset, count)
    path = f"/api/assets/{folder.pk.hex}"
    costs = {
        "get": statements(lambda: get(client, asset)),
        "name": statements(lambda: client.get("/api/assets/by-filename/a")),
        "tree": statements(lambda: client.get(f"{path}/recursive")),
        "rename": statements(lambda: put(client, asset, {"name": "b"})),
        "move": statements(lambda: put(client, folder, {"parent_id": target.pk.hex})),
        "folder": statements(lambda: post(client, {"name": "f", "content_type": "folder"})),
        "file": statements(lambda: post(client, {"name": "f", "parent_id": target.pk.hex}, b"new")),
        "content": statements(lambda: content(client, asset, b"newer")),
        "trash": statements(lambda: delete(client, folder)),
        "restore": statements(lambda: client.post(f"{path}/restore")),
        "delete": statements(lambda: delete(client, folder, "?permanent=1")),
        "delete a file": statements(lambda: delete(client, make_file(owner, "z", b"z"))),
    }
    limits = {
        "get": 1, "name": 1, "tree": 2, "rename": 6, "move": 8, "folder": 3, "file": 10, "content": 12, "trash": 12,
        "restore": 14, "delete": 22, "delete a file": 16,
    }  # fmt: skip
    assert {name: (cost, limits[name]) for name, cost in costs.items() if cost > limits[name]} == {}


def test_openapi_names_every_status_of_the_routes(client: Client) -> None:
    paths = client.get("/api/openapi.json").json()["paths"]
    common = {"200", "400", "401", "403", "422", "429", "503"}
    body = {"408", "411", "413", "507"}
    expected = {
        ("/api/assets", "post"): common | body | {"404", "409"},
        ("/api/assets/packages", "get"): common,
        ("/api/assets/by-filename/{name}", "get"): common | {"404"},
        ("/api/assets/{asset_id}", "get"): common | {"404"},
        ("/api/assets/{asset_id}", "put"): common | {"404", "408", "409", "412", "413", "507"},
        ("/api/assets/{asset_id}/content", "put"): common | body | {"404", "412"},
        ("/api/assets/{asset_id}", "delete"): common | {"404", "409", "412"},
        ("/api/assets/{asset_id}/restore", "post"): common | {"404", "409"},
        ("/api/assets/{asset_id}/recursive", "get"): common | {"404"},
        ("/api/assets/{asset_id}/summary", "get"): common | {"404"},
    }
    assert {key: set(paths[key[0]][key[1]]["responses"]) for key in expected} == expected
