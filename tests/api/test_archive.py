"""POST /api/assets/download over HTTP."""

from __future__ import annotations

import io
import json
from typing import Any
from zipfile import ZipFile

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.api.conftest import make_file, make_folder

PATH = "/api/assets/download"


def download(client: Client, ids: Any) -> Any:
    return client.post(PATH, json.dumps({"asset_ids": ids}), content_type="application/json")


def test_download_streams_a_zip_of_files_and_folders(client: Client, owner: User) -> None:
    folder = make_folder(owner, "Büro")
    inside, loose = make_file(owner, "a.txt", b"inside", parent=folder), make_file(owner, "a.txt", b"loose")
    answer = download(client, [folder.pk.hex, loose.pk.hex, loose.pk.hex])
    assert (answer.status_code, answer["Content-Type"]) == (200, "application/zip")
    assert answer["Cache-Control"] == "private, no-store"
    assert answer["Content-Disposition"] == 'attachment; filename="assets.zip"'
    assert answer.streaming
    with ZipFile(io.BytesIO(answer.getvalue())) as opened:
        assert {name: opened.read(name) for name in opened.namelist()} == {
            "a.txt": b"loose", "Büro/": b"", "Büro/a.txt": b"inside",
        }  # fmt: skip
    assert inside.parent == folder


def test_download_of_one_folder_is_named_after_it(client: Client, owner: User) -> None:
    answer = download(client, [make_folder(owner, 'x/"y').pk.hex])
    assert answer["Content-Disposition"] == 'attachment; filename="x__y.zip"'
    answer.close()


@pytest.mark.parametrize(
    "ids",
    [[], None, "0" * 32, ["x"], ["0" * 31], [1], ["0" * 32] * 10_001, [f"{number:032x}" for number in range(100_000)]],
    ids=["none", "null", "text", "word", "short", "number", "10,001", "100,000"],
)
def test_download_of_no_list_of_ids_is_refused_by_name(client: Client, ids: Any) -> None:
    answer = download(client, ids)
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("asset_ids")


def test_download_of_what_is_not_there_or_not_mine_is_the_same_404(client: Client, owner: User, other: User) -> None:
    mine, foreign = make_file(owner), make_file(other)
    for missing in (foreign.pk.hex, "0" * 32):
        answer = download(client, [mine.pk.hex, missing])
        assert (answer.status_code, answer.json()["detail"]) == (404, f"asset_ids: there is no asset {missing}.")


def test_download_takes_no_query_and_no_other_method(client: Client, owner: User) -> None:
    body = json.dumps({"asset_ids": [make_file(owner).pk.hex]})
    assert client.post(f"{PATH}?x=1", body, content_type="application/json").status_code == 422
    assert client.get(PATH).status_code == 405


@pytest.mark.django_db(transaction=True)
def test_download_costs_the_same_statements_for_one_file_as_for_many(
    client: Client, owner: User, django_assert_num_queries: Any
) -> None:
    many = [make_file(owner, f"{number}", bytes([number])).pk.hex for number in range(30)]
    for ids in (many[:1], many):
        with django_assert_num_queries(3):  # the user, what was chosen, one page of rows
            assert download(client, ids).getvalue()
