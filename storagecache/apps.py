"""The Django app of bytes and caches."""

from django.apps import AppConfig


class StorageCacheConfig(AppConfig):
    """Registers the system checks."""

    name = "storagecache"
    verbose_name = "Storage and caches"

    def ready(self) -> None:
        """Register the checks by importing them."""
        from storagecache import checks  # noqa: F401 (the import registers)
