"""Buckets of each kind, and the choice between looks that are taken at once and by a worker."""

from __future__ import annotations

import pytest

from tests.assets.conftest import buckets, disk, memory
from tests.roles import ChangeEnvironment

__all__ = ["buckets", "by_worker", "disk", "memory"]


@pytest.fixture
def by_worker(change_environment: ChangeEnvironment) -> None:
    """Leave wanted looks to a worker, as outside of tests."""
    change_environment(env="development", asset_storage="filesystem")
