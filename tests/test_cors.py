"""Which other origins may use the service: none, unless CORS_ALLOWED_ORIGINS names them."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings as project

from storagecache import casts
from storagecache.environment import Environment
from tests.roles import ChangeEnvironment, Everybody, local, with_token

APP = "https://app.example.org"
EVIL = "https://evil.example"


@pytest.fixture
def allowed(settings: Any, change_environment: ChangeEnvironment) -> Environment:
    """Allow one origin, as the settings do when the variable names it."""
    settings.CORS_ALLOWED_ORIGINS = [APP]
    settings.MIDDLEWARE = ["corsheaders.middleware.CorsMiddleware", *project.MIDDLEWARE]
    return change_environment(cors_allowed_origins=(APP,))


def test_cors_by_default_answers_no_origin(everybody: Everybody) -> None:
    answer = local(HTTP_ORIGIN=APP).get("/storage/assets/public.txt")
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("Access-Control")]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_cors_preflight_holds_for_allowed_origins_only(everybody: Everybody, allowed: Environment, method: str) -> None:
    for origin, expected in ((APP, APP), (EVIL, None), ("null", None), (f"{APP}.evil.example", None)):
        extra = {"HTTP_ORIGIN": origin, "HTTP_ACCESS_CONTROL_REQUEST_METHOD": method}
        answer = local().options("/storage/assets/private.txt", **extra)  # type: ignore[arg-type]
        assert answer.headers.get("Access-Control-Allow-Origin") == expected
        assert ("PUT" in answer.headers.get("Access-Control-Allow-Methods", "")) is (expected is not None)
        assert "Access-Control-Allow-Credentials" not in answer.headers


def test_cors_of_an_allowed_origin_shows_what_a_reader_needs(everybody: Everybody, allowed: Environment) -> None:
    answer = with_token(everybody.owner, HTTP_ORIGIN=APP).get("/storage/assets/private.txt")
    shown = answer.headers["Access-Control-Expose-Headers"]
    assert answer.headers["Access-Control-Allow-Origin"] == APP
    assert all(name in shown for name in ("ETag", "Content-Range", "Accept-Ranges", "Content-Disposition"))
    assert "origin" in answer.headers["Vary"].lower()


@pytest.mark.parametrize(("origin", "expected"), [(APP, 201), (EVIL, 403)])
def test_cors_allowed_origin_writes_in_local_mode(
    everybody: Everybody, allowed: Environment, origin: str, expected: int
) -> None:
    client = local(HTTP_ORIGIN=origin, HTTP_SEC_FETCH_SITE="cross-site")
    assert client.put("/storage/assets/written.txt", b"x", content_type="text/plain").status_code == expected


def test_cors_does_not_reach_the_admin(everybody: Everybody, allowed: Environment) -> None:
    assert "Access-Control-Allow-Origin" not in local(HTTP_ORIGIN=APP).get("/admin/login/").headers


def test_cors_wildcard_and_credentials_are_off() -> None:
    assert not getattr(project, "CORS_ALLOW_ALL_ORIGINS", False)
    assert project.CORS_ALLOW_CREDENTIALS is False


@pytest.mark.parametrize(
    "text",
    ["*", "https://*", "null", "app.example.org", f"{APP}/", f"{APP}/path", "https://APP.example.org",
     "https://a.org:443", "http://a.org:80", "https://user@a.org", "ftp://a.org", "https://a.org?x"],
)  # fmt: skip
def test_origins_that_no_browser_sends_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="origins"):
        casts.origins(text)


def test_origins_come_out_as_browsers_send_them() -> None:
    assert casts.origins(f" {APP}, http://localhost:3000,") == (APP, "http://localhost:3000")
