"""What the API makes of bodies that are no JSON, too much, or two things at once."""

from __future__ import annotations

import pytest
from django.conf import settings as project
from django.contrib.auth.models import User
from django.test import Client

from tests.api.conftest import make_file

URLS = "/api/assets/urls"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"asset_ids": [', "cannot be read"),
        (b'{"asset_ids": [], "asset_ids": []}', "twice"),
        (b'{"asset_ids": [], "x": NaN}', "NaN"),
        (b'{"asset_ids": [], "x": 1e999}', "too large"),
        (b'{"asset_ids": [], "x": "\\ud800"}', "surrogate"),
        (b'{"asset_ids": [], "x": ' + b"9" * 5000 + b"}", "digits"),
        (b'{"asset_ids": ' + b"[" * 41 + b"]" * 41 + b"}", "deeper"),
        (b"\xff\xfe{}", "UTF-8"),
    ],
    ids=["cut", "twice", "nan", "infinite", "surrogate", "digits", "deep", "encoding"],
)
def test_body_that_is_no_json_is_400_with_the_reason(client: Client, body: bytes, reason: str) -> None:
    answer = client.post(URLS, body, content_type="application/json")
    assert answer.status_code == 400
    assert set(answer.json()) == {"detail"}
    assert reason in answer.json()["detail"]


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b'"x"', b"1", b"{}"])
def test_body_of_another_shape_is_422(client: Client, owner: User, body: bytes) -> None:
    answer = client.post(URLS, body, content_type="application/json")
    assert (answer.status_code, set(answer.json())) == (422, {"detail"})


def test_body_over_the_limit_is_413_with_the_limit(client: Client) -> None:
    answer = client.post(URLS, b" " * (project.DATA_UPLOAD_MAX_MEMORY_SIZE + 1), content_type="application/json")
    assert answer.status_code == 413
    assert str(project.DATA_UPLOAD_MAX_MEMORY_SIZE) in answer.json()["detail"]


def test_query_of_too_many_parameters_is_400_with_the_limit(client: Client, owner: User) -> None:
    asset = make_file(owner)
    for path in ("/api/assets", f"/storage/assets/{asset.key}"):
        answer = client.get(f"{path}?" + "&".join(f"a{number}=1" for number in range(1001)))
        assert answer.status_code == 400
        assert answer.json() == {"detail": "More than 1000 fields were sent."}
