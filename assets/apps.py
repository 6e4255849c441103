"""The Django app of the catalog."""

from django.apps import AppConfig


class AssetsConfig(AppConfig):
    """The catalog of assets, its HTTP and its admin."""

    name = "assets"
    verbose_name = "Assets"

    def ready(self) -> None:
        """Register the checks, and let the node cache ask which assets are there."""
        from assets import checks  # noqa: F401 (the import registers)
        from assets.services.reading import are_live, digest_of
        from storagecache.node_cache import register_assets

        register_assets(is_live=are_live, digest_of=digest_of)
