"""Bounds of a request's head: each one reached is taken, each one passed is refused with its text."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client

from assets.serving.heads import MAX_HEADER_BYTES, MAX_HEADERS, MAX_TARGET

PATHS = ("/healthz", "/storage/assets/a", "/api/assets", "/admin/", "/nowhere")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("extra", "status"),
    [
        ({f"HTTP_X_{number}": "1" for number in range(MAX_HEADERS + 1)}, 431),
        ({"HTTP_X_LONG": "x" * MAX_HEADER_BYTES}, 431),
        ({"HTTP_COOKIE": "a=" + "x" * MAX_HEADER_BYTES}, 431),
        ({"QUERY_STRING": "a=" + "x" * MAX_TARGET}, 414),
        ({"nodetool.path_info": "/" + "x" * MAX_TARGET}, 414),
    ],
    ids=["many", "long", "cookie", "query", "path"],
)
def test_head_out_of_bounds_is_refused_everywhere(
    client: Client, path: str, extra: dict[str, str], status: int
) -> None:
    answer = client.get(path, **extra)  # type: ignore[arg-type]
    assert (answer.status_code, set(answer.json())) == (status, {"detail"})
    assert answer["Cache-Control"] == "no-store"


def test_head_within_bounds_is_taken(client: Client, owner: User) -> None:
    many = {f"HTTP_X_{number}": "1" for number in range(MAX_HEADERS - 10)}
    assert client.get("/healthz", **many).status_code == 200  # type: ignore[arg-type]
    assert client.get("/healthz", HTTP_X_LONG="x" * (MAX_HEADER_BYTES - 500)).status_code == 200
    assert client.get("/api/assets?cursor=" + "x" * 16_000).status_code == 400  # no cursor of ours, but looked at
