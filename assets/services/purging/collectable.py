"""What may be collected: the queries that find it, and nothing that changes a row."""

from __future__ import annotations

from django.db.models import Q, QuerySet

from assets.models import Asset, Rendition, StoredObject
from assets.services.purging.limits import Limits

State = StoredObject.State


def expired_assets(limits: Limits) -> QuerySet[Asset]:
    """Give the assets whose time is over, in both buckets."""
    return Asset.objects.filter(expires_at__lte=limits.now, is_folder=False)


def abandoned_objects(limits: Limits) -> QuerySet[StoredObject]:
    """Give the objects whose upload never ended."""
    return StoredObject.objects.filter(state=State.PENDING, state_changed_at__lte=limits.cutoff)


def unreferenced_objects(limits: Limits) -> QuerySet[StoredObject]:
    """Give the objects that nobody has referred to for a grace time."""
    return StoredObject.objects.filter(state=State.READY, referenced_at__lte=limits.cutoff).unreferenced()


def due_objects(limits: Limits) -> QuerySet[StoredObject]:
    """Give the objects being deleted, but for those whose last deletion was less than a grace time ago."""
    waited = Q(deleted_at=None) | Q(deleted_at__lte=limits.cutoff)
    return StoredObject.objects.filter(waited, state=State.DELETING)


def leftover_objects(limits: Limits) -> QuerySet[StoredObject]:
    """Give the objects of all three kinds: each goes though no asset ends for it."""
    kinds = (abandoned_objects, unreferenced_objects, due_objects)
    ids = [kind(limits).order_by().values("pk") for kind in kinds]
    return StoredObject.objects.filter(Q(pk__in=ids[0]) | Q(pk__in=ids[1]) | Q(pk__in=ids[2]))


def pictures_of(sources: QuerySet[StoredObject]) -> QuerySet[StoredObject]:
    """Give the small pictures that go with their sources."""
    made = Rendition.objects.filter(source__in=sources.order_by().values("pk"))
    return StoredObject.objects.filter(pk__in=made.values("object"), state=State.READY)
