"""Known weaknesses of services like this one, each tried. What needs a browser is in tests/browser."""

from __future__ import annotations

import ast
import json
import logging
import os
import pickle
import re
import struct
import time
import zlib
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import pytest
from django.conf import settings as project
from django.core.files.storage import storages
from django.test import Client
from django.urls import reverse

from assets.access import LoginForm
from assets.links import Links, current_links
from assets.models import Asset
from assets.services import purge
from assets.services.tokens import create_token
from nodetool_site.logs import refusal_without_traceback
from storagecache.environment import Environment
from storagecache.storages.durable import STAGED_PREFIX
from storagecache.variables import ConfigurationError
from tests.roles import PASSWORD, SECRET, ChangeEnvironment, Everybody, local, remote, stored, with_session, with_token

CODE = Path(__file__).resolve().parent.parent
PRIVATE = "/storage/assets/private.txt"
HOSTILE_NAMES = (
    '"><script>alert(1)</script>.png',
    '\'"; filename=evil.exe; x="',
    "a\u202egnp.exe",
    "%0d%0aSet-Cookie: a=b",
    "{{7*7}}{% debug %}",
    "=cmd|' /C calc'!A1",
    "..%2f..%2fetc%2fpasswd",
    "C:\\windows\\system32",
    "\u2028\u2029\ufeff",
    "x" * 1000,
)
HOSTILE_TYPES = {
    "page.html": ("text/html", b"<script>alert(document.cookie)</script>"),
    "page.xhtml": (
        "application/xhtml+xml",
        b"<html xmlns='http://www.w3.org/1999/xhtml'><script>alert(1)</script></html>",
    ),
    "image.svg": ("image/svg+xml", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"),
    "code.js": ("text/javascript", b"alert(1)"),
    "style.css": ("text/css", b"*{background:url(//evil.example)}"),
    "feed.xml": ("text/xml", b"<?xml-stylesheet href='javascript:alert(1)'?><x/>"),
    "sheet.xsl": ("text/xsl", b"<x/>"),
    "page.mht": ("multipart/related", b"MIME-Version: 1.0"),
    "movie.swf": ("application/x-shockwave-flash", b"FWS"),
    "module.wasm": ("application/wasm", b"\0asm"),
    "app.webmanifest": ("application/manifest+json", b"{}"),
    "no type": ("", b"<html><script>alert(1)</script>"),
    "garbled": ("text/html\tx", b"<script>alert(1)</script>"),
    "fake.png": ("image/png", b"<html><script>alert(1)</script></html>"),
    "fake.pdf": ("application/pdf", b"<script>alert(1)</script>"),
}


def headers_of(everybody: Everybody, path: str) -> dict[str, str]:
    """Read an object as its owner; gives the headers."""
    answer = with_session(everybody.owner).get(path)
    assert answer.status_code == 200
    return dict(answer.headers.items())


# 1 traversal
@pytest.mark.parametrize(
    "path",
    ["../settings.py", "%2e%2e/settings.py", "..%2fsettings.py", "a/../../x", "/etc/passwd", "%2fetc/passwd", "a//b",
     "./x", "%00", "a%00.png", "..", ".", "..%c0%af..", "%ff%fe", "%0d%0aX: y"],
)  # fmt: skip
def test_traversal_in_a_key_is_refused_for_every_method(everybody: Everybody, path: str) -> None:
    client = with_token(everybody.owner)
    raw = unquote_to_bytes(f"/storage/assets/{path}").decode("latin-1")  # as the server hands it over
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        extra = {"nodetool.path_info": raw}
        answer = client.generic(method, f"/storage/assets/{path}", b"x", content_type="text/plain", **extra)
        assert answer.status_code in {400, 404}, (method, path)
    assert Asset.objects.count() == 2


# 2 names of a client never reach the disk
def test_key_of_a_client_never_becomes_a_path(everybody: Everybody) -> None:
    asset = stored(everybody.owner, "CON/aux.txt;$(touch x)/\\..\\evil")
    assert asset.object is not None
    assert re.fullmatch(r"[0-9a-f]{2}/[0-9a-f]{32}(\.[a-z0-9]+)?", asset.object.key.replace("-", ""))


# 3 header injection
@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_header_injection_by_a_name_is_escaped(everybody: Everybody, name: str) -> None:
    Asset.objects.filter(pk=everybody.asset.pk).update(name=name)
    shown = headers_of(everybody, f"{PRIVATE}?download=1")["Content-Disposition"]
    assert shown.isascii()
    assert shown.startswith("attachment; filename=")
    assert not set(shown) & set("\r\n\0")
    assert shown.count('"') == 2


# 4 header injection by the type
@pytest.mark.parametrize("claimed", ["text/plain\r\nX-Evil: 1", "text/plain\x00", "tëxt/plain", "a" * 3000, "text/"])
def test_header_injection_by_a_content_type_is_dropped(everybody: Everybody, claimed: str) -> None:
    stored(everybody.owner, "typed", content_type=claimed)
    seen = headers_of(everybody, "/storage/assets/typed")
    assert "X-Evil" not in seen
    assert "\r" not in seen["Content-Type"]
    assert len(seen["Content-Type"]) < 300


# 5, 6 stored scripts, content sniffing
@pytest.mark.parametrize("name", HOSTILE_TYPES)
def test_hostile_upload_leaves_as_sandboxed_attachment(everybody: Everybody, name: str) -> None:
    claimed, data = HOSTILE_TYPES[name]
    path = f"/storage/assets/{quote(name)}"
    put = with_token(everybody.owner).put(path, data, content_type=claimed)
    if put.status_code == 400:
        return  # a type that cannot be read
    seen = headers_of(everybody, path)
    assert seen["X-Content-Type-Options"] == "nosniff"
    assert seen["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
    assert seen["Content-Disposition"].startswith("attachment")


@pytest.mark.parametrize("status", [206, 304, 404, 412, 416])
def test_sniffing_is_off_in_every_kind_of_answer(everybody: Everybody, status: int) -> None:
    etag = headers_of(everybody, PRIVATE)["ETag"]
    asked = {
        206: {"HTTP_RANGE": "bytes=0-1"},
        304: {"HTTP_IF_NONE_MATCH": etag},
        404: {},
        412: {"HTTP_IF_MATCH": '"x"'},
        416: {"HTTP_RANGE": "bytes=999-"},
    }[status]
    path = PRIVATE if status != 404 else "/storage/assets/absent"
    answer = with_session(everybody.owner).get(path, **asked)  # type: ignore[arg-type]
    assert answer.status_code == status
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


# 7 the reader never chooses the type
@pytest.mark.parametrize("query", ["content_type=text/html", "response-content-type=text/html", "type=text/html"])
def test_content_type_is_never_the_readers(everybody: Everybody, query: str) -> None:
    answer = with_session(everybody.owner).get(f"{PRIVATE}?{query}", HTTP_ACCEPT="text/html")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"


# 8 IDOR
def test_foreign_object_answers_as_an_absent_one(everybody: Everybody) -> None:
    for client in (with_session(everybody.other), with_token(everybody.other), remote()):
        for method in ("GET", "HEAD", "DELETE"):
            foreign, absent = (client.generic(method, f"/storage/assets/{key}.txt") for key in ("private", "absented"))
            assert foreign.status_code == absent.status_code
            assert foreign.text.replace("private", "absented") == absent.text
            assert set(foreign.headers) == set(absent.headers)


# 9 timing: whether it exists is not to be heard from the number of statements
def test_foreign_object_costs_the_statements_of_an_absent_one(
    everybody: Everybody, django_assert_num_queries: Any
) -> None:
    client = with_token(everybody.other)
    client.get(PRIVATE)  # notes the token's use
    for key in ("private.txt", "absent.txt"):
        with django_assert_num_queries(2):
            assert client.get(f"/storage/assets/{key}").status_code == 404


# 10 taking over a key
def test_foreign_key_cannot_be_overwritten(everybody: Everybody) -> None:
    answer = with_token(everybody.other).put(PRIVATE, b"mine now", content_type="text/plain")
    assert (answer.status_code, answer.json()) == (409, {"detail": "This key is taken."})
    assert local().get(PRIVATE).getvalue() == SECRET


# 11 CSRF
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_csrf_without_or_with_a_wrong_token_writes_nothing(everybody: Everybody, method: str) -> None:
    for token in (None, "", "d" * 32, "c" * 31):
        client = with_session(everybody.owner)
        client.defaults.pop("HTTP_X_CSRFTOKEN")
        extra = {} if token is None else {"HTTP_X_CSRFTOKEN": token}
        assert client.generic(method, PRIVATE, b"x", content_type="text/plain", **extra).status_code == 403  # type: ignore[arg-type]
    assert local().get(PRIVATE).getvalue() == SECRET


# 12 CSRF token of the right value from a wrong page
def test_csrf_with_the_token_but_a_foreign_origin_is_refused(everybody: Everybody) -> None:
    client = with_session(everybody.owner, HTTP_ORIGIN="https://evil.example")
    assert client.put(PRIVATE, b"x", content_type="text/plain").status_code == 403


# 13 method override
@pytest.mark.parametrize(
    "extra",
    [{"HTTP_X_HTTP_METHOD_OVERRIDE": "DELETE"}, {"HTTP_X_METHOD_OVERRIDE": "PUT"}, {"QUERY_STRING": "_method=DELETE"}],
)  # fmt: skip
def test_method_override_changes_nothing(everybody: Everybody, extra: dict[str, str]) -> None:
    client = with_session(everybody.owner)
    assert client.get(PRIVATE, **extra).status_code == 200  # type: ignore[arg-type]
    assert client.post(PRIVATE, b"_method=DELETE", content_type="text/plain", **extra).status_code == 405  # type: ignore[arg-type]
    everybody.asset.refresh_from_db()


# 14 host poisoning
@pytest.mark.parametrize(
    "extra",
    [
        {"HTTP_X_FORWARDED_HOST": "evil.example"},
        {"HTTP_FORWARDED": "host=evil.example"},
        {"HTTP_X_HOST": "evil.example"},
    ],
)  # fmt: skip
def test_host_of_a_header_appears_nowhere(everybody: Everybody, extra: dict[str, str]) -> None:
    client = with_session(everybody.owner)
    for path in ("/", "/admin/", "/admin/assets/asset/", f"/admin/assets/asset/{everybody.asset.pk}/change/", PRIVATE):
        answer = client.get(path, **extra)  # type: ignore[arg-type]
        assert "evil.example" not in str(dict(answer.headers.items()))
        assert b"evil.example" not in b"".join(answer)  # type: ignore[arg-type]
    made = with_token(everybody.owner).put("/storage/assets/new", b"x", content_type="text/plain", **extra)  # type: ignore[arg-type]
    assert made.headers["Location"] == "/storage/assets/new"


def test_host_of_another_name_is_refused(everybody: Everybody) -> None:
    for host in ("evil.example", "testserver.evil.example", "testserver:80@evil.example", "a b", ""):
        assert with_session(everybody.owner).get(PRIVATE, HTTP_HOST=host).status_code in {400, 200 if not host else 400}


def test_host_that_is_refused_fills_no_log() -> None:
    told = logging.LogRecord("django.security.DisallowedHost", logging.ERROR, "", 0, "no host", (), (None, None, None))
    fault = logging.LogRecord("django.request", logging.ERROR, "", 0, "a fault", (), (None, None, None))
    assert refusal_without_traceback(told)
    assert refusal_without_traceback(fault)
    assert (told.exc_info, fault.exc_info) == (None, (None, None, None))
    filtered = project.LOGGING["filters"]["short"]
    assert filtered["callback"] is refusal_without_traceback
    assert "short" in project.LOGGING["handlers"]["stderr"]["filters"]


def test_private_bytes_cannot_be_embedded_by_another_site(
    everybody: Everybody, change_environment: ChangeEnvironment
) -> None:
    """By a cookie or on this machine a reader is known on every page; by a link only who was given it."""
    policy = "Cross-Origin-Resource-Policy"
    link = current_links().url(everybody.asset)
    assert link is not None
    for client in (with_session(everybody.owner), local()):
        assert client.get(PRIVATE).headers[policy] == "same-site"
        assert client.get(PRIVATE, HTTP_RANGE="bytes=0-1").headers[policy] == "same-site"
        assert policy not in client.get("/storage/assets/public.txt").headers
        assert policy not in client.get(link[link.index("/storage/") :]).headers
    change_environment(cors_allowed_origins=("https://studio.example",))
    assert policy not in local().get(PRIVATE).headers


# 15 DNS rebinding
def test_host_wildcard_with_local_users_refuses_to_start() -> None:
    variables = {"ALLOWED_HOSTS": "*", "AUTH_PROVIDER": "local", "NODETOOL_CONFIG_DIR": "/nonexistent"}
    with pytest.raises(ConfigurationError, match="ALLOWED_HOSTS"):
        Environment.load(variables, under_pytest=False)


# 16 local mode on the network
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "files.example.org"])
def test_local_users_on_a_public_address_refuse_to_start(host: str) -> None:
    with pytest.raises(ConfigurationError, match="HOST"):
        Environment.load({"HOST": host, "NODETOOL_CONFIG_DIR": "/nonexistent"}, under_pytest=False)


# 17 cache leaks
def test_cache_of_a_private_object_is_nobody_elses(everybody: Everybody) -> None:
    for client in (with_session(everybody.owner), with_token(everybody.owner), local()):
        seen = client.get(PRIVATE).headers
        assert seen["Cache-Control"] == "private, no-cache"
        assert {"Cookie", "Authorization"} <= set(re.split(r",\s*", seen["Vary"]))
    assert local().get("/storage/assets/public.txt").headers["Cache-Control"] == "public, no-cache"


@pytest.mark.parametrize("path", ["/storage/assets/absent", PRIVATE, "/storage/assets/../x"])
def test_cache_never_keeps_a_refusal(everybody: Everybody, path: str) -> None:
    answer = remote().get(path)
    assert answer.status_code >= 400
    assert answer.headers["Cache-Control"] == "no-store"


# 18 pickle
def test_pickle_is_nowhere_in_our_code() -> None:
    forbidden = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
    found = []
    for folder in ("assets", "storagecache", "nodetool_site"):
        for path in (CODE / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                found += [(path.name, name) for name in names if name.partition(".")[0] in forbidden]
    assert found == []


def test_pickle_as_an_upload_or_a_session_is_only_bytes(everybody: Everybody, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "executed"),))

    data = pickle.dumps(Evil())
    client = with_token(everybody.owner)
    assert client.put("/storage/assets/x.pkl", data, content_type="application/octet-stream").status_code == 201
    client.get("/storage/assets/x.pkl")
    client.cookies["sessionid"] = "x"
    client.cookies["messages"] = data.hex()
    client.get("/admin/")
    assert not (tmp_path / "executed").exists()
    assert "Pickle" not in getattr(project, "SESSION_SERIALIZER", "JSONSerializer")


# 19 bombs
def png_bomb(side: int) -> bytes:
    """Make a PNG of side x side black pixels, a few kilobytes long."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000, 9))
        + chunk(b"IEND", b"")
    )


def test_bomb_as_an_upload_is_stored_without_being_opened(everybody: Everybody) -> None:
    answer = with_token(everybody.owner).put("/storage/assets/b.png", png_bomb(60_000), content_type="image/png")
    assert answer.status_code == 201


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate"])
def test_bomb_in_a_content_encoding_is_never_unpacked(everybody: Everybody, encoding: str) -> None:
    data = zlib.compress(b"\0" * 1_000_000)
    client = with_token(everybody.owner)
    client.put("/storage/assets/z", data, content_type="application/octet-stream", HTTP_CONTENT_ENCODING=encoding)
    assert Asset.objects.get(key="z").size == len(data)
    assert "Content-Encoding" not in client.get("/storage/assets/z").headers


# 20 size limit
def test_upload_over_the_limit_is_413_and_unread(everybody: Everybody, change_environment: ChangeEnvironment) -> None:
    change_environment(max_upload_bytes=10)
    answer = with_token(everybody.owner).put("/storage/assets/big", b"x" * 11, content_type="text/plain")
    assert answer.status_code == 413
    assert not Asset.objects.filter(key="big").exists()


# 21 quota, and its text
def test_quota_over_http_is_507_with_a_text(everybody: Everybody, change_environment: ChangeEnvironment) -> None:
    change_environment(user_quota_bytes=len(SECRET) * 2 + 1)
    answer = with_token(everybody.owner).put("/storage/assets/more", b"xx", content_type="text/plain")
    assert answer.status_code == 507
    assert "ask the administrator for a larger quota" in answer.json()["detail"]


# 22 ORM keywords in query parameters
@pytest.mark.parametrize(
    "query",
    ["owner__password__startswith=p", "owner_id=1", "is_public=1", "id__gt=0", "_connector=OR", "__class__=x",
     "download=1&download=0", "q=%00", "o=owner__password", "parent__owner__password__regex=^p"],
)  # fmt: skip
def test_query_parameter_never_becomes_a_filter(everybody: Everybody, query: str) -> None:
    assert with_token(everybody.other).get(f"{PRIVATE}?{query}").status_code == 404
    answer = with_session(everybody.owner).get(f"/admin/assets/asset/?{query}")
    assert answer.status_code in {200, 302, 400, 404}
    assert "password" not in answer.headers.get("Location", "")


# 23 secrets in logs and errors
def test_secrets_appear_in_no_log_and_no_error(everybody: Everybody, caplog: pytest.LogCaptureFixture) -> None:
    _, token = create_token(everybody.owner, "t")
    caplog.set_level(logging.DEBUG)
    for path in (PRIVATE, "/storage/assets/absent", "/nowhere", "/storage/assets/../x", "/admin/"):
        answer = remote(HTTP_AUTHORIZATION=f"Bearer {token}").get(path)
        assert token.encode() not in b"".join(answer)  # type: ignore[arg-type]
        wrong = remote(HTTP_AUTHORIZATION=f"Bearer {token}x").get(path)
        assert token.encode() not in b"".join(wrong)  # type: ignore[arg-type]
    client = local()
    client.cookies["csrftoken"] = "c" * 32
    client.post("/admin/login/", {"username": "owner", "password": PASSWORD + "x", "csrfmiddlewaretoken": "c" * 32})
    assert token not in caplog.text
    assert PASSWORD not in caplog.text
    assert project.SECRET_KEY not in caplog.text


def test_secrets_of_the_environment_are_not_in_its_repr() -> None:
    shown = repr(
        Environment.load({"SECRET_KEY": "s3cr3t", "S3_SECRET_ACCESS_KEY": "s3cr3t", "ADMIN_PASSWORD": "s3cr3t"})
    )
    assert "s3cr3t" not in shown


# 24 a fault shows nothing of the inside
def test_fault_is_answered_without_its_inside(everybody: Everybody, settings: Any) -> None:
    settings.STORAGES = {**settings.STORAGES, "assets": {"BACKEND": "nowhere.Missing"}}
    answer = with_session(everybody.owner).get(PRIVATE)
    assert answer.status_code in {500, 503}
    assert set(json.loads(b"".join(answer))) == {"detail"}  # type: ignore[arg-type]
    for inside in (b"Traceback", b"Missing", str(CODE).encode()):
        assert inside not in b"".join(answer)  # type: ignore[arg-type]
    assert not project.DEBUG


# 25 open redirect
@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "http:evil.example"]
)  # fmt: skip
def test_redirect_behind_the_login_stays_on_the_site(everybody: Everybody, target: str) -> None:
    client = local()
    client.cookies["csrftoken"] = "c" * 32
    data = {"username": "owner", "password": PASSWORD, "csrfmiddlewaretoken": "c" * 32, "next": target}
    answer = client.post(f"/admin/login/?next={quote(target)}", data)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/admin/")


@pytest.mark.parametrize("path", ["//evil.example", "//evil.example/..", "/%5cevil.example", "/admin//evil.example"])
def test_redirect_never_follows_the_path(everybody: Everybody, path: str) -> None:
    location = with_session(everybody.owner).generic("GET", path).headers.get("Location", "/")
    assert location.startswith("/")
    assert not location.startswith(("//", "/\\"))


# 26 ranges that multiply work
@pytest.mark.parametrize(
    "ranges", ["0-," * 2000 + "0-", ",".join(["0-0"] * 500), ",".join(f"{n}-" for n in range(200)), "0-" + "9" * 5000]
)  # fmt: skip
def test_ranges_that_multiply_the_answer_are_bounded(everybody: Everybody, ranges: str) -> None:
    answer = with_session(everybody.owner).get(PRIVATE, HTTP_RANGE=f"bytes={ranges}")
    assert answer.status_code in {200, 206, 416}
    assert len(b"".join(answer)) <= len(SECRET) + 300  # type: ignore[arg-type]


# 27 clickjacking
def test_framing_by_another_site_is_refused(everybody: Everybody) -> None:
    for path in ("/admin/", "/admin/login/", f"/admin/assets/asset/{everybody.asset.pk}/delete/"):
        assert with_session(everybody.owner).get(path, follow=True).headers["X-Frame-Options"] in {"DENY", "SAMEORIGIN"}


# 28 token in a URL
@pytest.mark.parametrize("name", ["token", "access_token", "api_key", "auth", "Authorization"])
def test_token_in_a_url_lets_nobody_in(everybody: Everybody, name: str) -> None:
    _, text = create_token(everybody.owner, "t")
    assert remote().get(f"{PRIVATE}?{name}={quote(f'Bearer {text}')}").status_code == 404
    client = remote()
    client.cookies[name] = text
    assert client.get(PRIVATE).status_code == 404


# 29 log injection
def test_log_line_cannot_be_forged(everybody: Everybody, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    forged = "x%0a2026-01-01 00:00:00 CRITICAL root forged"
    for path in (f"/storage/assets/{forged}", f"/nowhere/{forged}", f"/admin/{forged}"):
        remote().get(path)
        with_token(everybody.owner).put(path, b"x", content_type="text/plain")
    assert not [line for line in caplog.messages if "\n" in line or "\r" in line]


# 30 scripts in the admin
@pytest.mark.parametrize("name", HOSTILE_NAMES[:6])
def test_name_in_the_admin_is_escaped(everybody: Everybody, name: str) -> None:
    Asset.objects.filter(pk=everybody.asset.pk).update(name=name, metadata={"<script>": name}, tags=[name])
    client = with_session(everybody.owner)
    for page in ("", f"{everybody.asset.pk}/change/", f"{everybody.asset.pk}/delete/"):
        text = client.get(f"/admin/assets/asset/{page}").text
        assert "<script>alert(1)</script>" not in text
        assert "49" not in re.findall(r"\{\{.*?\}\}", text)


# 31 links in the staging folder
def test_symlink_in_staging_never_takes_its_target_along(everybody: Everybody, tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", Environment.current().staging_folder
    outside.write_bytes(b"kept")
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / f"{STAGED_PREFIX}planted"
    link.symlink_to(outside)
    purge(grace=timedelta(0))
    link.unlink(missing_ok=True)
    assert outside.read_bytes() == b"kept"


# 32 uploads are nobody else's to read or to run
def test_bytes_on_disk_cannot_be_run(everybody: Everybody, tmp_path: Path, settings: Any) -> None:
    backend = "storagecache.storages.filesystem.FilesystemObjectStorage"
    options = {"location": str(tmp_path / "assets")}
    settings.STORAGES = {**settings.STORAGES, "assets": {"BACKEND": backend, "OPTIONS": options}}
    asset = stored(everybody.owner, "run.sh", b"#!/bin/sh")
    assert asset.object is not None
    mode = os.stat(storages["assets"].path(asset.object.key)).st_mode & 0o777
    assert mode & 0o333 == 0


# 33 session cookies
def test_cookies_are_out_of_reach_of_scripts_and_other_sites(everybody: Everybody) -> None:
    client = Client()
    client.post("/admin/login/", {"username": "owner", "password": PASSWORD})
    cookie = client.cookies["sessionid"]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"


def test_session_is_a_new_one_after_login(everybody: Everybody) -> None:
    client = Client()
    client.cookies["sessionid"] = "fixed-by-somebody-else-0000000000"
    client.post("/admin/login/", {"username": "owner", "password": PASSWORD})
    assert client.cookies["sessionid"].value != "fixed-by-somebody-else-0000000000"


# 34 user names are not told
def test_login_does_not_tell_whether_a_name_exists(everybody: Everybody) -> None:
    texts = []
    for name in ("owner", "other", "absent"):
        answer = Client().post("/admin/login/", {"username": name, "password": "wrong"})
        texts.append(re.search(r'(?s)class="errornote".*?</p>', answer.text))
    assert len({found[0] for found in texts if found}) == 1
    assert reverse("admin:login") == "/admin/login/"
    assert LoginForm.__mro__[1].__name__ == "AdminAuthenticationForm"


# 35 a form that asks for much
def test_form_with_too_many_fields_is_400(everybody: Everybody) -> None:
    client = with_session(everybody.owner)
    many = {f"field{number}": "x" for number in range(1001)}
    assert client.post("/admin/assets/asset/add/", many).status_code == 400
    large = {"name": "x" * (project.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)}
    assert client.post("/admin/assets/asset/add/", large).status_code in {400, 413}


# 36 two lengths
@pytest.mark.parametrize("length", ["-1", "+5", "5, 5", "0x5", "5 5", "²", "9" * 30])
def test_content_length_that_is_no_number_is_400(everybody: Everybody, length: str) -> None:
    client = with_token(everybody.owner, CONTENT_LENGTH=length)
    answer = client.generic("PUT", "/storage/assets/x", b"", content_type="text/plain")
    assert answer.status_code == 400
    assert not Asset.objects.filter(key="x").exists()


# 37 signed links
def signed(everybody: Everybody) -> str:
    """Give a link to the private asset, without scheme and host."""
    url = Links.at(time.time()).url(everybody.asset)
    assert url is not None
    return "/" + url.split("/", 3)[3]


def test_signed_link_reads_one_object_and_nothing_else(everybody: Everybody) -> None:
    link, client = signed(everybody), remote()
    query = link.partition("?")[2]
    assert client.get(link).getvalue() == SECRET
    stored(everybody.owner, "second.txt")
    for method, path in (
        ("PUT", link),
        ("DELETE", link),
        ("POST", link),
        ("GET", f"/storage/assets/second.txt?{query}"),
        ("GET", f"/storage/temp/private.txt?{query}"),
        ("GET", f"/api/assets/{everybody.asset.pk.hex}?{query}"),
        ("GET", f"/admin/?{query}"),
        ("GET", f"{link}&download=1"),
        ("GET", f"{link}&{query}"),
        ("GET", link.replace("expires=", "expires=1")),
        ("GET", link[:-1] + ("A" if link[-1] != "A" else "B")),
        ("GET", link.lower()),
    ):
        answer = client.generic(method, path, b"x", content_type="text/plain")
        assert answer.status_code in {302, 401, 403, 404, 405, 422}, (method, path)
        assert SECRET not in b"".join(answer)  # type: ignore[arg-type]
    assert local().get(PRIVATE).getvalue() == SECRET


def test_signed_link_ends_with_what_it_names(everybody: Everybody) -> None:
    link = signed(everybody)
    stored(everybody.owner, "private.txt", b"other bytes")
    assert remote().get(link).status_code in {403, 404}
    link = signed(everybody)
    local().delete(PRIVATE)
    assert remote().get(link).status_code in {403, 404}


def test_signed_link_is_kept_by_the_readers_cache_only(everybody: Everybody) -> None:
    assert remote().get(signed(everybody)).headers["Cache-Control"].startswith("private, max-age=")


# 38 JSON that nests
@pytest.mark.parametrize(
    "body", ["[" * 200_000, '{"a":' * 50_000, '{"asset_ids":' + "[" * 100_000 + "]" * 100_000 + "}"]
)
def test_json_that_nests_deeply_is_refused(everybody: Everybody, body: str) -> None:
    answer = with_token(everybody.owner).post("/api/assets/urls", body, content_type="application/json")
    assert answer.status_code in {400, 422}
    assert set(answer.json()) == {"detail"}


def test_json_that_is_too_large_is_refused(everybody: Everybody) -> None:
    body = json.dumps({"asset_ids": [], "x": "y" * project.DATA_UPLOAD_MAX_MEMORY_SIZE})
    answer = with_token(everybody.owner).post("/api/assets/urls", body, content_type="application/json")
    assert answer.status_code in {400, 413}


# 39 ORM keywords in the listing
@pytest.mark.parametrize(
    "query", ["owner__id=1", "owner=1", "user_id=1", "is_public=1", "parent_id__gt=0", "order=owner__password"]
)
def test_listing_refuses_what_is_no_filter(everybody: Everybody, query: str) -> None:
    assert with_token(everybody.other).get(f"/api/assets?{query}").status_code == 422


# 40 a foreign cursor or folder
def test_listing_of_a_foreign_folder_or_cursor_shows_nothing(everybody: Everybody) -> None:
    stored(everybody.owner, "more.txt")
    cursor = with_token(everybody.owner).get("/api/assets?page_size=1").json()["next"]
    for query in (f"cursor={quote(cursor)}", f"parent_id={everybody.owner.pk}", f"parent_id={everybody.asset.pk.hex}"):
        answer = with_token(everybody.other).get(f"/api/assets?{query}")
        assert answer.status_code in {200, 400, 404, 422}
        assert b"private.txt" not in answer.content
        assert b"more.txt" not in answer.content


# 41 documentation that runs others' scripts
def test_documentation_loads_nothing_from_elsewhere(everybody: Everybody) -> None:
    text = remote().get("/api/docs").text
    assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//[^"']*""", text)
