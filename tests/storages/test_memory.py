"""The storage in memory against the contract, and what is its own: threads."""

from __future__ import annotations

import pytest

from storagecache.capabilities import LocalFiles
from storagecache.storages.memory import MemoryObjectStorage
from tests.contracts.storage import StorageContract, stored


class TestMemoryObjectStorage(StorageContract):
    @pytest.fixture
    def storage(self) -> MemoryObjectStorage:
        return MemoryObjectStorage(bucket="memory")

    def test_reader_of_a_deleted_object_keeps_its_bytes(self, storage: MemoryObjectStorage) -> None:
        name = stored(storage)
        with storage.open_stream(name) as stream:
            storage.delete(name)
            assert stream.read() == b"0123456789"

    def test_two_storages_are_two_buckets(self, storage: MemoryObjectStorage) -> None:
        name = stored(storage)
        assert not MemoryObjectStorage(bucket="memory").exists(name)


def test_memory_has_no_files_of_this_machine() -> None:
    """Django's Storage has a `path` that raises: a capability of that name would be everybody's."""
    assert not isinstance(MemoryObjectStorage(), LocalFiles)
