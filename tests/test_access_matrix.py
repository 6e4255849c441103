"""Every address of the service, asked by everybody. The addresses come from the URL configuration: a new one that
is not listed here fails, until somebody has decided who may use it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.http import HttpResponseBase
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone
from PIL import Image

from assets.ids import new_id
from assets.models import Asset, IntegrityFinding, IntegrityRun, QuarantinedObject, RetentionRule, ScheduledWork
from assets.services.jobs import open_job
from tests.roles import ROLES, SECRET, Everybody, stored

Row = tuple[int, ...]  # a status for each of ROLES

# anonymous, owner / other / staff session, owner / other / expired / revoked token, local, proxied,
# cross-site with the owner's session, cross-site on this machine
READ: Row = (404, 200, 404, 404, 200, 404, 401, 401, 200, 404, 200, 200)
REPLACE: Row = (401, 200, 409, 409, 200, 409, 401, 401, 200, 401, 403, 403)
CREATE: Row = (401, 201, 201, 201, 201, 201, 401, 401, 201, 401, 403, 403)
DELETE: Row = (401, 204, 404, 404, 204, 404, 401, 401, 204, 401, 403, 403)
LIST: Row = (401, 200, 200, 200, 200, 200, 401, 401, 200, 401, 200, 200)
RECORD: Row = (401, 200, 404, 404, 200, 404, 401, 401, 200, 401, 200, 200)
SIGN: Row = (401, 200, 404, 404, 200, 404, 401, 401, 200, 401, 403, 403)
MAKE: Row = (401, 200, 200, 200, 200, 200, 401, 401, 200, 401, 403, 403)
OPEN: Row = (200,) * 12
OVERSEE: Row = (401, 200, 403, 200, 200, 403, 401, 401, 200, 401, 200, 200)
NOT_ALLOWED: Row = (405,) * 12
NO_PICTURE: Row = (404, 404, 404, 404, 404, 404, 401, 401, 404, 404, 404, 404)

# (method, path behind the address's beginning, expected): asked in this order on one catalog
OBJECT: tuple[tuple[str, str, Row], ...] = (
    ("OPTIONS", "private.txt", (204,) * 12),
    ("POST", "private.txt", NOT_ALLOWED),
    ("PATCH", "private.txt", NOT_ALLOWED),
    ("TRACE", "private.txt", NOT_ALLOWED),
    ("GET", "public.txt", OPEN),
    ("HEAD", "private.txt", READ),
    ("GET", "private.txt", READ),
    ("GET", "private.txt?download=1", READ),
    ("PUT", "new.txt", CREATE),
    ("PUT", "private.txt", REPLACE),
    ("DELETE", "private.txt", DELETE),
)
ROUTES: dict[str, tuple[str, tuple[tuple[str, str, Row], ...]]] = {
    "": ("/", (("GET", "", (302,) * 12), ("POST", "", (403, 302, 302, 302, *(403,) * 8)))),
    "healthz": ("/healthz", (("GET", "", OPEN),)),
    "readyz": ("/readyz", (("GET", "", OPEN),)),
    "metrics": ("/metrics", (("GET", "", OVERSEE), ("HEAD", "", OVERSEE))),
    "^storage/(?:assets|temp)/": ("/storage/assets/", OBJECT),
    "^api/storage/": ("/api/storage/", OBJECT),
    "api/": ("/api/", (("GET", "", (404,) * 12),)),
    "api/docs": ("/api/docs", (("GET", "", OPEN),)),
    "api/openapi.json": ("/api/openapi.json", (("GET", "", OPEN),)),
    "api/assets": (
        "/api/assets",
        (("GET", "", LIST), ("GET", "?page_size=1", LIST), ("PUT", "", NOT_ALLOWED), ("POST", "", MAKE)),
    ),
    "api/assets/": ("/api/assets/", (("GET", "", LIST), ("POST", "", MAKE))),
    "api/assets/search": ("/api/assets/search", (("GET", "?query=private", LIST), ("PUT", "", NOT_ALLOWED))),
    "api/assets/<asset_id>/thumbnail": (
        "/api/assets/",
        (
            ("GET", "{picture}/thumbnail", READ),
            ("HEAD", "{picture}/thumbnail?size=128", READ),
            ("GET", "{asset}/thumbnail", NO_PICTURE),
            ("GET", "{picture}/thumbnail?size=100", (422,) * 12),
            ("PUT", "{picture}/thumbnail", NOT_ALLOWED),
        ),
    ),
    "api/assets/urls": ("/api/assets/urls", (("POST", "", SIGN),)),
    "api/assets/download": ("/api/assets/download", (("POST", "", SIGN),)),
    "api/assets/packages": ("/api/assets/packages", (("GET", "", LIST), ("DELETE", "", NOT_ALLOWED))),
    "api/assets/by-filename/<path:name>": ("/api/assets/by-filename/", (("GET", "private.txt", RECORD),)),
    "api/assets/<asset_id>": (
        "/api/assets/",
        (
            ("GET", "{asset}", RECORD),
            ("PUT", "{asset}", SIGN),
            ("DELETE", "{asset}", SIGN),
            ("DELETE", "{public}?permanent=1", SIGN),
            ("POST", "{asset}", NOT_ALLOWED),
        ),
    ),
    "api/usage": ("/api/usage", (("GET", "", LIST), ("POST", "", NOT_ALLOWED))),
    "api/assets/<asset_id>/summary": ("/api/assets/", (("GET", "{asset}/summary", RECORD),)),
    "api/assets/<asset_id>/lineage": ("/api/assets/", (("GET", "{asset}/lineage", RECORD),)),
    "api/assets/<asset_id>/content": ("/api/assets/", (("PUT", "{asset}/content", SIGN),)),
    "api/assets/<asset_id>/restore": ("/api/assets/", (("POST", "{asset}/restore", SIGN),)),
    "api/assets/<asset_id>/recursive": ("/api/assets/", (("GET", "{asset}/recursive", RECORD),)),
}

# The admin: what a superuser and a staff user without permissions get. Everybody else is sent to the login.
ADMIN: dict[str, tuple[str, int, int]] = {
    "": ("", 200, 200),
    "logout/": ("logout/", 405, 405),
    "password_change/": ("password_change/", 200, 200),
    "password_change/done/": ("password_change/done/", 200, 200),
    "autocomplete/": ("autocomplete/", 403, 403),
    "jsi18n/": ("jsi18n/", 200, 200),
    "r/<path:content_type_id>/<path:object_id>/": ("r/1/1/", 404, 404),
    "^(?P<app_label>assets|auth)/$": ("assets/", 200, 404),
    "(?P<url>.*)$": ("nowhere/", 404, 404),
    "auth/user/<id>/password/": ("auth/user/1/password/", 200, 403),
    "assets/asset/library/": ("assets/asset/library/", 200, 403),
    "assets/asset/dashboard/": ("assets/asset/dashboard/", 200, 403),
    "assets/asset/dashboard/purge/": ("assets/asset/dashboard/purge/", 405, 405),
    "assets/asset/node-cache/": ("assets/asset/node-cache/", 200, 403),
    "assets/asset/node-cache/clear/": ("assets/asset/node-cache/clear/", 405, 405),
    "assets/asset/library/zip/": ("assets/asset/library/zip/", 405, 405),
    "assets/asset/library/assets/": ("assets/asset/library/assets/", 200, 403),
    "assets/asset/<uuid:asset_id>/preview/": ("assets/asset/{asset}/preview/", 404, 403),
    "assets/asset/<uuid:asset_id>/content/": ("assets/asset/{asset}/content/", 200, 403),
}
for _model, _object, _add, _change, _delete in (
    ("auth/group", "1", 200, 200, 200),
    ("auth/user", "1", 200, 200, 200),
    ("assets/asset", "{asset}", 200, 200, 200),
    ("assets/storedobject", "{object}", 403, 200, 403),
    ("assets/integrityrun", "{run}", 403, 200, 403),
    ("assets/integrityfinding", "{finding}", 403, 200, 403),
    ("assets/quarantinedobject", "{held}", 403, 200, 403),
    ("assets/scheduledwork", "{work}", 403, 200, 403),
    ("assets/retentionrule", "{rule}", 403, 200, 403),
    ("assets/account", "1", 200, 200, 403),
    ("assets/job", "{job}", 403, 200, 403),
):
    ADMIN |= {
        f"{_model}/": (f"{_model}/", 200, 403),
        f"{_model}/add/": (f"{_model}/add/", _add, 403),
        f"{_model}/<path:object_id>/history/": (f"{_model}/{_object}/history/", _change, 403),
        f"{_model}/<path:object_id>/delete/": (f"{_model}/{_object}/delete/", _delete, 403),
        f"{_model}/<path:object_id>/change/": (f"{_model}/{_object}/change/", _change, 403),
        f"{_model}/<path:object_id>/": (f"{_model}/{_object}/", 302, 302),
    }
STRANGERS = set(ROLES) - {"owner session", "owner token", "local", "cross-site session", "cross-site local"}
LOGGED_IN = {"owner session": 1, "cross-site session": 1, "staff session": 2}  # which column of ADMIN


def routes(patterns: list[URLPattern | URLResolver], prefix: str = "") -> Iterator[str]:
    """Give every address of the URL configuration, as it is written there."""
    for pattern in patterns:
        written = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from routes(pattern.url_patterns, written)
        else:
            yield written


def test_matrix_names_every_route_of_the_service() -> None:
    listed = {*ROUTES, *(f"admin/{route}" for route in ADMIN), "admin/login/"}
    assert set(routes(get_resolver().url_patterns)) == listed


def ask(client: Client, method: str, path: str, people: Everybody) -> HttpResponseBase:
    """Make one request; a write brings a body."""
    if method == "POST" and path.rstrip("/") == "/api/assets":
        return client.post(path, {"json": '{"name": "made", "content_type": "folder"}'})
    if method == "PUT" and path.startswith("/api/assets/") and not path.endswith("/content"):
        return client.put(path, {"name": "private.txt", "tags": ["x"]}, content_type="application/json")
    if method == "POST" and path.startswith("/api/assets"):
        return client.post(path, {"asset_ids": [people.asset.pk.hex]}, content_type="application/json")
    body: dict[str, Any] = {"data": b"written", "content_type": "text/plain"} if method in {"PUT", "POST"} else {}
    return client.generic(method, path, **body)


def private_picture(people: Everybody) -> Asset:
    """Give the owner's picture, stored at the first call."""
    there = Asset.objects.filter(key="picture.png").first()
    data = io.BytesIO()
    Image.new("RGB", (8, 8)).save(data, "PNG")
    return there or stored(people.owner, "picture.png", data.getvalue(), content_type="image/png")


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("route", ROUTES)
def test_route_answers_each_role_as_decided(everybody: Everybody, route: str, role: str) -> None:
    client, column = everybody.client(role), ROLES.index(role)
    start, requests = ROUTES[route]
    ids = {"asset": everybody.asset.pk.hex, "public": everybody.public.pk.hex}
    for method, rest, expected in requests:
        if "{picture}" in rest:
            ids["picture"] = private_picture(everybody).pk.hex
        answer = ask(client, method, start + rest.format(**ids), everybody)
        assert (method, rest, answer.status_code) == (method, rest, expected[column])
        if expected[column] != 200 or role in STRANGERS:
            assert SECRET not in b"".join(answer) or "public" in rest
        if route.startswith("api/assets") and role in STRANGERS:
            assert everybody.asset.name.encode() not in b"".join(answer)


@pytest.mark.parametrize("role", ROLES)
def test_admin_answers_each_role_as_decided(everybody: Everybody, role: str) -> None:
    client = everybody.client(role)
    Group.objects.create(pk=1, name="group")
    job = open_job(new_id(), user=everybody.owner, strategy="threaded", task="t:t", workflow="", node="")
    names = {"asset": everybody.asset.pk, "object": everybody.asset.object_id, "job": job.pk}
    now = timezone.now()
    run = IntegrityRun.objects.create(kind="verify", started_at=now, updated_at=now)
    found = IntegrityFinding.objects.create(run=run, kind="stuck", bucket="assets", key="ab/stuck")
    held = QuarantinedObject.objects.create(run=run, bucket="assets", key="ab/held", size=1, state_changed_at=now)
    work = ScheduledWork.objects.create(name="purge", next_at=now)
    rule = RetentionRule.objects.create(
        owner=everybody.owner, scope="job", value="made", seconds=86_400, created_at=now
    )
    names |= {"rule": rule.pk, "run": run.pk, "finding": found.pk, "held": held.pk, "work": work.pk}
    seen, expected = {}, {}
    for route, row in ADMIN.items():
        answer = client.get("/admin/" + row[0].format(**names))
        seen[route] = answer.status_code
        expected[route] = row[LOGGED_IN[role]] if role in LOGGED_IN else 302
        if role not in LOGGED_IN:
            assert answer.headers["Location"].startswith(("/admin/login/?next=/admin/", "/admin/")), route
        if role not in {"owner session", "cross-site session"} and answer.status_code == 200:
            assert b"private.txt" not in b"".join(answer)
    assert seen == expected


@pytest.mark.parametrize("role", ROLES)
def test_admin_write_from_another_site_is_refused(everybody: Everybody, role: str) -> None:
    client = everybody.client(role)
    client.defaults |= {"HTTP_ORIGIN": "https://evil.example"}
    client.defaults.pop("HTTP_X_CSRFTOKEN", None)
    for path in (f"assets/asset/{everybody.asset.pk}/delete/", "auth/user/add/", "logout/", "login/", "assets/asset/"):
        assert client.post(f"/admin/{path}", {"post": "yes"}).status_code == 403, path
    everybody.asset.refresh_from_db()
