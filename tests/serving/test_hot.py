"""The layer below Django: whatever it answers, Django's view would have answered the same, byte by byte."""

from __future__ import annotations

import io
import itertools
import re
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

import pytest
from django.core.files.storage import storages
from django.core.handlers.wsgi import WSGIHandler
from django.test import Client
from django.utils import timezone

from assets.links import Links
from assets.models import Asset, StoredObject
from assets.services import Lookups
from assets.serving.delivery import Blocks
from assets.serving.hot import WHOLE, HotLayer
from tests.roles import ChangeEnvironment
from tests.serving.answers import send

TEN = b"0123456789"
LONG = bytes(range(251)) * (WHOLE // 251 + 1000)
DISK_ONLY = pytest.mark.parametrize("backend", ["filesystem"], indirect=True)
S3_ONLY = pytest.mark.parametrize("backend", ["s3-redirect", "s3-proxy"], indirect=True)
MAX_AGE = re.compile(r"max-age=[0-9]+")


class Answer(NamedTuple):
    """Status line, headers (sorted, by lower-case name) and body."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes


class Both:
    """Puts one request to both ways in."""

    def __init__(self) -> None:
        self._lookups = Lookups.of_catalog()
        self.layer = HotLayer(self._lookups)
        self._django = WSGIHandler()

    def hot(self, method: str, target: str, **headers: str) -> Answer | None:
        """Ask the layer."""
        found = self.layer.answer(environ(method, target, **headers))
        return None if found is None else Answer(found.status, _sorted(found.headers), _whole(found.body))

    def cold(self, method: str, target: str, **headers: str) -> Answer:
        """Ask Django."""
        seen: list[Any] = []
        body = self._django(environ(method, target, **headers), lambda *parts: seen.extend(parts))
        return Answer(seen[0], _sorted(seen[1]), _whole(body))

    def compare(self, method: str, target: str, **headers: str) -> bool:
        """Hold the hot answer, if there is one, against the cold one; tells whether there was one."""
        found, wanted = self._in_one_second(method, target, headers)
        if found is not None and wanted is not None:
            what = (method, target, headers)
            assert found[::2] == wanted[::2], what
            assert dict(found.headers) == dict(wanted.headers), what
            assert len(found.headers) == len(wanted.headers), what
        return found is not None

    def _in_one_second(self, method: str, target: str, headers: dict[str, str]) -> tuple[Answer | None, Answer | None]:
        # A time in the future is answered as now, in whole seconds: both must have the same now.
        while True:
            second = int(time.time())
            found = self.hot(method, target, **headers)
            wanted = None if found is None else self.cold(method, target, **headers)
            if int(time.time()) == second:
                return found, wanted

    def close(self) -> None:
        """Close the layer's connections."""
        self._lookups.close()


def environ(method: str, target: str, **headers: str) -> dict[str, Any]:
    """Make what a server hands over; header names are written with underscores, None takes one away."""
    path, _, query = target.partition("?")
    raw = unquote_to_bytes(path).decode("latin-1")
    fields = {"HTTP_HOST": "testserver"} | {f"HTTP_{name.upper()}": value for name, value in headers.items()}
    return {
        "REQUEST_METHOD": method,
        "PATH_INFO": raw,
        "nodetool.path_info": raw,
        "QUERY_STRING": query,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": io.StringIO(),
        **fields,
    }


def _sorted(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    # A link's life may lose a second between the two answers.
    return sorted((name.lower(), MAX_AGE.sub("max-age=N", value)) for name, value in headers)


def _whole(body: Any) -> bytes:
    try:
        return b"".join(body)
    finally:
        if hasattr(body, "close"):
            body.close()


@pytest.fixture
def both(backend: str) -> Iterator[Both]:
    made = Both()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def hosts(settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["testserver", ".example.org", "[::1]"]


def put(client: Client, key: str = "a/b.bin", body: bytes = TEN, *, bucket: str = "assets", **fields: Any) -> Asset:
    """Store an object whose asset has these fields; it is an hour old."""
    content_type = fields.pop("sent_as", "application/octet-stream")
    answer = send(client, "PUT", f"/storage/{bucket}/{key}", body, content_type=content_type)
    assert answer.status in (200, 201), answer.body
    asset = Asset.objects.select_related("object").get(bucket=bucket, key=unquote_to_bytes(key).decode())
    fields.setdefault("content_changed_at", timezone.now() - timedelta(hours=1))
    Asset.objects.filter(pk=asset.pk).update(**fields)
    return Asset.objects.select_related("object").get(pk=asset.pk)


def link(asset: Asset, *, download: bool = False, now: float | None = None, life: int = 3600) -> str:
    """Give the path and query of a link of ours, whatever the bucket could sign."""
    asset.is_public = False  # here only: a public asset needs no signature
    links = Links.at(now or time.time(), life=life)
    url = links._own(asset, asset.object.pk.hex, links.end(None), download)
    return url.removeprefix(links.base_url)


# --- both ways ---------------------------------------------------------------------------------------

LONG_AGO, LATER = "Mon, 01 Jan 2001 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT"
RANGES = (
    "bytes=0-0", "bytes=3-5", "bytes=9-", "bytes=-1", "bytes=-20", "BYTES=1-2", "bytes=0-99999999999999999999999",
    "bytes=0-1,3-4", "bytes=0-5,3-9", "bytes=10-", "bytes=-0", "bytes=5-2", "bytes=", "items=0-1", "", "bytes=0-1,99-",
)  # fmt: skip
TAGS = ("ETAG", "W/ETAG", '"x", ETAG', "*", '"x"', "", "garbage")
DATES = (LATER, LONG_AGO, "DATE", "garbage", "")
CONDITIONS: list[dict[str, str]] = [
    {},
    *({"range": field} for field in RANGES),
    *({"if_match": tag} for tag in TAGS),
    *({"if_none_match": tag} for tag in TAGS),
    *({"if_modified_since": date} for date in DATES),
    *({"if_unmodified_since": date} for date in DATES),
    *({"range": "bytes=1-2", "if_range": value} for value in (*TAGS, *DATES)),
    *({"range": "bytes=1-2", "if_none_match": tag} for tag in TAGS),
    *({"if_match": tag, "if_unmodified_since": LONG_AGO} for tag in TAGS),
    *({"if_none_match": tag, "if_modified_since": LATER} for tag in TAGS),
]
OTHERS: list[dict[str, str]] = [
    {"cookie": "sessionid=unknown; csrftoken=x"},
    {"cookie": "sessionid=; csrftoken=x"},
    {"cookie": "a=b; sessionid=abcdefghijklmnop; csrftoken=x"},
    {"cookie": "sessionid=abcdefghijklmnop; csrftoken=" + "a" * 31 + "-"},
    {"cookie": "csrftoken=" + "a" * 32},
    {"cookie": "csrftoken=" + "a" * 64},
    {"cookie": "csrftoken=" + "ä" * 32},
    {"cookie": 'csrftoken=";,;sessionid'},
    {"authorization": "Bearer wrong"},
    {"x_forwarded_for": "10.0.0.1", "x_forwarded_proto": "https", "via": "1.1 proxy"},
    {"x_forwarded_host": "evil.example"},
    {"origin": "https://app.example.com"},
    {"sec_fetch_site": "cross-site", "referer": "http://evil.example/"},
    {"accept_encoding": "gzip, br", "user_agent": "x", "accept": "text/html"},
    {"host": "sub.example.org:8080"},
    {"host": "[::1]:80"},
    {"host": "evil.example"},
    {"host": ""},
    {"host": "testserver:80:80"},
    {"host": "test server"},
    {"x_long": "x" * 33_000},
    {"expect": "100-continue"},
    {"range": ""},
]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("kind", ["public", "signed"])
def test_answers_to_conditions_and_ranges_are_the_views(
    both: Both, client: Client, backend: str, method: str, kind: str
) -> None:
    asset = put(client, is_public=kind == "public")
    target = "/storage/assets/a/b.bin" if kind == "public" else link(asset)
    date = dict(both.cold("HEAD", target).headers)["last-modified"]
    answered = 0
    for fields in CONDITIONS:
        assert asset.object
        sent = {k: v.replace("ETAG", asset.object.etag).replace("DATE", date) for k, v in fields.items()}
        answered += both.compare(method, target, **sent)
    assert answered > (len(CONDITIONS) // 2 if backend == "filesystem" or method == "HEAD" else 10)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("origins", [(), ("https://app.example.com",)], ids=["closed", "open"])
@pytest.mark.parametrize("backend", ["filesystem", "s3-redirect"], indirect=True)
def test_answers_to_other_headers_are_the_views(
    backend: str,
    client: Client,
    change_environment: ChangeEnvironment,
    settings: Any,
    method: str,
    origins: tuple[str, ...],
) -> None:
    change_environment(cors_allowed_origins=origins)
    settings.CORS_ALLOWED_ORIGINS = list(origins)
    if origins:
        settings.MIDDLEWARE = [
            *settings.MIDDLEWARE[:3],
            "corsheaders.middleware.CorsMiddleware",
            *settings.MIDDLEWARE[3:],
        ]
    asset = put(client, is_public=True)
    both = Both()
    for fields, target in itertools.product(OTHERS, ["/storage/assets/a/b.bin", link(asset)]):
        both.compare(method, target, **fields)
    assert both.compare(
        method, link(asset), authorization="Bearer wrong", cookie=f"sessionid={'s' * 32}; csrftoken={'c' * 32}"
    )
    both.close()


KINDS: list[tuple[str, bytes, dict[str, Any]]] = [
    ("empty", b"", {}),
    ("one", b"x", {}),
    ("long.bin", LONG, {}),
    ("page.html", b"<html><script>1</script>", {"sent_as": "text/html"}),
    ("text.txt", b"text", {"sent_as": "text/plain"}),
    ("odd.bin", b"text", {"content_type": "no type"}),
    ("%C3%BC%E2%82%AC%F0%9F%8E%89.txt", b"x", {}),
    ("%25FF", b"x", {}),
    ("a/b/c%20d+e&f=g;h%3Fi%23j", b"x", {}),
    ("named", b"x", {"name": 'q"\\%\r\n\u202e.exe'}),
    ("young", b"x", {"content_changed_at": None}),
    ("future", b"x", {"content_changed_at": "future"}),
]


@pytest.mark.parametrize(("key", "body", "fields"), KINDS, ids=[key for key, _, _ in KINDS])
@DISK_ONLY
def test_answers_for_every_kind_of_object_are_the_views(
    both: Both, client: Client, key: str, body: bytes, fields: dict[str, Any]
) -> None:
    fields = dict(fields)
    if fields.get("content_changed_at", "") is None:
        fields["content_changed_at"] = timezone.now()
    elif "content_changed_at" in fields:
        fields["content_changed_at"] = timezone.now() + timedelta(days=1)
    asset = put(client, key, body, is_public=True, **fields)
    targets = [f"/storage/assets/{key}", f"/api/storage/{key}", f"/storage/assets/{key}?download=1"]
    targets += [link(asset), link(asset, download=True)]
    wanted = [{}, {"range": "bytes=0-0"}, {"range": "bytes=1-"}, {"range": "bytes=-70000"}, {"if_none_match": "*"}]
    for target, method, headers in itertools.product(targets, ["GET", "HEAD"], wanted):
        both.compare(method, target, **headers)
        assert headers.get("range") or both.hot(method, target, **headers) is not None


@DISK_ONLY
def test_answers_for_temp_are_the_views(both: Both, client: Client) -> None:
    asset = put(client, "x", bucket="temp")
    assert both.compare("GET", link(asset))
    for target in ("/storage/temp/x", "/api/storage/temp/x"):
        assert both.hot("GET", target) is None
        Asset.objects.update(is_public=True)
        assert both.compare("GET", target)
        Asset.objects.update(is_public=False)


@S3_ONLY
def test_presigned_redirect_is_the_views(both: Both, client: Client, backend: str) -> None:
    asset = put(client, is_public=True)
    for target in ("/storage/assets/a/b.bin", link(asset), link(asset, download=True)):
        found = both.hot("GET", target)
        assert (found is not None and found.status == "302 Found") == (backend == "s3-redirect")
        assert both.compare("HEAD", target)
        both.compare("GET", target, range="bytes=0-1")


# --- what is not for it ----------------------------------------------------------------------------------


def _tampered(target: str) -> list[str]:
    path, _, query = target.partition("?")
    swapped = query.translate(str.maketrans("ABab", "BAba"))
    return [
        target[:-1] + ("A" if target[-1] != "A" else "B"),
        f"{path}?{swapped}",
        f"{target}&x=1",
        f"{path}?download=1&{query}",
        f"{path}?{query.replace('&', '&&', 1)}",
        f"{path}?{'&'.join(reversed(query.split('&')))}",
        f"{path}?{query.replace('expires=', 'expires=1')}",
        f"{path}/other?{query}",
        f"{path}?expires=1",
        f"{path}?signature=",
        f"{path}?download=2",
        f"{path}?download=1&x=1",
        f"{path}?x",
    ]


@DISK_ONLY
def test_what_the_layer_is_not_for_falls_through(both: Both, client: Client) -> None:
    asset = put(client)
    good = link(asset)
    refused = [
        *_tampered(good),
        link(asset, now=time.time() - 7200),
        link(asset, life=8 * 86400),
        "/storage/assets/a/b.bin",
    ]
    refused += [
        "/storage/assets/absent",
        "/storage/assets/",
        "/storage/assets/a//b",
        "/storage/assets/%FF",
        "/storage/x/y",
    ]
    refused += [
        "/storage/assets/..",
        "/healthz",
        "/",
        "/storage",
        "/api/storage",
        "/storage/assets/a%00",
        "/api/assets",
    ]
    assert [target for target in refused if both.hot("GET", target) is not None] == []
    assert [m for m in ("PUT", "DELETE", "POST", "OPTIONS", "PATCH", "get", "") if both.hot(m, good) is not None] == []
    assert both.hot("GET", good, transfer_encoding="chunked") is None
    assert both.hot("GET", good, if_match='"x"') is None  # errors are Django's
    assert both.hot("GET", good, range="bytes=99-") is None


@DISK_ONLY
def test_request_with_a_body_falls_through(both: Both, client: Client) -> None:
    asset = put(client)
    assert both.layer.answer({**environ("GET", link(asset)), "CONTENT_LENGTH": "3"}) is None


@pytest.mark.parametrize(
    "change",
    [
        {"trashed_at": timezone.now()},
        {"expires_at": timezone.now() - timedelta(seconds=1)},
        {"is_public": False},
        {"key": "moved"},
        {"is_folder": False, "bucket": "temp"},
    ],
    ids=lambda change: next(iter(change)),
)
@DISK_ONLY
def test_change_in_the_catalog_counts_for_the_next_request(both: Both, client: Client, change: dict[str, Any]) -> None:
    put(client, is_public=True)
    assert both.hot("GET", "/storage/assets/a/b.bin") is not None
    Asset.objects.update(**change)
    assert both.hot("GET", "/storage/assets/a/b.bin") is None


@DISK_ONLY
def test_replaced_object_ends_links_and_gives_the_new_bytes(both: Both, client: Client) -> None:
    old = link(put(client, is_public=True))
    asset = put(client, body=b"new", is_public=True)
    assert both.hot("GET", old) is None
    for target in ("/storage/assets/a/b.bin", link(asset)):
        found = both.hot("GET", target)
        assert found is not None
        assert asset.object
        assert (found.body, dict(found.headers)["etag"]) == (b"new", asset.object.etag)


@pytest.mark.parametrize("body", [TEN, LONG], ids=["short", "long"])
@DISK_ONLY
def test_lost_file_falls_through_to_404(both: Both, client: Client, body: bytes) -> None:
    asset = put(client, body=body)
    lost = StoredObject.objects.get()
    storages[lost.storage].delete(lost.key)
    assert both.hot("GET", link(asset)) is None
    assert both.hot("GET", link(asset), range="bytes=0-1") is None
    assert both.cold("GET", link(asset)).status.startswith("404")
    assert both.compare("HEAD", link(asset))


@DISK_ONLY
def test_truncated_file_is_never_given_for_whole(both: Both, client: Client) -> None:
    short, long = put(client, "short"), put(client, "long", LONG)
    for stored in StoredObject.objects.all():
        path = Path(storages["assets"].path(stored.key))
        path.chmod(0o644)
        path.write_bytes(b"01234")
    assert both.hot("GET", link(short)) is None
    found = both.layer.answer(environ("GET", link(long)))
    assert found is not None
    with pytest.raises(ConnectionError, match="bytes early"):
        _whole(found.body)


@DISK_ONLY
def test_bucket_that_is_not_configured_falls_through(both: Both, client: Client) -> None:
    asset = put(client)
    StoredObject.objects.update(bucket="elsewhere")
    assert both.hot("GET", link(asset)) is None


@DISK_ONLY
def test_short_body_is_one_piece_and_long_one_is_blocks(both: Both, client: Client) -> None:
    short, long = put(client, "short", LONG[:WHOLE]), put(client, "long", LONG)
    for asset, kind in ((short, list), (long, Blocks)):
        found = both.layer.answer(environ("GET", link(asset)))
        assert found is not None
        assert isinstance(found.body, kind)
        _whole(found.body)


@DISK_ONLY
def test_hot_answer_asks_django_nothing(both: Both, client: Client, django_assert_num_queries: Any) -> None:
    asset = put(client)
    target = link(asset)
    with django_assert_num_queries(0):
        assert both.hot("GET", target) is not None
        assert both.hot("GET", target, if_none_match="*") is not None
