"""What every test may use: real servers, started on demand, and everybody who may ask."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.core.files.storage import storages
from django.db import connection
from pytest_django import DjangoDbBlocker

from storagecache import environment
from storagecache.environment import Environment

pytest_plugins = ["tests.servers", "tests.roles", "tests.manage"]


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> None:
    """Let PostgreSQL count its users from 1001: many tests make user 1 themselves, and then others."""
    with django_db_blocker.unblock():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SELECT setval(pg_get_serial_sequence('auth_user', 'id'), 1000)")
            connection.close()


@pytest.fixture(autouse=True)
def _own_node_cache() -> Iterator[None]:
    """Let the process's node cache go with its test: it was made of that test's settings and storages."""
    yield
    cache = Environment.node_cache_in_use()
    if cache is not None:
        cache.close()
        environment._node_cache.cache_clear()


@pytest.fixture(autouse=True)
def _empty_memory_buckets() -> Iterator[None]:
    """Let objects in memory go with their test, as its rows do: else the next one meets objects without a row."""
    yield
    storages._storages.clear()  # type: ignore[attr-defined]
