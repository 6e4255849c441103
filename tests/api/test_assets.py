"""GET /api/assets, GET /api/assets/{id} and POST /api/assets/urls: shape, pages, filters, access and bad input."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from assets.models import Asset
from assets.services.tokens import create_token
from tests.api.conftest import STRANGER, Configure, ago, copies, make_file, make_folder

UNKNOWN = "0" * 32


def listed(client: Client, query: str = "", **headers: str) -> Any:
    response = client.get(f"/api/assets{query}", headers=headers)
    assert response.status_code == 200, response.content
    return response.json()


def names(client: Client, query: str = "") -> list[str]:
    return [asset["name"] for asset in listed(client, query)["assets"]]


def all_pages(client: Client, query: str) -> list[str]:
    """Follow the cursors to the end; gives the names in order."""
    found, cursor = [], ""
    while True:
        page = listed(client, f"?{query}&cursor={cursor}")
        found += [asset["name"] for asset in page["assets"]]
        cursor = page["next"]
        if not cursor:
            return found


def urls(client: Client, body: object, **headers: str) -> Any:
    return client.post("/api/assets/urls", json.dumps(body), content_type="application/json", headers=headers)


# --- shape ---------------------------------------------------------------------------------------


def test_asset_has_every_field_of_the_contract(client: Client, owner: User) -> None:
    folder = make_folder(owner)
    asset = make_file(
        owner, "a.txt", parent=folder, workflow_id="w", job_id="j", node_id="n", metadata={"seed": 1}, tags=("x",)
    )
    answer = client.get(f"/api/assets/{asset.pk.hex}").json()
    assert asset.object is not None
    url = answer.pop("get_url")
    assert url.startswith(f"http://127.0.0.1:7777/storage/assets/{asset.key}?expires=")
    for name in ("created_at", "updated_at"):
        assert answer.pop(name).endswith("Z")
    assert answer == {
        "id": asset.pk.hex,
        "user_id": "1",
        "workflow_id": "w",
        "parent_id": folder.pk.hex,
        "name": "a.txt",
        "content_type": "text/plain",
        "size": 10,
        "metadata": {"seed": 1},
        "thumb_url": None,
        "duration": None,
        "bucket": "assets",
        "key": asset.key,
        "sha256": asset.object.sha256,
        "etag": f'"{asset.object.sha256}"',
        "width": None,
        "height": None,
        "job_id": "j",
        "node_id": "n",
        "tags": ["x"],
        "is_public": False,
        "expires_at": None,
        "revision": asset.revision,
    }


def test_folder_has_no_bytes_and_no_url(client: Client, owner: User) -> None:
    answer = client.get(f"/api/assets/{make_folder(owner).pk.hex}").json()
    assert answer["content_type"] == "folder"
    assert answer["parent_id"] == "1"
    assert [answer[name] for name in ("size", "get_url", "key", "sha256", "etag")] == [None] * 5


def test_own_id_gives_the_home_folder(client: Client) -> None:
    answer = client.get("/api/assets/1").json()
    assert (answer["id"], answer["name"], answer["content_type"]) == ("1", "Home", "folder")


def test_get_url_is_the_same_in_a_list_and_alone(client: Client, owner: User) -> None:
    asset = make_file(owner)
    alone = client.get(f"/api/assets/{asset.pk.hex}").json()
    assert listed(client)["assets"] == [alone]


@pytest.mark.parametrize("path", ["/api/assets", "/api/assets/"])
def test_list_answers_with_and_without_a_slash(client: Client, owner: User, path: str) -> None:
    make_file(owner)
    response = client.get(path)
    assert response.status_code == 200
    assert (response["Content-Type"], response["Cache-Control"]) == ("application/json", "private, no-store")
    assert [asset["name"] for asset in response.json()["assets"]] == ["a.png"]


# --- filters -------------------------------------------------------------------------------------


@pytest.fixture
def library(owner: User) -> dict[str, Asset]:
    folder = make_folder(owner, "f")
    return {
        "f": folder,
        "in": make_file(owner, "in", b"1", parent=folder, workflow_id="w1"),
        "png": make_file(owner, "png", b"22", job_id="j1", node_id="n1"),
        "json": make_file(owner, "json", b"{}", content_type="application/json", workflow_id="w1", node_id="n1"),
    }


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["f", "png", "json"]),
        ("?parent_id=1", ["f", "png", "json"]),
        ("?parent_id={f}", ["in"]),
        ("?workflow_id=w1", ["in", "json"]),
        ("?workflow_id=w1&parent_id=1", ["json"]),
        ("?job_id=j1", ["png"]),
        ("?node_id=n1", ["png", "json"]),
        ("?node_id=n1&workflow_id=w1", ["json"]),
        ("?content_type=application", ["json"]),
        ("?content_type=application/json", ["json"]),
        ("?content_type=text/", ["in", "png"]),
        ("?content_type=folder", ["f"]),
        ("?content_type=t%25t", []),
        ("?content_type=_ext", []),
        ("?workflow_id=nothing", []),
        ("?duration=3.5", ["f", "png", "json"]),
        ("?duration=", ["f", "png", "json"]),
    ],
)
def test_list_is_narrowed(client: Client, library: dict[str, Asset], query: str, expected: list[str]) -> None:
    assert names(client, query.format(f=library["f"].pk.hex)) == expected


def test_list_leaves_out_what_is_trashed_or_expired(client: Client, owner: User) -> None:
    kept, trashed, expired = (make_file(owner, name, name.encode()) for name in ("kept", "trashed", "expired"))
    Asset.objects.filter(pk=trashed.pk).update(trashed_at=timezone.now())
    Asset.objects.filter(pk=expired.pk).update(expires_at=ago(seconds=1))
    assert names(client) == ["kept"]
    for gone in (trashed, expired):
        assert client.get(f"/api/assets/{gone.pk.hex}").status_code == 404
    assert list(urls(client, {"asset_ids": [a.pk.hex for a in (kept, trashed, expired)]}).json()["urls"]) == [
        kept.pk.hex
    ]


# --- pages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("page_size", [1, 2, 3, 7, 10_000])
@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("created", "f b3 ä1 a3 c2 g"),
        ("-created", "g c2 a3 ä1 b3 f"),
        ("name", "a3 b3 c2 f g ä1"),
        ("-size", "a3 b3 c2 ä1 g f"),
    ],
)
def test_pages_hold_every_asset_once_and_in_order(
    client: Client, owner: User, order: str, expected: str, page_size: int
) -> None:
    make_folder(owner, "f")
    for name in ("b3", "ä1", "a3", "c2"):
        make_file(owner, name, name.encode() * int(name[-1]) + name[:1].encode("utf-16"))
    make_folder(owner, "g")
    Asset.objects.filter(name__in=["b3", "a3"]).update(size=3)
    Asset.objects.filter(name="c2").update(size=2)
    Asset.objects.filter(name="ä1").update(size=1)
    assert all_pages(client, f"order={order}&page_size={page_size}") == expected.split()


def test_pages_by_name_go_on_behind_equal_names(client: Client, owner: User) -> None:
    asset = make_file(owner, "same")
    copies(asset, 6)
    Asset.objects.update(name="same", name_folded="same")
    found = []
    cursor = ""
    while page := listed(client, f"?order=name&page_size=2&cursor={cursor}"):
        found += [entry["id"] for entry in page["assets"]]
        cursor = page["next"]
        if not cursor:
            break
    assert found == sorted(entry.hex for entry in Asset.objects.values_list("pk", flat=True))


def test_page_that_holds_the_last_asset_has_no_next(client: Client, owner: User) -> None:
    copies(make_file(owner), 3)
    assert listed(client, "?page_size=4")["next"] == ""
    assert listed(client, "?page_size=3")["next"] != ""


def test_page_begins_behind_an_asset_that_is_gone_since(client: Client, owner: User) -> None:
    rows = [make_file(owner, name, name.encode()) for name in "abc"]
    page = listed(client, "?page_size=1")
    Asset.objects.filter(pk=rows[0].pk).update(trashed_at=timezone.now())
    assert names(client, f"?cursor={page['next']}") == ["b", "c"]


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("page_size=0", "page_size"),
        ("page_size=10001", "page_size"),
        ("page_size=-1", "page_size"),
        ("page_size=abc", "page_size"),
        ("page_size=", "page_size"),
        ("page_size=" + "9" * 5000, "page_size"),
        ("order=size", "order"),
        ("order=", "order"),
        ("workflow_id=%00", "workflow_id"),
        ("content_type=a%00", "content_type"),
        ("parent_id=a%00", "parent_id"),
        ("job_id=" + "x" * 256, "job_id"),
        ("unknown=1", "unknown"),
        ("owner_id=2", "owner_id"),
        ("owner__username=admin", "owner__username"),
        ("parent_id__isnull=1", "parent_id__isnull"),
        ("page_size=1&page_size=2", "page_size"),
        ("workflow_id=a&workflow_id=b", "workflow_id"),
        ("tag=" + "x" * 256, "tag"),
        ("tag=a%00", "tag"),
        ("meta.=1", "meta."),
        ("meta.__gte=1", "meta.__gte"),
        ("meta.seed__in=1", "meta.seed__in"),
        ("meta.seed__=1", "meta.seed__"),
        ("meta.seed__contains=1", "meta.seed__contains"),
        ("meta.a__b__gte=1", "meta.a__b__gte"),
        ("meta.seed__gte=many", "meta.seed__gte"),
        ("meta.seed__gte=", "meta.seed__gte"),
        ("meta.seed__lt=nan", "meta.seed__lt"),
        ("meta.seed__lt=1e999", "meta.seed__lt"),
        ("meta.seed__lt=%2B1", "meta.seed__lt"),
        ("meta.seed__lt=1_0", "meta.seed__lt"),
        ("meta.seed__lt=%C2%B2", "meta.seed__lt"),
        ("meta.seed=%00", "meta.seed"),
        ("meta.seed=" + "x" * 256, "meta.seed"),
        ("meta." + "x" * 129 + "=1", "meta." + "x" * 59),
        ("meta.seed=1&meta.seed=2", "meta.seed"),
        ("metadata=1", "metadata"),
        ("&".join(f"meta.k{n}=1" for n in range(9)), "meta.*"),
    ],
)
def test_list_with_a_bad_parameter_is_refused_by_name(client: Client, query: str, field: str) -> None:
    response = client.get(f"/api/assets?{query}")
    assert response.status_code == 422
    assert response.json()["detail"].startswith(f"{field}: ")
    assert isinstance(response.json()["detail"], str)


@pytest.mark.parametrize("asset_id", [UNKNOWN, "x", "0", "2", "-1", "A" * 32, "%00", "0" * 5000, "{" + UNKNOWN + "}"])
def test_asset_that_is_not_there_is_404(client: Client, asset_id: str) -> None:
    response = client.get(f"/api/assets/{asset_id}")
    assert response.status_code == 404
    assert response.json() == {"detail": "There is no asset with this id."}


@pytest.mark.parametrize("parent_id", [UNKNOWN, "x", "0", "2", "", "file", "foreign"])
def test_list_of_a_folder_that_is_not_there_is_404(client: Client, owner: User, other: User, parent_id: str) -> None:
    ids = {"file": make_file(owner).pk.hex, "foreign": make_folder(other).pk.hex}
    response = client.get(f"/api/assets?parent_id={ids.get(parent_id, parent_id)}")
    assert response.status_code == 404
    assert response.json() == {"detail": "parent_id: there is no folder with this id."}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "asset_ids"),
        ({"asset_ids": None}, "asset_ids"),
        ({"asset_ids": "x"}, "asset_ids"),
        ({"asset_ids": ["x"]}, "asset_ids.0"),
        ({"asset_ids": [UNKNOWN, 7]}, "asset_ids.1"),
        ({"asset_ids": [UNKNOWN] * 10_001}, "asset_ids"),
        ({"asset_ids": [], "expires_in": 0}, "expires_in"),
        ({"asset_ids": [], "expires_in": -5}, "expires_in"),
        ({"asset_ids": [], "expires_in": 604_801}, "expires_in"),
        ({"asset_ids": [], "expires_in": 10**30}, "expires_in"),
        ({"asset_ids": [], "expires_in": "soon"}, "expires_in"),
        ([], "asset_ids"),
        (7, "asset_ids"),
        (None, "asset_ids"),
        ("text", "asset_ids"),
    ],
)
def test_urls_with_a_bad_body_are_refused_by_name(client: Client, body: object, field: str) -> None:
    response = urls(client, body)
    assert response.status_code == 422, response.content
    assert response.json()["detail"].startswith(f"{field}: ")


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b"[" * 100_000, b'{"asset_ids": [' + b"[" * 50_000])
def test_urls_with_a_body_that_is_no_json_are_refused(client: Client, raw: bytes) -> None:
    response = client.post("/api/assets/urls", raw, content_type="application/json")
    assert response.status_code in (400, 422)
    assert isinstance(response.json()["detail"], str)


def test_urls_ignore_unknown_fields(client: Client, owner: User) -> None:
    asset = make_file(owner)
    assert urls(client, {"asset_ids": [asset.pk.hex], "color": "red"}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("put", "/api/assets", 405),
        ("patch", "/api/assets/urls", 405),
        ("get", "/api/nothing", 404),
        ("get", "/api", 404),
        ("head", "/api/assets/urls", 405),
    ],
)
def test_error_of_any_kind_is_one_text(client: Client, method: str, path: str, status: int) -> None:
    response = getattr(client, method)(path)
    assert response.status_code == status
    assert method == "head" or isinstance(response.json()["detail"], str)


@pytest.mark.parametrize(
    "path", ["", "/", "/{id}", "/{id}/lineage", "/{id}/recursive", "/{id}/summary", "/by-filename/a.png", "/packages"]
)
def test_head_is_get_without_its_body(client: Client, owner: User, path: str) -> None:
    address = "/api/assets" + path.format(id=make_file(owner).pk.hex)
    got, headed = client.get(address), client.head(address)
    assert (headed.status_code, headed.content, headed["Content-Length"]) == (200, b"", str(len(got.content)))
    assert {**headed.headers, "Date": ""} == {**got.headers, "Date": ""}


@pytest.mark.parametrize("path", ["/api/usage", "/api/assets/search?query=png"])
def test_head_of_figures_and_of_a_search_is_known(client: Client, owner: User, path: str) -> None:
    assert client.head(path).status_code == 200


# --- batches -------------------------------------------------------------------------------------


def test_urls_open_what_they_name(client: Client, nobody: Client, owner: User) -> None:
    asset, folder = make_file(owner), make_folder(owner)
    answer = urls(client, {"asset_ids": [asset.pk.hex, asset.pk.hex, folder.pk.hex, UNKNOWN]}).json()
    assert list(answer["urls"]) == [asset.pk.hex]
    parts = urlsplit(answer["urls"][asset.pk.hex])
    assert nobody.get(f"{parts.path}?{parts.query}").status_code == 200


def test_urls_of_nothing_are_none(client: Client) -> None:
    assert urls(client, {"asset_ids": []}).json() == {"urls": {}}


def test_urls_of_a_null_life_live_as_long_as_by_default(client: Client, owner: User) -> None:
    asset = make_file(owner)
    found = [urls(client, {"asset_ids": [asset.pk.hex], **more}).json() for more in ({}, {"expires_in": None})]
    assert found[0] == found[1]


@pytest.mark.parametrize("expires_in", [1, 60, 604_800])
def test_urls_live_as_long_as_asked_for(client: Client, owner: User, expires_in: int) -> None:
    asset = make_file(owner)
    url = urls(client, {"asset_ids": [asset.pk.hex], "expires_in": expires_in}).json()["urls"][asset.pk.hex]
    end = int(url.partition("expires=")[2].partition("&")[0])
    left = end - timezone.now().timestamp()
    assert left <= expires_in
    assert left >= min(expires_in * 0.75, expires_in - 900) - 5


@pytest.mark.parametrize("count", [1, 1000])
def test_urls_cost_the_same_statements_for_one_and_a_thousand(
    client: Client, owner: User, django_assert_num_queries: Any, count: int
) -> None:
    rows = copies(make_file(owner), count)
    with django_assert_num_queries(2):  # the local user, the assets
        answer = urls(client, {"asset_ids": [row.pk.hex for row in rows]})
    assert len(answer.json()["urls"]) == count


@pytest.mark.parametrize(
    ("query", "statements"), [("", 1), ("?order=name", 1), ("?order=-size", 2), ("?parent_id=1", 1)]
)
def test_list_costs_the_same_statements_for_any_number(
    client: Client, owner: User, django_assert_num_queries: Any, query: str, statements: int
) -> None:
    copies(make_file(owner), 500)
    with django_assert_num_queries(statements):
        listed(client, query)


# --- access --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method_path", [("get", "/api/assets"), ("get", f"/api/assets/{UNKNOWN}")])
def test_nobody_is_asked_to_log_in(nobody: Client, method_path: tuple[str, str]) -> None:
    method, path = method_path
    response = getattr(nobody, method)(path)
    assert (response.status_code, response["WWW-Authenticate"]) == (401, "Bearer")


def test_nobody_gets_no_urls(nobody: Client, owner: User) -> None:
    assert urls(nobody, {"asset_ids": [make_file(owner).pk.hex]}).status_code == 401


def test_foreign_asset_is_404_as_an_absent_one(client: Client, other: User) -> None:
    foreign = make_file(other, is_public=True)
    response = client.get(f"/api/assets/{foreign.pk.hex}")
    assert (response.status_code, response.json()["detail"]) == (404, "There is no asset with this id.")
    assert urls(client, {"asset_ids": [foreign.pk.hex]}).status_code == 404
    assert names(client) == []


def test_token_lists_the_assets_of_its_user(nobody: Client, owner: User, other: User) -> None:
    make_file(owner, "mine")
    make_file(other, "theirs", b"theirs")
    token = create_token(other, "test")[1]
    answer = listed(nobody, Authorization=f"Bearer {token}")
    assert [asset["name"] for asset in answer["assets"]] == ["theirs"]


def test_session_lists_the_assets_of_its_user(other: User, owner: User) -> None:
    make_file(owner, "mine")
    browser = Client(REMOTE_ADDR=STRANGER)
    browser.force_login(other)
    assert names(browser) == []


def test_session_needs_a_csrf_token_for_urls(owner: User) -> None:
    browser = Client(enforce_csrf_checks=True, REMOTE_ADDR=STRANGER)
    browser.force_login(owner)
    assert urls(browser, {"asset_ids": []}).status_code == 403


def test_page_of_another_site_gets_no_urls_from_the_local_user(client: Client) -> None:
    assert urls(client, {"asset_ids": []}, Origin="https://evil.test").status_code == 403


# --- documentation -------------------------------------------------------------------------------


def test_openapi_names_routes_and_parameters(client: Client) -> None:
    schema = client.get("/api/openapi.json").json()
    assert schema["openapi"].startswith("3.")
    assert {"/api/assets", "/api/assets/search", "/api/assets/urls", "/api/assets/{asset_id}"} <= set(schema["paths"])
    parameters = {entry["name"] for entry in schema["paths"]["/api/assets"]["get"]["parameters"]}
    assert {
        "parent_id",
        "content_type",
        "workflow_id",
        "job_id",
        "node_id",
        "tag",
        "meta.<name>",
        "meta.<name>__gte",
        "cursor",
        "page_size",
        "order",
    } < parameters
    assert schema["components"]["securitySchemes"]


def test_docs_load_nothing_from_elsewhere(client: Client) -> None:
    response = client.get("/api/docs")
    assert response.status_code == 200
    page = response.content.decode()
    assert "/static/ninja/swagger-ui-bundle.js" in page
    assert "https://" not in page
    assert "//cdn" not in page


def test_expiry_of_a_temp_asset_is_told(client: Client, owner: User, configure: Configure) -> None:
    asset = make_file(owner, bucket="temp", expires_at=timezone.now() + timedelta(hours=1))
    answer = client.get(f"/api/assets/{asset.pk.hex}").json()
    assert (answer["bucket"], answer["expires_at"][-1]) == ("temp", "Z")
