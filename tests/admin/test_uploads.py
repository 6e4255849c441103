"""Uploads in the admin: staged once, refused in the form, never half-made."""

from __future__ import annotations

import hashlib
import io
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.files.storage import storages
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.test.client import BOUNDARY, MULTIPART_CONTENT, encode_multipart
from django.utils import timezone

from assets.admin.uploads import UploadForm
from assets.models import Asset, StoredObject
from assets.services import open_asset
from storagecache.environment import Environment
from tests.admin.conftest import HOSTILE, PNG, MakeUser

ClientOf = Callable[[User], Client]
ADD = "/admin/assets/asset/add/"


def file(name: str = "a.png", content: bytes = PNG, content_type: str = "image/png") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, content, content_type)


def send(client: Client, *files: Any, **fields: str) -> Any:
    return client.post(ADD, {"bucket": "assets", **fields, "uploads": list(files), "whole": "1"})


def send_raw(client: Client, body: Any, length: int) -> Any:
    """Post a body of which the server gave `length` as its size."""
    extra: dict[str, Any] = {"wsgi.input": body, "CONTENT_LENGTH": str(length), "CONTENT_TYPE": MULTIPART_CONTENT}
    return client.generic("POST", ADD, **extra)


def bytes_of(asset: Asset) -> bytes:
    with open_asset(asset) as stream:
        return stream.read()


def errors(answer: Any) -> list[str]:
    assert answer.status_code == 200
    return [str(error) for each in answer.context["form"].errors.values() for error in each]


@pytest.mark.parametrize("content", [b"", b"x", PNG, bytes(range(256)) * 5000], ids=len)
def test_upload_stores_the_bytes_once_and_shows_the_asset(content: bytes, client_of: ClientOf, staff: User) -> None:
    answer = send(client_of(staff), file("data.bin", content, "application/x-thing"))
    asset = Asset.objects.select_related("object").get()
    assert answer["Location"] == f"/admin/assets/asset/{asset.pk}/change/"
    assert (asset.name, asset.owner, asset.bucket, asset.content_type) == (
        "data.bin", staff, "assets", "application/x-thing"
    )  # fmt: skip
    assert bytes_of(asset) == content
    assert asset.object is not None
    assert asset.object.sha256 == hashlib.sha256(content).hexdigest()
    assert LogEntry.objects.get().object_id == str(asset.pk)


def test_upload_into_temp_expires(client_of: ClientOf, staff: User) -> None:
    send(client_of(staff), file(), bucket="temp", name="Mine.png")
    asset = Asset.objects.get()
    assert (asset.bucket, asset.name) == ("temp", "Mine.png")
    assert asset.expires_at is not None
    assert 0 < (asset.expires_at - timezone.now()).total_seconds() <= Environment.current().temp_ttl


def test_upload_of_several_files_makes_an_asset_of_each(client_of: ClientOf, staff: User) -> None:
    answer = send(client_of(staff), file("a.txt", b"a", "text/plain"), file("b.txt", b"b", "text/plain"))
    assert answer["Location"] == "/admin/assets/asset/"
    assert {asset.name: bytes_of(asset) for asset in Asset.objects.all()} == {"a.txt": b"a", "b.txt": b"b"}


def test_superuser_chooses_the_owner_and_staff_do_not(
    client_of: ClientOf, staff: User, admin_user: User, make_user: MakeUser
) -> None:
    other = make_user("other")
    send(client_of(admin_user), file(), owner="other")
    send(client_of(staff), file(), owner="other")
    assert list(Asset.objects.order_by("pk").values_list("owner_id", flat=True)) == [other.pk, staff.pk]
    assert errors(send(client_of(admin_user), file(), owner="nobody")) == ["There is no such user."]


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"bucket": "cache"}, "Select a valid choice. cache is not one of the available choices."),
        ({"name": "a\x1bb"}, "A name has no control characters."),
        ({"name": "x" * 1025}, "Ensure this value has at most 1024 characters (it has 1025)."),
        ({"name": "two"}, "Several files keep their own names."),
    ],
)
def test_upload_with_wrong_fields_is_refused_in_the_form(
    fields: dict[str, str], wanted: str, client_of: ClientOf, staff: User
) -> None:
    assert wanted in errors(send(client_of(staff), file(), file(), **fields))
    assert not StoredObject.objects.exists()


def test_upload_without_files_is_refused(client_of: ClientOf, staff: User) -> None:
    assert errors(send(client_of(staff))) == ["Choose a file."]
    urlencoded = client_of(staff).post(ADD, "bucket=assets&whole=1", "application/x-www-form-urlencoded")
    assert errors(urlencoded) == ["Choose a file."]


def test_upload_that_is_too_large_is_refused_in_the_form(client_of: ClientOf, staff: User, small_limit: int) -> None:
    answer = send(
        client_of(staff), file("fits.bin", bytes(small_limit)), file(f"{HOSTILE}.bin", bytes(small_limit + 1))
    )
    (error,) = errors(answer)
    assert "MAX_UPLOAD_BYTES" in error
    assert "<img src=x" not in answer.content.decode()
    assert not StoredObject.objects.exists()
    assert send(client_of(staff), file("fits.bin", bytes(small_limit))).status_code == 302


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[int]:
    """MAX_UPLOAD_BYTES of 100,000 for this process."""
    Environment.current.cache_clear()
    monkeypatch.setenv("MAX_UPLOAD_BYTES", "100000")
    yield 100_000
    Environment.current.cache_clear()


def test_upload_to_a_broken_bucket_is_refused_in_the_form(client_of: ClientOf, staff: User, tmp_path: Path) -> None:
    client = client_of(staff)
    (tmp_path / "assets").write_text("a file where the folder should be")
    (error,) = errors(send(client, file()))
    assert error.startswith("a.png: ")
    assert not Asset.objects.exists()


def test_upload_that_fails_while_it_is_stored_keeps_the_others(
    client_of: ClientOf, staff: User, tmp_path: Path
) -> None:
    client = client_of(staff)
    send(client, file("first.bin", b"first"))
    (tmp_path / "temp").write_text("a file where the folder should be")  # staged near assets, stored in temp
    (error, second) = errors(send(client, file("b.bin", b"b"), file("c.bin", b"c"), bucket="temp"))
    assert error.startswith("b.bin: ")
    assert second.startswith("c.bin: ")
    assert Asset.objects.count() == 1


def test_upload_that_was_cut_is_refused_at_every_byte(client_of: ClientOf, staff: User) -> None:
    fields = {"bucket": "assets", "uploads": [file("a.bin", b"a" * 50), file("b.bin", b"b" * 50)], "whole": "1"}
    body = encode_multipart(BOUNDARY, fields)
    client = client_of(staff)
    end = body.rindex(b"\r\n--" + BOUNDARY.encode())
    for cut in range(0, end, 7):
        answer = send_raw(client, io.BytesIO(body[:cut]), len(body))
        assert answer.status_code in {200, 400}, cut
    assert not StoredObject.objects.exists()
    assert send_raw(client, io.BytesIO(body), len(body)).status_code == 302
    assert Asset.objects.count() == 2


def test_upload_leaves_no_staged_file_and_no_descriptor(client_of: ClientOf, staff: User, tmp_path: Path) -> None:
    client = client_of(staff)
    send(client, file())
    before = _descriptors()
    send(client, file("b.bin", b"b" * 300_000))
    send(client, file(), file(), name="refused")
    cut = encode_multipart(BOUNDARY, {"uploads": file("c.bin", b"c" * 9000)})[:5000]
    send_raw(client, io.BytesIO(cut), 9000)
    assert _descriptors() == before
    assert not list((tmp_path / "assets" / ".staging").iterdir())


def _descriptors() -> set[str]:
    links = (each for each in Path("/proc/self/fd").iterdir())
    return {str(each.readlink()) for each in links if each.is_symlink() and "staging" in str(each.readlink())}


@pytest.mark.parametrize("who", ["anonymous", "plain", "powerless"])
def test_upload_by_who_may_not_is_refused_before_its_body_is_read(
    who: str, make_user: MakeUser, client_of: ClientOf
) -> None:
    client = Client()
    if who != "anonymous":
        client = client_of(make_user(who, staff=who == "powerless"))
    answer = send(client, file())
    assert answer.status_code == (403 if who == "powerless" else 302)
    assert not answer.wsgi_request._read_started
    assert not StoredObject.objects.exists()


def test_upload_without_a_token_is_refused(staff: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(staff)
    assert send(client, file()).status_code == 403
    assert not StoredObject.objects.exists()
    client.get(ADD)
    token = client.cookies["csrftoken"].value
    refused = client.post(ADD, {"csrfmiddlewaretoken": "x" * 32, "uploads": file(), "whole": "1"})
    assert refused.status_code == 403
    fields = {"csrfmiddlewaretoken": token, "bucket": "assets", "uploads": file(), "whole": "1"}
    assert client.post(ADD, fields).status_code == 302


def test_form_puts_its_token_before_the_files_and_its_mark_behind_them(client_of: ClientOf, staff: User) -> None:
    shown = client_of(staff).get(ADD).content.decode()
    places = [shown.index(f'name="{name}"') for name in ("csrfmiddlewaretoken", "bucket", "uploads", "whole")]
    form = shown.index('id="asset_form"')
    assert shown.index('name="csrfmiddlewaretoken"', form) < places[2] < places[3]
    assert list(UploadForm.base_fields)[-1] == "whole"


class Zeros(io.RawIOBase):
    """A large file that is nowhere."""

    name = "large.bin"

    def __init__(self, size: int) -> None:
        self._left = size
        self.size = size

    def read(self, size: int = -1) -> bytes:
        block = bytes(min(self._left, 1 << 20 if size < 0 else size))
        self._left -= len(block)
        return block


def test_upload_of_a_large_file_keeps_memory_flat(client_of: ClientOf, staff: User) -> None:
    client = client_of(staff)
    send(client, file("warm.bin", bytes(1 << 20)))
    head, _, tail = encode_multipart(
        BOUNDARY, {"bucket": "assets", "uploads": file("large.bin", b"@@"), "whole": "1"}
    ).partition(b"@@")
    size = 256 << 20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    body = _Joined(head, size, tail)
    answer = send_raw(client, body, len(head) + size + len(tail))
    assert answer.status_code == 302
    assert Asset.objects.get(name="large.bin").size == size
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 32 << 10  # KiB


class _Joined:
    """A request body that is made as it is read."""

    def __init__(self, head: bytes, zeros: int, tail: bytes) -> None:
        self._parts: list[io.IOBase] = [io.BytesIO(head), Zeros(zeros), io.BytesIO(tail)]

    def read(self, size: int = -1) -> bytes:
        while self._parts:
            block: bytes = self._parts[0].read(size)  # type: ignore[attr-defined]
            if block:
                return block
            self._parts.pop(0)
        return b""

    def readline(self, size: int = -1) -> bytes:
        raise AssertionError("a server's input is read in blocks")


def test_staging_of_uploads_is_the_buckets_own(client_of: ClientOf, staff: User, tmp_path: Path) -> None:
    send(client_of(staff), file())
    stored = Asset.objects.select_related("object").get().object
    assert stored is not None
    path = Path(storages["assets"].path(stored.key))
    assert path.stat().st_nlink == 1
    assert path.read_bytes() == PNG
