"""The storage on disk against the contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from storagecache.storages.filesystem import FilesystemObjectStorage
from tests.contracts.storage import BoundedMemoryContract, StorageContract


class TestFilesystemObjectStorage(BoundedMemoryContract, StorageContract):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> FilesystemObjectStorage:
        return FilesystemObjectStorage(location=tmp_path / "assets")
