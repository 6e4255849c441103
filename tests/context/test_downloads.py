"""What workflows may fetch: hostile addresses, servers and files; every refusal leaves nothing open."""

from __future__ import annotations

import contextlib
import io
import ipaddress
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.storage import storages

from assets.workflows import ProcessingContext, RefusedUriError
from assets.workflows.downloads import MAX_REDIRECTS, is_allowed
from storagecache.environment import Environment
from storagecache.errors import (
    BackendUnavailableError,
    ObjectNotFoundError,
    ObjectTooLargeError,
    StorageError,
)
from tests.assets.conftest import Buckets, put
from tests.context.conftest import Site

Configure = Callable[..., Environment]

PRIVATE = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "192.0.0.8", "192.0.2.1", "198.18.0.1", "198.51.100.7", "203.0.113.9", "224.0.0.1", "239.1.1.1",
    "240.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "fd12::1", "ff02::1", "::ffff:127.0.0.1",
    "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:c0a8:101::", "2001:db8::1",
    "64:ff9b:1::7f00:1", "fec0::1", "3fff::1", "5f00::1", "192.88.99.1", "168.63.129.16",
]  # fmt: skip
HOSTILE = [
    "http://127.0.0.1:{port}/hello", "http://localhost:{port}/hello", "http://0x7f.0.0.1:{port}/hello",
    "http://2130706433:{port}/hello", "http://127.1:{port}/hello", "http://0177.0.0.1:{port}/hello",
    "http://[::1]:{port}/hello", "http://[::ffff:127.0.0.1]:{port}/hello", "http://0.0.0.0:{port}/hello",
    "HTTP://LOCALHOST:{port}/hello", "http://user:word@127.0.0.1:{port}/hello", "http://127.0.0.1:{port}\\@x.org/",
    "http://169.254.169.254/latest/meta-data/", "http:///hello", "http://", "http://a b/", "http://x:99999/",
    "http://x:0/", "http://[/", "http://\u2028/", "http://x/\r\nHost: y", "ftp://127.0.0.1/x", "gopher://127.0.0.1/x",
    "javascript:1", "http:127.0.0.1/x", "", "x", "//127.0.0.1/x", "unix:/x", "data:no comma", "data:;base64,%%%",
    "data:;base64,a", "file://otherhost/etc/passwd", "file:///etc/passwd", "file:/etc/passwd", "file:", "file:///",
    "file:///workspace/../etc/passwd", "file:///%2e%2e/etc/passwd", "file:///etc/passwd%00.png", "memory://nothing",
    "asset:nothing", "asset://", "asset:../../etc/passwd", "/storage/assets/../../etc/passwd", "/etc/passwd",
    "http://" + "x" * 9000,
]  # fmt: skip


def read(context: ProcessingContext, uri: str) -> bytes:
    with context.download_file(uri) as stream:
        return stream.read()


@pytest.mark.parametrize("address", PRIVATE)
def test_private_address_is_not_allowed(address: str) -> None:
    assert not is_allowed(ipaddress.ip_address(address), ())


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "::ffff:1.1.1.1"])
def test_public_address_is_allowed(address: str) -> None:
    assert is_allowed(ipaddress.ip_address(address), ())


def test_allowed_network_covers_its_own_addresses_only() -> None:
    allowed = (ipaddress.ip_network("10.0.0.0/8"),)
    assert is_allowed(ipaddress.ip_address("10.1.2.3"), allowed)
    assert is_allowed(ipaddress.ip_address("::ffff:10.1.2.3"), allowed)
    assert not is_allowed(ipaddress.ip_address("192.168.1.1"), allowed)


@pytest.mark.parametrize("uri", HOSTILE, ids=lambda uri: uri[:40])
def test_hostile_uri_is_refused_unasked(memory: Buckets, context: ProcessingContext, site: Site, uri: str) -> None:
    with pytest.raises(StorageError) as caught:
        read(context, uri.replace("{port}", str(site.port)))
    assert isinstance(caught.value, ValueError | ObjectNotFoundError | BackendUnavailableError)
    assert site.asked == []


def test_download_gives_the_body(memory: Buckets, context: ProcessingContext, site: Site, loopback: Configure) -> None:
    stream = context.download_file(site.url("/hello?a=1 b".replace(" ", "%20")))
    assert (stream.read(), stream.seek(1), stream.read(2)) == (b"hello", 1, b"el")
    stream.close()
    assert site.asked == ["/hello?a=1%20b"]
    assert context.asset_to_data_uri({"type": "text", "uri": site.url("/hello")}) == "data:text/plain;base64,aGVsbG8="


def test_redirects_are_followed_to_a_limit(
    memory: Buckets, context: ProcessingContext, site: Site, loopback: Configure
) -> None:
    assert read(context, site.url(f"/redirect/{MAX_REDIRECTS - 1}")) == b"hello"
    site.asked.clear()
    with pytest.raises(RefusedUriError, match=r"redirects"):
        read(context, site.url("/loop"))
    assert len(site.asked) == MAX_REDIRECTS + 1


@pytest.mark.parametrize(
    "location", ["http://127.0.0.2:{port}/hello", "file:///etc/passwd", "http://[::1]:{port}/hello", "http://10.0.0.1/"]
)
def test_redirect_to_a_private_target_is_refused(
    memory: Buckets, context: ProcessingContext, site: Site, loopback: Configure, location: str
) -> None:
    with pytest.raises(RefusedUriError):
        read(context, site.url("/to?" + location.replace("{port}", str(site.port))))
    assert len(site.asked) == 1


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/gone", ObjectNotFoundError),
        ("/broken", BackendUnavailableError),
        ("/cut", BackendUnavailableError),
        ("/announced", ObjectTooLargeError),
        ("/endless", ObjectTooLargeError),
    ],
)
def test_bad_answer_is_an_error(
    memory: Buckets, context: ProcessingContext, site: Site, loopback: Configure, path: str, error: type[StorageError]
) -> None:
    loopback(download_max_bytes=1 << 20)
    with pytest.raises(error) as caught:
        read(context, site.url(f"{path}?signature=secret"))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("path", ["/trickle", "/heads", "/silent"])
def test_slow_answer_ends_in_time(
    memory: Buckets, context: ProcessingContext, site: Site, loopback: Configure, path: str
) -> None:
    loopback(download_timeout=1)
    before = time.monotonic()
    with pytest.raises(BackendUnavailableError, match=r"longer than 1 s|does not answer"):
        read(context, site.url(path))
    assert time.monotonic() - before < 6


def test_handshake_that_comes_byte_by_byte_ends_in_time(
    memory: Buckets, context: ProcessingContext, loopback: Configure
) -> None:
    """Each byte comes long before a timeout; a TLS record of 16 KiB would take minutes."""
    loopback(download_timeout=1)
    done = threading.Event()

    def serve(listener: socket.socket) -> None:
        connection = listener.accept()[0]
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"\x16\x03\x03\x40\x00")
            while not done.wait(0.05):
                connection.sendall(b"\x02")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=[listener], daemon=True)
        thread.start()
        before = time.monotonic()
        with pytest.raises(BackendUnavailableError, match=r"longer than 1 s"):
            read(context, f"https://127.0.0.1:{listener.getsockname()[1]}/x")
        assert time.monotonic() - before < 6
        done.set()
        thread.join(10)


def test_server_that_is_gone_is_an_error(memory: Buckets, context: ProcessingContext, loopback: Configure) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(BackendUnavailableError, match=r"does not answer"):
            read(context, f"http://127.0.0.1:{unused.getsockname()[1]}/x")


def test_name_that_changes_its_mind_is_resolved_once(
    memory: Buckets, context: ProcessingContext, site: Site, loopback: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = ["127.0.0.1", "10.0.0.1"]
    genuine = socket.getaddrinfo

    def resolve(host: str, port: int, *args: Any, **options: Any) -> Any:
        return genuine(answers.pop(0) if host == "rebinding.test" else host, port, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert read(context, site.url("/hello", host="rebinding.test")) == b"hello"
    assert answers == ["10.0.0.1"]
    with pytest.raises(RefusedUriError, match=r"private"):
        read(context, site.url("/hello", host="rebinding.test"))


@pytest.mark.parametrize(
    ("uri", "data"),
    [
        ("data:,a%20b", b"a b"),
        ("data:text/plain;charset=utf-8;base64,aGk=", b"hi"),
        ("data:;base64,", b""),
        ("data:image/png,%89P", b"\x89P"),
    ],
)
def test_data_uri_is_read(memory: Buckets, context: ProcessingContext, uri: str, data: bytes) -> None:
    assert read(context, uri) == data


def test_file_uri_reads_the_workspace_and_no_link_out_of_it(
    disk: Buckets, context: ProcessingContext, workspace: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (workspace / "in").mkdir()
    (workspace / "in" / "a b.txt").write_bytes(b"mine")
    (workspace / "inner").symlink_to("in/a b.txt")
    (workspace / "outer").symlink_to(tmp_path / "secret")
    (workspace / "above").symlink_to("..")
    os.mkfifo(workspace / "pipe")
    for uri in (
        (workspace / "in" / "a b.txt").as_uri(),
        "file:///workspace/in/a%20b.txt",
        "file://localhost/workspace/inner",
    ):
        assert read(context, uri) == b"mine"
    for uri in ("outer", "above/secret", "../secret", "in/../../secret", "pipe", "in", "absent", "in/a b.txt/x"):
        with pytest.raises(StorageError):
            read(context, f"file://{workspace}/{uri}")


def test_file_uri_into_the_asset_folder_reads_own_assets_only(
    disk: Buckets, context: ProcessingContext, owner: User, stranger: User
) -> None:
    own, theirs = put(owner, "own", b"own"), put(stranger, "theirs", b"theirs")
    paths = {}
    for asset in (own, theirs):
        assert asset.object is not None
        paths[asset.pk] = Path(storages["assets"].path(asset.object.key))
    assert read(context, paths[own.pk].as_uri()) == b"own"
    assert context.used_asset_ids == (own.pk.hex,)
    with pytest.raises(ValueError, match=r"not found"):
        read(context, paths[theirs.pk].as_uri())
    link = context.resolve_workspace_path("link")
    link.symlink_to(paths[theirs.pk])
    with pytest.raises(ValueError, match=r"not found"):
        read(context, link.as_uri())


HOSTILE_PATHS = ["..", "../x", "a/../../x", "/etc/passwd", "/", "/workspace/../x", "a\0b", "link", "link/x", "~/../.."]


@pytest.mark.parametrize("path", HOSTILE_PATHS)
def test_resolve_workspace_path_does_not_lead_out(
    context: ProcessingContext, workspace: Path, tmp_path: Path, path: str
) -> None:
    (workspace / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match=r"workspace|NUL"):
        context.resolve_workspace_path(path)


@pytest.mark.parametrize("path", ["a", "a/../a", "./a", "/workspace/a", "{workspace}/a", "inner/a/../../a"])
def test_resolve_workspace_path_stays_inside(context: ProcessingContext, workspace: Path, path: str) -> None:
    (workspace / "inner").mkdir()
    (workspace / "inner" / "a").mkdir()
    assert context.resolve_workspace_path(path.replace("{workspace}", str(workspace))) in {
        workspace / "a",
        workspace / "inner" / "a",
    }
    assert context.resolve_workspace_path("/workspace") == workspace


def test_context_without_a_workspace_says_so(owner: User) -> None:
    with pytest.raises(ValueError, match=r"workspace_dir"):
        ProcessingContext(user=owner).resolve_workspace_path("a")


def test_two_readers_of_one_download_are_apart(memory: Buckets, context: ProcessingContext) -> None:
    with context.download_file("data:,abc") as one, context.download_file("data:,abc") as two:
        assert (one.read(1), two.read(), one.read()) == (b"a", b"abc", b"bc")
        assert isinstance(one, io.IOBase)
