"""The Django app of bytes and caches."""

from django.apps import AppConfig


class StorageCacheConfig(AppConfig):
    """Registers the system checks."""

    name = "storagecache"
    verbose_name = "Storage and caches"
