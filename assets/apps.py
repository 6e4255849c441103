"""The Django app of the catalog."""

from django.apps import AppConfig


class AssetsConfig(AppConfig):
    """The catalog of assets, its HTTP and its admin."""

    name = "assets"
    verbose_name = "Assets"
