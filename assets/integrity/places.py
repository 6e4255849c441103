"""The physical buckets behind the storage aliases: what is listed once, and what in it is not the catalog's."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import groupby
from typing import Final, cast

from django.core.files.storage import storages
from django.db.models import Q

from assets.models import StoredObject
from assets.services.sections import release_connection
from storagecache.errors import BackendUnavailableError
from storagecache.storages.base import ObjectStorage

CATALOGUED: Final = ("assets", "temp")
_ALL: Final = (*CATALOGUED, "cache")


class UnknownBucketError(BackendUnavailableError):
    """The catalog names a bucket that is not configured now: nothing can be told about its objects."""


@dataclass(frozen=True, slots=True)
class Place:
    """One physical bucket, the aliases whose objects it holds, and the prefixes that belong to others."""

    bucket: str
    aliases: tuple[str, ...]
    storage: ObjectStorage
    skip_prefixes: tuple[str, ...]


def find_places() -> list[Place]:
    """Give each physical bucket of the catalog once: with S3, assets, temp and cache may share one."""
    ordered = sorted(CATALOGUED, key=_identity)
    return [_place(tuple(aliases)) for _, aliases in groupby(ordered, key=_identity)]


def refuse_unknown_buckets(places: list[Place]) -> None:
    """Refuse when the catalog has rows of a bucket that is not configured.

    Raises:
        UnknownBucketError
    """
    known = Q()
    for place in places:
        known |= Q(bucket=place.bucket, storage__in=place.aliases)
    stray = StoredObject.objects.exclude(known).order_by().values_list("storage", "bucket").first()
    release_connection()
    if stray is not None:
        raise UnknownBucketError(
            f"The catalog has objects of {stray[0]!r} in the bucket {stray[1]!r}, which is not configured now. "
            "Configure the recorded bucket, or move the objects."
        )


def _place(aliases: tuple[str, ...]) -> Place:
    storage = _storage(aliases[0])
    others = [alias for alias in _ALL if alias not in aliases]
    skipped = [prefix for alias in others if (prefix := _prefix_inside(alias, aliases[0]))]
    if storage.quarantine_prefix:
        skipped.append(storage.quarantine_prefix)
    return Place(storage.bucket, aliases, storage, tuple(skipped))


def _prefix_inside(other: str, host: str) -> str | None:
    """Give the prefix under which the host's listing would show the other alias; None when it does not."""
    if _identity(other) == _identity(host):
        return _storage(other).object_prefix
    inner, outer = _folder(other), _folder(host)
    if inner and outer and inner.startswith(outer + os.sep):
        return inner[len(outer) + 1 :].replace(os.sep, "/") + "/"
    return None


def _identity(alias: str) -> tuple[str, str, str]:
    storage = _storage(alias)
    return type(storage).__qualname__, storage.bucket, _folder(alias)


def _folder(alias: str) -> str:
    """Give the storage's folder on disk; "" when it has none. Memory has "/", the root of its own tree."""
    return os.path.normpath(location) if (location := str(getattr(_storage(alias), "location", ""))) else ""


def _storage(alias: str) -> ObjectStorage:
    return cast("ObjectStorage", storages[alias])
