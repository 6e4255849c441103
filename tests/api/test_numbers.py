"""How numbers may be written in requests: what Python alone would read as one is refused by the name of its field."""

from __future__ import annotations

import io
import json
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.api.conftest import make_file

NO_DIGITS = ["1_0", "+1", " 1 ", "1.0", "1e1", "0x1", "", "²", "١", "1" * 5000, "1\x00", "true"]


@pytest.mark.parametrize("text", NO_DIGITS)
@pytest.mark.parametrize(
    ("path", "name"),
    [("", "page_size"), ("/search?query=ab&", "page_size"), ("/{id}/lineage", "depth"), ("/{id}/thumbnail", "size")],
)
def test_number_in_a_query_that_is_not_digits_is_refused(
    client: Client, owner: User, path: str, name: str, text: str
) -> None:
    address = "/api/assets" + path.format(id=make_file(owner).pk.hex)
    answer = client.get(f"{address}{'' if '?' in address else '?'}{name}={quote(text)}")
    assert (answer.status_code, answer.json()["detail"].partition(":")[0]) == (422, name)


@pytest.mark.parametrize("value", [True, False, "5", "1_0", " 5 ", "", [5], {"n": 5}])
@pytest.mark.parametrize("name", ["expires_in", "size", "duration"])
def test_number_in_json_that_is_another_type_is_refused(client: Client, owner: User, name: str, value: Any) -> None:
    said = json.dumps({"name": "a", "content_type": "text/plain", name: value})
    answer = client.post("/api/assets", {"json": said, "file": io.BytesIO(b"x")})
    assert (answer.status_code, answer.json()["detail"].partition(":")[0]) == (422, name)


@pytest.mark.parametrize("value", [True, "5", "1_0", 5.5])
def test_life_of_urls_that_is_no_whole_number_is_refused(client: Client, value: Any) -> None:
    body = json.dumps({"asset_ids": [], "expires_in": value})
    answer = client.post("/api/assets/urls", body, content_type="application/json")
    assert (answer.status_code, answer.json()["detail"].partition(":")[0]) == (422, "expires_in")


@pytest.mark.parametrize("number", ["5", "5.0", "5e0"])
def test_number_in_json_is_taken_however_json_writes_it(client: Client, owner: User, number: str) -> None:
    said = (
        f'{{"name": "a", "content_type": "text/plain", "expires_in": {number}, "size": {number}, "duration": {number}}}'
    )
    answer = client.post("/api/assets", {"json": said, "file": io.BytesIO(b"x")})
    assert (answer.status_code, answer.json()["duration"]) == (200, 5.0)
    assert client.get("/api/assets?page_size=05").status_code == 200
