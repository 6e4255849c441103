"""Signed links to /storage/ over HTTP: what they open, for whom, and the one refusal for all that is wrong."""

from __future__ import annotations

import io
import random
import time
from datetime import timedelta
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from assets.links import Links, current_links
from assets.models import Asset
from assets.services import delete_at, replace_content
from assets.signing import sign
from storagecache.config import s3_storage
from storagecache.environment import Environment
from tests.api.conftest import Configure, ago, make_file, make_folder
from tests.servers import SeaweedServer

REFUSAL = {"detail": "The link is not valid, or is not valid any more."}
NOW = 1_800_000_450.0  # in the middle of a window
TEN = b"0123456789"


def target(url: str | None) -> str:
    """Give the part of one of our URLs behind the host."""
    assert url is not None
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def link(asset: Asset, **options: Any) -> str:
    return target(current_links().url(asset, **options))


def body(response: Any) -> bytes:
    return b"".join(response.streaming_content) if response.streaming else response.content


@pytest.fixture
def asset(owner: User) -> Asset:
    return make_file(owner, "bild ä.txt")


def test_link_opens_without_any_header(asset: Asset, nobody: Client) -> None:
    response = nobody.get(link(asset))
    assert (response.status_code, body(response)) == (200, TEN)
    assert "Vary" not in response or "Cookie" not in response["Vary"]


def test_link_answers_head_and_ranges(asset: Asset, nobody: Client) -> None:
    head = nobody.head(link(asset))
    assert (head.status_code, head["Content-Length"], body(head)) == (200, "10", b"")
    part = nobody.get(link(asset), headers={"Range": "bytes=2-3"})
    assert (part.status_code, body(part)) == (206, b"23")


def test_answer_to_a_link_is_kept_by_its_browser_as_long_as_the_link_lives(asset: Asset, nobody: Client) -> None:
    policy = nobody.get(link(asset))["Cache-Control"]
    private, age, immutable = policy.split(", ")
    assert (private, immutable) == ("private", "immutable")
    assert 2700 - 5 <= int(age.removeprefix("max-age=")) <= 3600


def test_link_works_at_the_older_address_too(asset: Asset, nobody: Client) -> None:
    assert nobody.get(link(asset).replace("/storage/assets/", "/api/storage/")).status_code == 200


@pytest.mark.parametrize("key", ["a/b ü.txt", "100%.txt", "a?b#c&d=e.txt", "😀/x+y;z.txt", "a%2Fb", "'\"<>.txt"])
def test_link_to_any_key_opens(owner: User, nobody: Client, key: str) -> None:
    asset = make_file(owner, key=key)
    url = current_links().url(asset)
    assert url is not None
    assert unquote(urlsplit(url).path) == f"/storage/assets/{key}"
    assert nobody.get(target(url)).status_code == 200


def test_download_link_is_an_attachment(asset: Asset, nobody: Client) -> None:
    response = nobody.get(link(asset, download=True))
    assert response["Content-Disposition"].startswith("attachment")
    assert nobody.get(link(asset))["Content-Disposition"].startswith("inline")


@pytest.mark.parametrize("method", ["put", "delete", "post", "patch", "options"])
def test_link_with_another_method_is_refused_and_changes_nothing(
    asset: Asset, client: Client, nobody: Client, method: str
) -> None:
    for caller in (nobody, client):
        response = getattr(caller, method)(link(asset))
        assert (response.status_code, response.json()) == (404, REFUSAL)
    assert nobody.get(link(asset)).status_code == 200


def test_link_that_does_not_hold_is_refused_to_its_owner_too(asset: Asset, client: Client) -> None:
    """The owner's session must not make a broken link look sound."""
    assert client.get(f"/storage/assets/{asset.key}").status_code == 200
    response = client.get(link(asset)[:-1] + "_")
    assert (response.status_code, response.json()) == (404, REFUSAL)
    assert response["Cache-Control"] == "no-store"


def test_link_that_does_not_hold_is_refused_for_a_public_asset_too(owner: User, nobody: Client) -> None:
    asset = make_file(owner, is_public=True)
    assert nobody.get(f"/storage/assets/{asset.key}?expires=1").json() == REFUSAL


def _flip(source: random.Random, query: str) -> str:
    """Flip one of the low bits of a character, or put another there."""
    position = source.randrange(len(query))
    other = source.choice("0123456789abcdefXYZ&=_-%+;".replace(query[position], ""))
    flipped = chr(ord(query[position]) ^ 1 << source.randrange(6))
    return query[:position] + source.choice((other, flipped)) + query[position + 1 :]


def _drop(source: random.Random, query: str) -> str:
    position = source.randrange(len(query))
    return query[:position] + query[position + 1 :]


def _insert(source: random.Random, query: str) -> str:
    position = source.randrange(len(query) + 1)
    return query[:position] + source.choice("0aA&=%+ .~;,\n\0ä") + query[position:]


def _encode(source: random.Random, query: str) -> str:
    """Write one character as its percent-encoding, which means the same and is not the same text."""
    position = source.randrange(len(query))
    code = f"%{ord(query[position]):02x}"
    return query[:position] + source.choice((code, code.upper())) + query[position + 1 :]


def _reorder(source: random.Random, query: str) -> str:
    """Put the parameters in another order, one of them twice, one away, or one more among them."""
    parts = query.split("&")
    extra = source.choice((*parts, "x=1", "download=1", "download=0", "expires=1", "signature=", "", "&", "object"))
    parts.insert(source.randrange(len(parts) + 1), extra)
    if source.random() < 0.5:
        del parts[source.randrange(len(parts))]
    source.shuffle(parts)
    return "&".join(parts)


def _revalue(source: random.Random, query: str) -> str:
    """Give one parameter another value."""
    parts = query.split("&")
    index = source.randrange(len(parts))
    values = (
        "",
        "0",
        "-1",
        "1",
        "1e9",
        "99999999999",
        "0x1",
        " 1",
        "None",
        "*",
        "a" * 32,
        "0" * 32,
        "A" * 43,
        "9" * 400,
    )
    parts[index] = f"{parts[index].partition('=')[0]}={source.choice(values)}"
    return "&".join(parts)


_MUTATE = (_flip, _drop, _insert, _encode, _reorder, _revalue)


@pytest.mark.slow
def test_ten_thousand_mutated_links_are_all_refused_with_one_text(owner: User, nobody: Client, settings: Any) -> None:
    """Through the whole service, over reading, other methods and other addresses."""
    asset, second = make_file(owner, "a.txt"), make_file(owner, "b.txt")
    source = random.Random(11)
    goods = [link(asset), link(asset, download=True)]
    for number in range(10_000):
        path, query = source.choice(goods).split("?")
        mutated = query
        while f"{path}?{mutated}" in goods:
            for _ in range(source.randint(1, 3)):
                mutated = source.choice(_MUTATE)(source, mutated)
        if number % 5 == 0:  # a sound signature, elsewhere or otherwise
            mutated = query
            path = source.choice((f"/storage/assets/{second.key}", path.replace("assets", "temp"), f"{path}%20"))
        environ = {"PATH_INFO": path, "QUERY_STRING": mutated, "REQUEST_METHOD": source.choice(("GET", "GET", "HEAD"))}
        response = nobody.get(path, **environ)  # type: ignore[arg-type]
        assert response.status_code == 404, (path, mutated)
        assert environ["REQUEST_METHOD"] == "HEAD" or response.json() == REFUSAL, (path, mutated)
    assert [nobody.get(good).status_code for good in goods] == [200, 200]


@pytest.mark.parametrize(
    "key", ["missing.png", "../secret", "a//b", "%00", "%FF", "x" * 2000], ids=lambda key: key[:12]
)
def test_link_to_what_is_not_there_has_the_same_refusal(asset: Asset, nobody: Client, key: str) -> None:
    query = link(asset).partition("?")[2]
    response = nobody.get(f"/storage/assets/{key}?{query}")
    assert (response.status_code, response.json()) == (404, REFUSAL)


@pytest.mark.parametrize("is_there", [True, False])
def test_wrong_token_beside_a_wrong_signature_tells_nothing(asset: Asset, nobody: Client, is_there: bool) -> None:
    """Else 401 for the absent and 404 for the present would tell which is which."""
    key = asset.key if is_there else "missing.png"
    response = nobody.get(f"/storage/assets/{key}?expires=1", headers={"Authorization": "Bearer wrong"})
    assert (response.status_code, response.json()) == (404, REFUSAL)


def _trash(asset: Asset) -> None:
    Asset.objects.filter(pk=asset.pk).update(trashed_at=timezone.now())


def _delete(asset: Asset) -> None:
    delete_at(asset.owner_id, asset.bucket, asset.key or "")


def _replace(asset: Asset) -> None:
    replace_content(asset, io.BytesIO(b"other bytes"))


def _expire(asset: Asset) -> None:
    Asset.objects.filter(pk=asset.pk).update(expires_at=ago(seconds=1))


@pytest.mark.parametrize("change", [_trash, _delete, _replace, _expire])
def test_link_to_an_asset_that_changed_since_is_refused(asset: Asset, nobody: Client, change: Any) -> None:
    url = link(asset)
    assert nobody.get(url).status_code == 200
    change(asset)
    response = nobody.get(url)
    assert (response.status_code, response.json()) == (404, REFUSAL)


def test_link_of_an_earlier_key_opens_until_the_key_is_dropped(asset: Asset, nobody: Client, settings: Any) -> None:
    url, old = link(asset), settings.SECRET_KEY
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "another key of fifty characters or more, for tests", [old]
    assert nobody.get(url).status_code == 200
    assert nobody.get(link(asset)).status_code == 200
    settings.SECRET_KEY_FALLBACKS = []
    assert nobody.get(url).json() == REFUSAL


def test_link_that_has_expired_is_refused(asset: Asset, nobody: Client) -> None:
    links = Links.at(time.time() - 3700)
    assert nobody.get(target(links.url(asset))).json() == REFUSAL


def test_link_with_a_far_future_is_refused(asset: Asset, nobody: Client) -> None:
    assert asset.object is not None
    keys, end = current_links().keys, int(time.time()) + 10**8
    query = sign(keys, bucket="assets", key=asset.key or "", object_id=asset.object.pk.hex, expires_at=end)
    assert nobody.get(f"/storage/assets/{asset.key}?{query}").json() == REFUSAL


def test_links_of_one_window_are_equal_and_differ_from_the_next(asset: Asset) -> None:
    first, same, next_ = (Links.at(at).url(asset) for at in (NOW, NOW + 449, NOW + 450))
    assert first == same != next_


def test_link_lives_an_hour_from_its_window_on(asset: Asset) -> None:
    assert "expires=1800003600&" in (Links.at(NOW).url(asset) or "")
    assert "expires=1800000510&" in (Links.at(NOW, life=60).url(asset) or "")


def test_link_to_a_temp_asset_never_outlives_it(owner: User) -> None:
    now = time.time()
    asset = make_file(owner, bucket="temp", expires_at=timezone.now() + timedelta(seconds=100))
    assert asset.expires_at is not None
    assert Links.at(now).end(asset.expires_at) == int(asset.expires_at.timestamp())
    assert Links.at(now + 101).url(asset) is None


def test_folder_has_no_link(owner: User) -> None:
    assert current_links().url(make_folder(owner)) is None


def test_link_begins_with_the_configured_address_whatever_the_request_says(
    asset: Asset, client: Client, configure: Configure
) -> None:
    configure(api_url="https://files.example.org/base")
    answer = client.get(f"/api/assets/{asset.pk.hex}", headers={"Host": "localhost", "X-Forwarded-Host": "evil.test"})
    assert answer.status_code == 401  # what came through a proxy is not this machine
    answer = client.get(f"/api/assets/{asset.pk.hex}", headers={"Host": "localhost"})
    assert answer.json()["get_url"].startswith("https://files.example.org/base/storage/assets/")


def test_public_asset_has_a_plain_link_that_opens(owner: User, nobody: Client) -> None:
    asset = make_file(owner, is_public=True)
    url = current_links().url(asset)
    assert url == f"http://127.0.0.1:7777/storage/assets/{asset.key}"
    response = nobody.get(target(url))
    assert (response.status_code, response["Cache-Control"]) == (200, "public, no-cache")


def test_public_url_is_for_public_assets_alone(owner: User, configure: Configure) -> None:
    configure(public_url="https://cdn.example.org/files")
    public, private = make_file(owner, "a", is_public=True), make_file(owner, "b", b"other")
    assert public.object is not None
    assert current_links().url(public) == f"https://cdn.example.org/files/{public.object.key}"
    assert "signature=" in (current_links().url(private) or "")


def test_public_url_is_not_for_what_expires(owner: User, configure: Configure) -> None:
    configure(public_url="https://cdn.example.org")
    asset = make_file(owner, bucket="temp", is_public=True)
    assert not (current_links().url(asset) or "").startswith("https://cdn.example.org")


def test_links_of_a_thousand_assets_make_no_query(asset: Asset, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        links = current_links()
        for _ in range(1000):
            assert links.url(asset)


class TestOnS3:
    """With a real server behind: URLs that it answers itself."""

    @pytest.fixture(params=["", "localhost"], ids=["endpoint", "asset-domain"])
    def environment(
        self, request: pytest.FixtureRequest, seaweedfs: SeaweedServer, configure: Configure, settings: Any, db: None
    ) -> Environment:
        public = seaweedfs.endpoint_url.replace("127.0.0.1", request.param) if request.param else None
        environment = configure(
            asset_bucket=seaweedfs.new_bucket(),
            s3_endpoint_url=seaweedfs.endpoint_url,
            s3_access_key_id=seaweedfs.access_key,
            s3_secret_access_key=seaweedfs.secret_key,
            asset_domain=public,
        )
        own = {alias: s3_storage(environment, alias) for alias in ("assets", "temp")}
        settings.STORAGES = {**settings.STORAGES, **own}
        return environment

    def test_link_is_answered_by_s3_and_refused_once_it_is_changed(
        self, environment: Environment, owner: User, fetch: Any
    ) -> None:
        asset, other = make_file(owner, "ä.txt"), make_file(owner, "b.txt", b"other")
        assert asset.object is not None
        assert other.object is not None
        url = current_links().url(asset) or ""
        public = environment.asset_domain or environment.s3_endpoint_url or ""
        assert url.startswith(f"{public}/{environment.asset_bucket}/{asset.object.key}?")
        status, content, headers = fetch(url)
        assert (status, content) == (200, TEN)
        assert headers["Content-Type"] == "text/plain; charset=utf-8"
        assert headers["Content-Disposition"].startswith("inline")
        assert headers["Cache-Control"].startswith("private, max-age=2700")
        for changed in self._changes(url, asset.object.key, other.object.key):
            assert fetch(changed)[0] == 403, changed

    def _changes(self, url: str, key: str, other: str) -> list[str]:
        last = "1" if url[-1] == "0" else "0"
        return [
            url[:-1] + last,
            url.replace(key, other),
            url.replace("X-Amz-Expires=3600", "X-Amz-Expires=36000"),
            url.replace("text%2Fplain", "text%2Fhtml"),
            url.replace("inline", "attachment"),
            url.partition("?")[0],
        ]

    def test_link_that_has_expired_is_refused_by_s3(self, environment: Environment, owner: User, fetch: Any) -> None:
        url = Links.at(time.time() - 7200).url(make_file(owner)) or ""
        assert fetch(url)[0] == 403

    def test_html_leaves_s3_as_a_download(self, environment: Environment, owner: User, fetch: Any) -> None:
        asset = make_file(owner, "x.html", b"<script>alert(1)</script>", content_type="text/html")
        _, _, headers = fetch(current_links().url(asset))
        assert headers["Content-Type"] == "application/octet-stream"
        assert headers["Content-Disposition"].startswith("attachment")

    def test_links_of_one_window_are_equal(self, environment: Environment, owner: User) -> None:
        asset = make_file(owner)
        first, same, next_ = (Links.at(at).url(asset) for at in (NOW, NOW + 449, NOW + 450))
        assert first == same != next_

    def test_link_to_a_temp_asset_never_outlives_it(self, environment: Environment, owner: User) -> None:
        asset = make_file(owner, bucket="temp", expires_at=timezone.now() + timedelta(seconds=1000))
        links = current_links()
        assert f"X-Amz-Expires={links.end(asset.expires_at) - links.signed_at}&" in (links.url(asset) or "")
        assert links.end(asset.expires_at) < links.signed_at + 3600

    def test_public_url_is_for_public_assets_alone(
        self, environment: Environment, owner: User, configure: Configure
    ) -> None:
        configure(public_url="https://cdn.example.org")
        public = make_file(owner, "a", is_public=True)
        assert public.object is not None
        assert current_links().url(public) == f"https://cdn.example.org/{public.object.key}"
        assert "X-Amz-Signature=" in (current_links().url(make_file(owner, "b", b"other")) or "")

    def test_link_through_the_service_where_s3_is_out_of_reach(
        self, environment: Environment, owner: User, configure: Configure, nobody: Client
    ) -> None:
        configure(s3_delivery="proxy")
        asset = make_file(owner)
        assert body(nobody.get(link(asset))) == TEN

    def test_storage_address_redirects_to_a_link_that_is_no_longer_valid_than_its_own(
        self, environment: Environment, owner: User, nobody: Client, configure: Configure, fetch: Any
    ) -> None:
        asset = make_file(owner)
        configure(s3_delivery="proxy")
        url = target(Links.at(time.time(), life=60).url(asset))
        configure(s3_delivery="redirect")
        answer = nobody.get(url)
        assert answer.status_code == 302
        end = int(url.partition("expires=")[2].partition("&")[0])
        assert f"X-Amz-Expires={end - current_links().signed_at}&" in answer["Location"]
        assert fetch(answer["Location"])[1] == TEN


def test_object_in_a_bucket_that_is_not_configured_any_more_keeps_a_link(owner: User, nobody: Client) -> None:
    """A list of many assets must not fail for one; whoever follows the link is told."""
    asset = make_file(owner)
    assert asset.object is not None
    asset.object.bucket = "moved-away"
    assert "signature=" in (current_links().url(asset) or "")
