"""What every test may use: real servers, started on demand, and everybody who may ask."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.core.files.storage import storages

pytest_plugins = ["tests.servers", "tests.roles", "tests.manage"]


@pytest.fixture(autouse=True)
def _empty_memory_buckets() -> Iterator[None]:
    """Let objects in memory go with their test, as its rows do: else the next one meets objects without a row."""
    yield
    storages._storages.clear()  # type: ignore[attr-defined]
