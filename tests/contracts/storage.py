"""What every storage of objects promises. A backend's test class inherits this and gives the `storage` fixture."""

from __future__ import annotations

import io
import threading
import tracemalloc
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.files.base import ContentFile, File

from storagecache.capabilities import BulkDeleter, ObjectLister, RangeReader
from storagecache.errors import (
    InvalidKeyError,
    ObjectExistsError,
    ObjectNotFoundError,
    RangeNotSatisfiableError,
    UnsupportedCapabilityError,
)
from storagecache.storages.base import ObjectStorage
from tests.storages.sources import FailingSource, PatternSource, digest_of, new_name, new_names

MIB = 1024 * 1024
TEN = b"0123456789"

HOSTILE = {
    "empty": "",
    "absolute": "/etc/passwd",
    "parent": "../secret",
    "parent-inside": "7f/../../secret",
    "dot": "./a",
    "empty-segment": "7f//a",
    "trailing-slash": "7f/",
    "hidden": ".staging/a",
    "hidden-inside": "7f/.a",
    "upper-case": "7F/A",
    "space": "7f/a b",
    "backslash": "7f\\a",
    "nul": "7f/a\x00b",
    "newline-at-end": "7f/a\n",
    "not-ascii": "7f/ä",
    "percent": "7f/%2e%2e",
    "too-long-segment": "7f/" + "a" * 129,
    "too-deep": "/".join("a" * 9),
}
VERBS: dict[str, Callable[[Any, str], object]] = {
    "save": lambda storage, name: storage.save(name, ContentFile(b"x")),
    "open": lambda storage, name: storage.open(name),
    "open_stream": lambda storage, name: storage.open_stream(name),
    "delete": lambda storage, name: storage.delete(name),
    "delete_many": lambda storage, name: storage.delete_many([new_name(), name]),
    "exists": lambda storage, name: storage.exists(name),
    "size": lambda storage, name: storage.size(name),
    "get_modified_time": lambda storage, name: storage.get_modified_time(name),
}
READERS = {verb: VERBS[verb] for verb in ("open", "open_stream", "size", "get_modified_time")}
READERS["open_stream_of_nothing"] = lambda storage, name: storage.open_stream(name, 0, 0)
READERS["open_stream_of_a_part"] = lambda storage, name: storage.open_stream(name, 3, 4)

RANGES = [
    (0, None, b"0123456789"),
    (0, 10, b"0123456789"),
    (0, 11, b"0123456789"),
    (0, 1, b"0"),
    (9, 1, b"9"),
    (9, None, b"9"),
    (8, 100, b"89"),
    (3, 4, b"3456"),
    (10, None, b""),
    (10, 1, b""),
    (11, None, b""),
    (1_000_000, 1, b""),
    (0, 0, b""),
    (5, 0, b""),
]


def stored(storage: ObjectStorage, data: bytes = TEN, name: str = "") -> str:
    """Save a small object."""
    return storage.save(name or new_name(), ContentFile(data))


def stored_many(storage: ObjectStorage, names: Iterable[str]) -> list[str]:
    """Store empty objects, several at a time: one after the other they wait for the disk or the network."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda name: stored(storage, b"", name), names))


def bytes_of(storage: ObjectStorage, name: str) -> bytes:
    """Read a small object whole."""
    with storage.open_stream(name) as stream:
        return stream.read()


def race_to_save(storage: ObjectStorage, name: str, size: int) -> list[bytes]:
    """Let four threads save different bytes under one name; returns the byte of each whose save succeeded."""
    winners: list[bytes] = []
    refused: list[bytes] = []
    barrier = threading.Barrier(4)

    def save(mark: bytes) -> None:
        barrier.wait()
        try:
            storage.save(name, ContentFile(mark * size))
            winners.append(mark)
        except ObjectExistsError:
            refused.append(mark)

    threads = [threading.Thread(target=save, args=(mark,)) for mark in (b"a", b"b", b"c", b"d")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(winners) + len(refused) == len(threads)
    return winners


class StorageContract:
    """Round trips, ranges, refusals, deletes and listings, the same for every backend."""

    @pytest.fixture
    def storage(self) -> ObjectStorage:
        """Give an empty bucket; each backend gives its own."""
        raise NotImplementedError

    def test_storage_offers_ranges_bulk_deletes_and_listings(self, storage: ObjectStorage) -> None:
        assert isinstance(storage, RangeReader)
        assert isinstance(storage, BulkDeleter)
        assert isinstance(storage, ObjectLister)
        assert storage.object_prefix == ""
        assert storage.bucket

    @pytest.mark.parametrize("size", [0, 1, MIB, 100 * MIB], ids=["0B", "1B", "1MiB", "100MiB"])
    def test_save_of_any_size_round_trips(self, storage: ObjectStorage, size: int) -> None:
        name = new_name()
        assert storage.save(name, File(PatternSource(size))) == name
        assert storage.size(name) == size
        assert digest_of(storage.open_stream(name)) == digest_of(PatternSource(size))

    @pytest.mark.parametrize("size", [1, 4999, 3 * MIB, 20 * MIB])
    def test_save_from_short_reads_stores_the_whole(self, storage: ObjectStorage, size: int) -> None:
        name = storage.save(new_name(), File(PatternSource(size, most=max(1, size // 7 - 1))))
        assert storage.size(name) == size
        assert digest_of(storage.open_stream(name)) == digest_of(PatternSource(size))

    def test_save_of_a_read_file_starts_at_its_first_byte(self, storage: ObjectStorage) -> None:
        content = ContentFile(TEN)
        content.read()
        name = storage.save(new_name(), content)
        assert bytes_of(storage, name) == TEN

    def test_save_of_text_is_refused_and_leaves_nothing(self, storage: ObjectStorage) -> None:
        name = new_name()
        with pytest.raises(TypeError):
            storage.save(name, File(io.StringIO("text")))
        assert not storage.exists(name)

    def test_save_on_a_taken_name_is_refused_and_changes_nothing(self, storage: ObjectStorage) -> None:
        name = stored(storage)
        with pytest.raises(ObjectExistsError):
            storage.save(name, ContentFile(b"other"))
        assert bytes_of(storage, name) == TEN
        assert [info.key for info in storage.list_objects()] == [name]

    def test_save_of_a_large_object_on_a_taken_name_is_refused(self, storage: ObjectStorage) -> None:
        name = stored(storage)
        with pytest.raises(ObjectExistsError):
            storage.save(name, File(PatternSource(20 * MIB)))
        assert bytes_of(storage, name) == TEN

    @pytest.mark.parametrize("size", [10, 20 * MIB], ids=["small", "large"])
    def test_save_from_a_breaking_source_leaves_nothing(self, storage: ObjectStorage, size: int) -> None:
        name = new_name()
        with pytest.raises(ConnectionResetError, match="client went away"):
            storage.save(name, File(FailingSource(size, ConnectionResetError("client went away"))))
        assert not storage.exists(name)
        assert list(storage.list_objects()) == []

    def test_save_longer_than_max_length_is_refused(self, storage: ObjectStorage) -> None:
        with pytest.raises(InvalidKeyError):
            storage.save(new_name(), ContentFile(b""), max_length=10)

    def test_save_of_one_name_at_once_has_exactly_one_winner(self, storage: ObjectStorage) -> None:
        name, size = new_name(), 1000
        (winner,) = race_to_save(storage, name, size)
        assert bytes_of(storage, name) == winner * size

    def test_save_of_one_large_name_at_once_has_exactly_one_winner(self, storage: ObjectStorage) -> None:
        name, size = new_name(), 20 * MIB
        (winner,) = race_to_save(storage, name, size)
        assert bytes_of(storage, name) == winner * size

    @pytest.mark.parametrize(("start", "length", "expected"), RANGES)
    def test_open_stream_of_a_range_gives_those_bytes(
        self, storage: ObjectStorage, start: int, length: int | None, expected: bytes
    ) -> None:
        with storage.open_stream(stored(storage), start, length) as stream:
            assert stream.read() == expected

    @pytest.mark.parametrize(("start", "length"), [(0, None), (0, 5), (5, None), (5, 5), (0, 0)])
    def test_open_stream_of_an_empty_object_is_empty(
        self, storage: ObjectStorage, start: int, length: int | None
    ) -> None:
        with storage.open_stream(stored(storage, b""), start, length) as stream:
            assert stream.read() == b""

    @pytest.mark.parametrize(("start", "length"), [(-1, None), (0, -1)])
    def test_open_stream_of_a_negative_range_is_refused(
        self, storage: ObjectStorage, start: int, length: int | None
    ) -> None:
        with pytest.raises(RangeNotSatisfiableError):
            storage.open_stream(stored(storage), start, length)

    def test_open_stream_in_the_middle_of_a_large_object(self, storage: ObjectStorage) -> None:
        name = storage.save(new_name(), File(PatternSource(20 * MIB)))
        whole = PatternSource(20 * MIB)
        expected = io.BufferedReader(whole).read()[8 * MIB - 5 : 8 * MIB + 70_000]
        with storage.open_stream(name, 8 * MIB - 5, 70_005) as stream:
            assert stream.read() == expected

    def test_open_of_two_readers_gives_each_its_cursor(self, storage: ObjectStorage) -> None:
        name = stored(storage)
        with storage.open(name) as one, storage.open(name) as two:
            assert one.read(4) == b"0123"
            assert two.read(2) == b"01"
            assert one.read() == b"456789"
            assert two.read() == b"23456789"

    def test_open_is_seekable_and_knows_its_size(self, storage: ObjectStorage) -> None:
        with storage.open(stored(storage)) as file:
            assert file.size == 10
            file.seek(-3, io.SEEK_END)
            assert file.read() == b"789"
            file.seek(1)
            assert file.read(2) == b"12"
            assert b"".join(file.chunks(3)) == TEN

    def test_open_for_writing_is_refused(self, storage: ObjectStorage) -> None:
        name = stored(storage)
        with pytest.raises(UnsupportedCapabilityError):
            storage.open(name, "wb")
        assert storage.size(name) == 10

    @pytest.mark.parametrize("verb", READERS)
    def test_read_of_a_missing_object_raises_not_found(self, storage: ObjectStorage, verb: str) -> None:
        stored(storage)
        with pytest.raises(ObjectNotFoundError):
            READERS[verb](storage, new_name())

    def test_read_of_a_folder_is_a_missing_object(self, storage: ObjectStorage) -> None:
        folder = stored(storage).split("/")[0]
        assert not storage.exists(folder)
        with pytest.raises(ObjectNotFoundError):
            storage.open_stream(folder)

    @pytest.mark.parametrize("verb", VERBS)
    @pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
    def test_hostile_name_is_refused(self, storage: ObjectStorage, name: str, verb: str) -> None:
        with pytest.raises(InvalidKeyError):
            VERBS[verb](storage, name)

    def test_url_and_listdir_are_refused(self, storage: ObjectStorage) -> None:
        with pytest.raises(UnsupportedCapabilityError):
            storage.url(stored(storage))
        with pytest.raises(UnsupportedCapabilityError):
            storage.listdir("")

    def test_modified_time_is_now_aware_and_utc(self, storage: ObjectStorage) -> None:
        modified = storage.get_modified_time(stored(storage))
        assert modified.utcoffset() == timedelta(0)
        assert abs(datetime.now(UTC) - modified) < timedelta(minutes=1)

    def test_delete_removes_the_object_and_may_be_repeated(self, storage: ObjectStorage) -> None:
        name, other = stored(storage), stored(storage)
        storage.delete(name)
        storage.delete(name)
        assert not storage.exists(name)
        assert storage.exists(other)

    def test_name_of_a_deleted_object_is_free(self, storage: ObjectStorage) -> None:
        name = stored(storage)
        storage.delete(name)
        stored(storage, b"new", name)
        assert bytes_of(storage, name) == b"new"

    def test_delete_many_removes_all_and_counts_absent_ones_as_deleted(self, storage: ObjectStorage) -> None:
        doomed, kept = stored_many(storage, new_names(1000)), stored(storage)
        assert storage.delete_many(iter([*doomed, new_name()])) == []
        assert [info.key for info in storage.list_objects()] == [kept]

    def test_delete_many_of_nothing_is_nothing(self, storage: ObjectStorage) -> None:
        assert storage.delete_many([]) == []

    def test_list_of_an_empty_bucket_is_empty(self, storage: ObjectStorage) -> None:
        assert list(storage.list_objects()) == []

    def test_list_tells_key_size_and_time(self, storage: ObjectStorage) -> None:
        name = stored(storage)
        (info,) = storage.list_objects()
        assert (info.key, info.size) == (name, 10)
        assert info.modified_at.utcoffset() == timedelta(0)
        assert abs(datetime.now(UTC) - info.modified_at) < timedelta(minutes=1)

    @pytest.mark.timeout(600)  # thousands of requests, beside whatever else the machine does
    def test_list_of_5000_objects_is_in_order_and_can_be_resumed(self, storage: ObjectStorage) -> None:
        keys = sorted(stored_many(storage, new_names(5000)))
        assert [info.key for info in storage.list_objects()] == keys
        for start_after in (keys[0], keys[2499], keys[-1], "80/", "zz/"):
            expected = [key for key in keys if key > start_after]
            assert [info.key for info in storage.list_objects(start_after=start_after)] == expected

    def test_list_skips_prefixes(self, storage: ObjectStorage) -> None:
        kept = sorted(stored(storage, b"", new_name(prefix)) for prefix in ("", "", "tem/", "temp0/", "zz/"))
        for prefix in ("cache/", "temp/", "temp/"):
            stored(storage, b"", new_name(prefix))
        listed = storage.list_objects(skip_prefixes=("temp/", "cache/"))
        assert [info.key for info in listed] == kept
        resumed = storage.list_objects(start_after="temp/", skip_prefixes=("temp/", "cache/"))
        assert [info.key for info in resumed] == [key for key in kept if key > "temp/"]

    def test_set_aside_takes_the_object_out_of_reach_and_put_back_returns_it(self, storage: ObjectStorage) -> None:
        name = stored(storage)
        kept = stored(storage)
        for _ in range(2):  # either verb may be repeated
            storage.set_aside(name, "run1")
        assert not storage.exists(name)
        skipped = (storage.quarantine_prefix,) if storage.quarantine_prefix else ()
        assert [info.key for info in storage.list_objects(skip_prefixes=skipped)] == [kept]
        assert (list(storage.list_aside("run1")), list(storage.list_aside("run2"))) == ([name], [])
        for _ in range(2):
            storage.put_back(name, "run1")
        assert (bytes_of(storage, name), list(storage.list_aside("run1"))) == (TEN, [])

    def test_put_back_on_a_taken_name_refuses_and_keeps_both(self, storage: ObjectStorage) -> None:
        name = stored(storage)
        storage.set_aside(name, "run1")
        stored(storage, b"another", name)
        with pytest.raises(ObjectExistsError):
            storage.put_back(name, "run1")
        assert bytes_of(storage, name) == b"another"
        storage.delete(name)
        storage.put_back(name, "run1")
        assert bytes_of(storage, name) == TEN

    def test_set_aside_of_nothing_and_put_back_of_nothing_are_missing_objects(self, storage: ObjectStorage) -> None:
        for move in (storage.set_aside, storage.put_back):
            with pytest.raises(ObjectNotFoundError):
                move("ab/absent", "run1")

    def test_drop_aside_deletes_only_what_is_quarantined_and_may_be_repeated(self, storage: ObjectStorage) -> None:
        gone, kept = stored(storage), stored(storage)
        storage.set_aside(gone, "run1")
        for name in (gone, gone, kept):
            storage.drop_aside(name, "run1")
        assert (list(storage.list_aside("run1")), storage.exists(gone), storage.exists(kept)) == ([], False, True)

    @pytest.mark.parametrize("label", ["", "..", "a/b", ".hidden"])
    def test_hostile_label_is_refused(self, storage: ObjectStorage, label: str) -> None:
        for move in (storage.set_aside, storage.put_back, storage.drop_aside):
            with pytest.raises(InvalidKeyError):
                move("ab/absent", label)


class BoundedMemoryContract:
    """For backends that do not hold the bytes themselves."""

    def test_memory_stays_bounded_while_100_mib_pass(self, storage: ObjectStorage) -> None:
        expected = digest_of(PatternSource(100 * MIB))
        stored(storage)  # what is made once (client, buffers) is not the object's
        tracemalloc.start()
        try:
            name = storage.save(new_name(), File(PatternSource(100 * MIB)))
            assert digest_of(storage.open_stream(name)) == expected
            _now, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 32 * MIB
