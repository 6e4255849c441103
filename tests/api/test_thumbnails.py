"""GET /api/assets/{id}/thumbnail, and the `thumb_url` that names it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.models import User
from django.core.files.storage import storages
from django.test import Client
from django.utils import timezone

from assets.models import Asset, StoredObject
from assets.services.previews import make_next
from assets.signing import MAX_LIFE
from tests.api.conftest import Configure, make_file, make_folder
from tests.media.files import MP4, PNG, WAV, encoded, flat

pytestmark = pytest.mark.django_db(transaction=True)
FAILURE = {"detail": "There is no picture of an asset with this id."}


def picture(owner: User, name: str = "a.png", content: bytes = PNG, **details: Any) -> Asset:
    kinds = {"png": "image/png", "mp4": "video/mp4", "wav": "audio/wav"}
    return make_file(owner, name, content, content_type=kinds.get(name.rpartition(".")[2], "text/plain"), **details)


def thumb_url(client: Client, asset: Asset) -> str | None:
    url: str | None = client.get(f"/api/assets/{asset.pk.hex}").json()["thumb_url"]
    return url


def path_of(url: str | None) -> str:
    assert url is not None
    parts = urlsplit(url)
    assert f"{parts.scheme}://{parts.netloc}" == "http://127.0.0.1:7777"
    return f"{parts.path}?{parts.query}"


@pytest.mark.parametrize(("query", "size"), [("", 256), ("?size=128", 128), ("?size=256", 256), ("?size=512", 512)])
def test_thumbnail_is_a_picture_of_the_size(client: Client, owner: User, query: str, size: int) -> None:
    response = client.get(f"/api/assets/{picture(owner).pk.hex}/thumbnail{query}")
    assert (response.status_code, response["Content-Type"]) == (200, "image/webp")
    body = b"".join(response)  # type: ignore[arg-type]
    assert body[:4] + body[8:12] == b"RIFFWEBP"
    stored = StoredObject.objects.get(shows__size=size)
    assert (response["ETag"], response["Content-Length"]) == (stored.etag, str(len(body)))
    assert response["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("query", ["?size=100", "?size=", "?size=256&size=256", "?width=3", "?size=0256x"])
def test_thumbnail_of_another_size_is_refused_by_name(client: Client, owner: User, query: str) -> None:
    response = client.get(f"/api/assets/{picture(owner).pk.hex}/thumbnail{query}")
    assert response.status_code == 422
    assert response.json()["detail"].startswith(query[1:].partition("=")[0])


def test_thumbnail_has_the_conditions_of_any_object(client: Client, owner: User) -> None:
    address = f"/api/assets/{picture(owner).pk.hex}/thumbnail"
    first = client.get(address)
    assert (first["Cache-Control"], first["Vary"]) == ("private, no-cache", "Cookie, Authorization")
    again = client.get(address, headers={"If-None-Match": first["ETag"]})
    assert (again.status_code, b"".join(again)) == (304, b"")
    head = client.head(address)
    assert (head.status_code, head["ETag"], head.content) == (200, first["ETag"], b"")
    assert client.get(address, headers={"Range": "bytes=0-3"}).status_code == 206


def test_thumb_url_is_read_by_anybody_who_has_it_and_kept(client: Client, nobody: Client, owner: User) -> None:
    asset = picture(owner)
    url = thumb_url(client, asset)
    response = nobody.get(path_of(url))
    assert response.status_code == 200
    assert response["Cache-Control"].startswith("private, max-age=")
    assert response["Cache-Control"].endswith("immutable")
    assert thumb_url(client, asset) == url


def test_thumb_url_grants_this_picture_only(client: Client, nobody: Client, owner: User) -> None:
    asset, other = picture(owner), picture(owner, "b.png", encoded(flat(size=(99, 9)), "PNG"))
    path = path_of(thumb_url(client, asset))
    assert nobody.get(path.replace("size=256", "size=512")).status_code == 404
    assert nobody.get(path.replace(asset.pk.hex, other.pk.hex)).status_code == 404
    assert nobody.get(path.replace("size=256&", "")).status_code == 404
    assert nobody.get(path[:-1] + ("A" if path[-1] != "A" else "B")).status_code == 404
    assert nobody.get(f"/storage/assets/{asset.key}?{path.partition('&')[2]}").status_code == 404
    assert nobody.get(f"/api/assets/{asset.pk.hex}/thumbnail").status_code == 404
    assert client.get(path.replace("signature=", "signature=x")).status_code == 404, "judged by the link alone"


def test_thumb_url_ends_with_the_object_and_with_its_time(
    client: Client, nobody: Client, owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset = picture(owner)
    path = path_of(thumb_url(client, asset))
    later = timezone.now().timestamp() + MAX_LIFE
    with monkeypatch.context() as patch:
        patch.setattr("assets.api.thumbnails.time.time", lambda: later)
        assert nobody.get(path).status_code == 404
    Asset.objects.filter(pk=asset.pk).update(trashed_at=timezone.now())
    assert nobody.get(path).status_code == 404


def test_thumbnail_of_a_public_asset_is_read_by_anybody(client: Client, nobody: Client, owner: User) -> None:
    asset = picture(owner, is_public=True)
    url = thumb_url(client, asset)
    assert url == f"http://127.0.0.1:7777/api/assets/{asset.pk.hex}/thumbnail?size=256"
    response = nobody.get(path_of(url))
    assert (response.status_code, response["Cache-Control"]) == (200, "public, no-cache")


def test_thumb_url_is_given_only_where_there_is_a_picture(client: Client, owner: User) -> None:
    film, sound = picture(owner, "a.mp4", MP4), picture(owner, "a.wav", WAV)
    broken, text = picture(owner, "b.png", PNG[:100]), picture(owner, "a.txt", b"text")
    assert thumb_url(client, film) is not None
    for asset in (sound, broken, text, make_folder(owner)):
        assert thumb_url(client, asset) is None
        response = client.get(f"/api/assets/{asset.pk.hex}/thumbnail")
        assert (response.status_code, response.json()) == (404, FAILURE)


@pytest.mark.parametrize("asset_id", ["0" * 32, "x", "1", "0" * 31 + "G"])
def test_thumbnail_of_nothing_is_404(client: Client, asset_id: str) -> None:
    response = client.get(f"/api/assets/{asset_id}/thumbnail")
    assert (response.status_code, response.json()) == (404, FAILURE)


def test_thumbnail_not_made_yet_is_404_and_later_there(client: Client, owner: User, configure: Configure) -> None:
    configure(env="development", asset_storage="filesystem")
    asset = picture(owner)
    address = f"/api/assets/{asset.pk.hex}/thumbnail"
    assert thumb_url(client, asset) is not None, "it can be made"
    response = client.get(address)
    assert (response.status_code, response["Cache-Control"]) == (404, "no-store")
    assert make_next()
    assert client.get(address).status_code == 200


def test_thumbnail_of_an_object_never_asked_about_is_made(client: Client, owner: User) -> None:
    asset = picture(owner)
    assert asset.object is not None
    asset.object.renditions.all().delete()
    StoredObject.objects.filter(pk=asset.object_id).update(preview="", color="")
    assert client.get(f"/api/assets/{asset.pk.hex}/thumbnail").status_code == 200


def test_thumbnail_whose_bytes_are_lost_is_made_again(client: Client, owner: User) -> None:
    asset = picture(owner)
    address = f"/api/assets/{asset.pk.hex}/thumbnail"
    storages["assets"].delete(StoredObject.objects.get(shows__size=256).key)
    assert client.get(address).status_code == 404
    assert make_next()
    assert client.get(address).status_code == 200


def test_thumbnail_costs_a_fixed_number_of_statements(
    client: Client, owner: User, django_assert_num_queries: Any
) -> None:
    address = f"/api/assets/{picture(owner).pk.hex}/thumbnail"
    with django_assert_num_queries(2):
        assert client.get(address).status_code == 200
