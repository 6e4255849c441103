"""The storage on S3 against the contract, with a real server."""

from __future__ import annotations

import pytest

from storagecache.storages.s3 import S3ObjectStorage
from tests.contracts.storage import MIB, BoundedMemoryContract, StorageContract, bytes_of, race_to_save
from tests.servers import SeaweedServer
from tests.storages.sources import new_name


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
