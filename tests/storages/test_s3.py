"""The storage on S3, with a real server: the contract, what each verb costs, and servers that refuse, stall or die."""

from __future__ import annotations

import logging
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.core.files.base import ContentFile, File

from storagecache.breaker import OPEN_SECONDS
from storagecache.capabilities import UploadAborter, UploadObserver, UrlSigner
from storagecache.errors import (
    BackendTimeoutError,
    BackendUnavailableError,
    InvalidKeyError,
    ObjectExistsError,
    ObjectNotFoundError,
    StorageError,
)
from storagecache.storages.s3 import S3ObjectStorage
from tests.contracts.storage import MIB, TEN, BoundedMemoryContract, StorageContract, bytes_of, race_to_save, stored
from tests.servers import SeaweedServer
from tests.storages.sources import FailingSource, PatternSource, digest_of, new_name

DEADLINE_SECONDS = 6  # of a stalled or refusing server
SLACK_SECONDS = 2  # this machine may be busy

EVERY_VERB: dict[str, Callable[[S3ObjectStorage, str], object]] = {
    "save": lambda storage, name: storage.save(new_name(), ContentFile(TEN)),
    "save_large": lambda storage, name: storage.save(new_name(), File(PatternSource(9 * MIB))),
    "open": lambda storage, name: storage.open(name),
    "open_stream": lambda storage, name: storage.open_stream(name, 1, 2),
    "exists": lambda storage, name: storage.exists(name),
    "size": lambda storage, name: storage.size(name),
    "get_modified_time": lambda storage, name: storage.get_modified_time(name),
    "delete": lambda storage, name: storage.delete(name),
    "delete_many": lambda storage, name: storage.delete_many([name]),
    "list_objects": lambda storage, name: list(storage.list_objects()),
    "abort_uploads": lambda storage, name: storage.abort_uploads(name),
}


class ObservedSource(File):
    """Content that notes what it hears of its upload."""

    def __init__(self, size: int, *, fail_with: Exception | None = None) -> None:
        super().__init__(PatternSource(size))
        self.heard: list[str] = []
        self._fail_with = fail_with

    def on_upload_started(self, upload_id: str) -> None:
        self.heard.append(upload_id)

    def on_progress(self) -> None:
        self.heard.append("progress")
        if self._fail_with:
            raise self._fail_with


@pytest.fixture
def storage(seaweedfs: SeaweedServer) -> S3ObjectStorage:
    return S3ObjectStorage(**seaweedfs.options(seaweedfs.new_bucket()))


@contextmanager
def calls(storage: S3ObjectStorage) -> Iterator[list[str]]:
    """Note the operation of each request that leaves for the server inside the block."""
    seen: list[str] = []

    def note(request: Any, event_name: str, **_rest: Any) -> None:
        seen.append(event_name.rsplit(".", 1)[1])

    events = storage.client.meta.events
    events.register("before-send.s3", note)
    try:
        yield seen
    finally:
        events.unregister("before-send.s3", note)


@contextmanager
def within_the_deadline() -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < DEADLINE_SECONDS + SLACK_SECONDS


class TestS3ObjectStorage(BoundedMemoryContract, StorageContract):
    @pytest.fixture
    def storage(self, seaweedfs: SeaweedServer) -> S3ObjectStorage:
        return S3ObjectStorage(**seaweedfs.options(seaweedfs.new_bucket()))

    def test_save_of_one_large_name_at_once_has_exactly_one_winner(self, storage: S3ObjectStorage) -> None:
        """Ask for less here: SeaweedFS 4.48 judges If-None-Match before it completes, so several may win.

        What is left holds: the object is one writer's whole. Names are never used twice, so nobody races in earnest.
        """
        name, size = new_name(), 20 * MIB
        winners = race_to_save(storage, name, size)
        assert bytes_of(storage, name) in [winner * size for winner in winners]


def test_s3_offers_urls_and_aborts(storage: S3ObjectStorage) -> None:
    assert isinstance(storage, UrlSigner)
    assert isinstance(storage, UploadAborter)


@pytest.mark.parametrize(
    ("verb", "expected"),
    [
        (lambda storage, name: storage.save(new_name(), ContentFile(TEN)), ["PutObject"]),
        (lambda storage, name: storage.open_stream(name, 2, 3).close(), ["GetObject"]),
        (lambda storage, name: storage.open_stream(name).close(), ["GetObject"]),
        (lambda storage, name: storage.open_stream(name, 100, 3).close(), ["GetObject"]),
        (lambda storage, name: storage.open(name).close(), ["GetObject"]),
        (lambda storage, name: storage.exists(name), ["HeadObject"]),
        (lambda storage, name: storage.exists(new_name()), ["HeadObject", "HeadBucket"]),
        (lambda storage, name: storage.size(name), ["HeadObject"]),
        (lambda storage, name: storage.delete(name), ["DeleteObject"]),
        (lambda storage, name: storage.delete_many(new_name() for _ in range(1000)), ["DeleteObjects"]),
        (lambda storage, name: storage.delete_many(new_name() for _ in range(1001)), ["DeleteObjects"] * 2),
        (lambda storage, name: list(storage.list_objects()), ["ListObjectsV2"]),
        (lambda storage, name: storage.presigned_url(name, expires_in=60), []),
    ],
)
def test_verb_costs_its_calls(
    storage: S3ObjectStorage, verb: Callable[[S3ObjectStorage, str], object], expected: list[str]
) -> None:
    name = stored(storage)
    with calls(storage) as seen:
        verb(storage, name)
    assert seen == expected


def test_save_does_not_ask_before_it_sends(storage: S3ObjectStorage) -> None:
    seen: list[object] = []

    def note(request: Any, **_rest: Any) -> None:
        seen.append(request.headers.get("Expect"))

    storage.client.meta.events.register("before-send.s3", note)
    try:
        stored(storage)
        storage.save(new_name(), File(PatternSource(9 * MIB)))
    finally:
        storage.client.meta.events.unregister("before-send.s3", note)
    assert seen == [None] * 5


def test_large_save_is_multipart_and_tells_its_observer(storage: S3ObjectStorage) -> None:
    content = ObservedSource(20 * MIB)
    assert isinstance(content, UploadObserver)
    with calls(storage) as seen:
        storage.save(new_name(), content)
    assert seen == ["CreateMultipartUpload", *["UploadPart"] * 3, "CompleteMultipartUpload"]
    assert content.heard[1:] == ["progress"] * 3
    assert content.heard[0] not in ("", "progress")


@pytest.mark.parametrize(
    "content",
    [
        lambda: File(FailingSource(20 * MIB, ConnectionResetError("client went away"))),
        lambda: ObservedSource(20 * MIB, fail_with=ConnectionResetError("row is gone")),
    ],
    ids=["source", "observer"],
)
def test_failing_large_save_aborts_its_upload(storage: S3ObjectStorage, content: Callable[[], File]) -> None:
    name = new_name()
    with pytest.raises(ConnectionResetError):
        storage.save(name, content())
    assert storage.abort_uploads(name) == 0
    assert not storage.exists(name)


def test_large_save_on_a_taken_name_aborts_its_upload(storage: S3ObjectStorage) -> None:
    name = stored(storage)
    with pytest.raises(ObjectExistsError):
        storage.save(name, File(PatternSource(9 * MIB)))
    assert storage.abort_uploads(name) == 0


def test_abort_uploads_ends_those_of_this_key_only(storage: S3ObjectStorage) -> None:
    for key in ("7f/a", "7f/a", "7f/a.b"):
        storage.client.create_multipart_upload(Bucket=storage.bucket, Key=key)
    assert storage.abort_uploads("7f/a") == 2
    assert storage.abort_uploads("7f/a") == 0
    assert storage.abort_uploads("7f/a.b") == 1


def test_save_without_conditional_writes_asks_first(seaweedfs: SeaweedServer) -> None:
    storage = S3ObjectStorage(**seaweedfs.options(seaweedfs.new_bucket()), conditional_writes=False)
    name = stored(storage)
    with pytest.raises(ObjectExistsError):
        stored(storage, b"other", name)
    assert bytes_of(storage, name) == TEN


def test_open_reads_no_more_than_it_is_asked_for(storage: S3ObjectStorage) -> None:
    name = storage.save(new_name(), File(PatternSource(20 * MIB)))
    with calls(storage) as seen, storage.open(name) as file:
        file.seek(-10, 2)
        assert len(file.read()) == 10
    assert seen == ["GetObject", "GetObject"]


def test_list_pays_one_call_for_a_skipped_prefix(storage: S3ObjectStorage) -> None:
    for number in range(1500):
        stored(storage, b"", f"temp/7f/{number:04d}")
    kept = [stored(storage, b"", "7f/a"), stored(storage, b"", "zz/a")]
    with calls(storage) as seen:
        assert [info.key for info in storage.list_objects(skip_prefixes=("temp/",))] == kept
    assert len(seen) == 2


def test_presigned_url_is_answered_with_the_overrides(storage: S3ObjectStorage) -> None:
    url = storage.presigned_url(
        stored(storage), expires_in=60, content_type="image/png", disposition='attachment; filename="a b.png"'
    )
    assert "X-Amz-Signature=" in url  # SigV4; SigV2 has "Signature=" alone
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == TEN
        assert answer.headers["Content-Type"] == "image/png"
        assert answer.headers["Content-Disposition"] == 'attachment; filename="a b.png"'


def test_presigned_url_with_another_key_is_refused(storage: S3ObjectStorage) -> None:
    name, other = stored(storage), stored(storage)
    url = storage.presigned_url(name, expires_in=60).replace(name, other)
    with pytest.raises(urllib.error.HTTPError, match="403") as caught:
        urllib.request.urlopen(url)
    caught.value.close()


def test_presigned_url_names_the_public_endpoint_and_is_valid_there(seaweedfs: SeaweedServer) -> None:
    public = seaweedfs.endpoint_url.replace("127.0.0.1", "localhost")
    options = seaweedfs.options(seaweedfs.new_bucket())
    storage = S3ObjectStorage(**options, public_endpoint_url=public)
    url = storage.presigned_url(stored(storage), expires_in=60)
    assert urlsplit(url).netloc == urlsplit(public).netloc
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == TEN


def test_presigned_url_of_a_hostile_name_is_refused(storage: S3ObjectStorage) -> None:
    with pytest.raises(InvalidKeyError):
        storage.presigned_url("../secret", expires_in=60)


def test_client_is_shared_by_storages_of_one_connection(seaweedfs: SeaweedServer) -> None:
    one, two = (S3ObjectStorage(**seaweedfs.options(bucket)) for bucket in ("one", "two"))
    assert one.client is two.client


@pytest.mark.parametrize("verb", EVERY_VERB)
@pytest.mark.parametrize("wrong", ["access_key", "secret_key"])
def test_wrong_credentials_are_unavailable_and_never_a_missing_object(
    seaweedfs: SeaweedServer, verb: str, wrong: str
) -> None:
    options = seaweedfs.options("any-bucket") | {wrong: "very-secret-but-wrong"}
    with pytest.raises(BackendUnavailableError, match="S3_ACCESS_KEY_ID") as caught:
        EVERY_VERB[verb](S3ObjectStorage(**options), new_name())
    assert "very-secret" not in str(caught.value)
    assert "any-bucket" in str(caught.value)


@pytest.mark.parametrize("verb", EVERY_VERB)
def test_missing_bucket_is_unavailable_and_never_a_missing_object(seaweedfs: SeaweedServer, verb: str) -> None:
    with pytest.raises(BackendUnavailableError, match="Check that the bucket exists"):
        EVERY_VERB[verb](S3ObjectStorage(**seaweedfs.options("no-such-bucket")), new_name())


def test_missing_object_names_bucket_and_key(storage: S3ObjectStorage) -> None:
    name = new_name()
    with pytest.raises(ObjectNotFoundError, match=f"{storage.bucket}/{name}"):
        storage.open_stream(name)


@pytest.mark.parametrize("verb", EVERY_VERB)
def test_refusing_server_is_unavailable_within_the_deadline(verb: str) -> None:
    nobody = S3ObjectStorage(
        bucket="any-bucket", endpoint_url="http://127.0.0.1:1", access_key="key", secret_key="very-secret"
    )
    with within_the_deadline(), pytest.raises(BackendUnavailableError, match="S3_ENDPOINT_URL") as caught:
        EVERY_VERB[verb](nobody, new_name())
    assert "very-secret" not in str(caught.value)


@pytest.mark.faults
@pytest.mark.parametrize("verb", EVERY_VERB)
def test_stalled_server_is_unavailable_within_the_deadline(
    seaweedfs: SeaweedServer, storage: S3ObjectStorage, verb: str
) -> None:
    name = stored(storage)
    with seaweedfs.server.paused(), within_the_deadline(), pytest.raises(BackendUnavailableError):
        EVERY_VERB[verb](storage, name)
    assert bytes_of(storage, stored(storage)) == TEN


@pytest.mark.faults
def test_server_that_stalls_in_mid_body_is_unavailable(seaweedfs: SeaweedServer, storage: S3ObjectStorage) -> None:
    name = storage.save(new_name(), File(PatternSource(40 * MIB)))
    with storage.open_stream(name) as stream:
        stream.read(1)
        with seaweedfs.server.paused(), within_the_deadline(), pytest.raises(BackendUnavailableError):
            stream.read()


@pytest.mark.faults
def test_killed_server_keeps_what_it_acknowledged(seaweedfs: SeaweedServer, storage: S3ObjectStorage) -> None:
    large = storage.save(new_name(), File(PatternSource(20 * MIB)))
    with seaweedfs.server.down(), pytest.raises(StorageError):
        stored(storage)
    assert digest_of(storage.open_stream(large)) == digest_of(PatternSource(20 * MIB))


def test_upload_left_by_a_silent_server_is_logged_for_the_purge(
    storage: S3ObjectStorage, caplog: pytest.LogCaptureFixture
) -> None:
    class Hangs(ObservedSource):
        def on_upload_started(self, upload_id: str) -> None:
            storage._connection = storage._connection.at("http://127.0.0.1:1")

    reachable, name = storage._connection, new_name()
    with caplog.at_level(logging.WARNING), pytest.raises(BackendUnavailableError):
        storage.save(name, Hangs(20 * MIB))
    storage._connection = reachable
    assert "upload left for purge" in caplog.text
    assert storage.abort_uploads(name) == 1


def test_server_that_stalls_thrice_is_not_asked_again_until_it_is_due(
    seaweedfs: SeaweedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = S3ObjectStorage(**seaweedfs.options(seaweedfs.new_bucket()), read_timeout=1)
    name = stored(storage, TEN)
    with seaweedfs.server.paused(), calls(storage) as seen:
        for _ in range(20):
            with pytest.raises(BackendTimeoutError):
                storage.size(name)
            with pytest.raises(BackendTimeoutError):
                storage.save(new_name(), ContentFile(TEN))
        assert 3 <= len(seen) < 20
        assert storage.presigned_url(name, expires_in=60).startswith(seaweedfs.endpoint_url)
    now = time.monotonic() + OPEN_SECONDS
    monkeypatch.setattr(storage._breaker, "_monotonic", lambda: now)
    assert storage.size(name) == len(TEN)
    assert bytes_of(storage, storage.save(new_name(), ContentFile(TEN))) == TEN


def test_server_that_answers_in_between_is_always_asked(seaweedfs: SeaweedServer) -> None:
    storage = S3ObjectStorage(**seaweedfs.options(seaweedfs.new_bucket()), read_timeout=1)
    name = stored(storage, TEN)
    for _ in range(4):
        with seaweedfs.server.paused(), pytest.raises(BackendTimeoutError):
            storage.size(name)
        with pytest.raises(ObjectNotFoundError):
            S3ObjectStorage.size(storage, new_name())


def test_list_uploads_names_what_is_unfinished_until_it_is_aborted(storage: S3ObjectStorage) -> None:
    name = new_name()
    begun = storage.client.create_multipart_upload(Bucket=storage.bucket, Key=name)
    (found,) = storage.list_uploads()
    assert (found.key, found.upload_id) == (name, begun["UploadId"])
    storage.abort_upload(found)
    storage.abort_upload(found)
    assert list(storage.list_uploads()) == []
