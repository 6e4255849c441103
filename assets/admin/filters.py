"""The closed choices of the admin's lists. Each is judged inside the window (see `assets.admin.windows`)."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from django.contrib.admin import ModelAdmin, SimpleListFilter
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from assets.admin.windows import judged
from assets.models import Asset, StoredObject

_MEDIA: Final = ("image", "audio", "video", "text")


class ClosedFilter(SimpleListFilter):
    """A filter whose values are known beforehand; any other value finds nothing."""

    names: ClassVar[tuple[tuple[str, str], ...]]

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> tuple[tuple[str, str], ...]:
        """Give the choices."""
        return self.names

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the rows of the chosen value."""
        value = self.value()
        if value is None:
            return queryset
        if value not in dict(self.names):
            return queryset.none()
        return queryset.filter(judged(self.condition(value)))

    def condition(self, value: str) -> Q:
        """Say which rows have a value."""
        return Q(**{self.parameter_name or "": value})


class BucketFilter(ClosedFilter):
    """assets or temp."""

    title = "bucket"
    parameter_name = "bucket"
    names = tuple((value, value) for value in Asset.Bucket.values)


class StorageFilter(ClosedFilter):
    """The storage alias of an object."""

    title = "storage"
    parameter_name = "storage"
    names = tuple((value, value) for value in Asset.Bucket.values)


class ObjectStateFilter(ClosedFilter):
    """Where an object stands in its life."""

    title = "state"
    parameter_name = "state"
    names = tuple((value, value) for value in StoredObject.State.values)


class AssetStateFilter(ClosedFilter):
    """Live, expired or in the trash."""

    title = "state"
    parameter_name = "state"
    names = (("live", "live"), ("expired", "expired"), ("trashed", "in the trash"))

    def condition(self, value: str) -> Q:
        """Say it by the two times of an asset."""
        expired = Q(expires_at__lte=timezone.now())
        if value == "trashed":
            return Q(trashed_at__isnull=False)
        return Q(trashed_at=None) & (expired if value == "expired" else Q(expires_at=None) | ~expired)


class ContentGroupFilter(ClosedFilter):
    """The first half of a content type."""

    title = "content"
    parameter_name = "content"
    names = (*((name, name) for name in _MEDIA), ("other", "other"))

    def condition(self, value: str) -> Q:
        """Say it by the beginning of the content type; folders are among the others."""
        if value != "other":
            return Q(content_type__startswith=f"{value}/")
        known = Q()
        for name in _MEDIA:
            known |= Q(content_type__startswith=f"{name}/")
        return ~known
