"""Uploads in parts that nobody finishes: what a bucket keeps of them although no row knows them."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

from django.core.files.storage import storages

from assets.models import StoredObject
from assets.services.purging.limits import SECTION
from assets.services.sections import release_connection
from storagecache.capabilities import UploadLister
from storagecache.environment import Environment
from storagecache.errors import StorageError
from storagecache.keys import is_object_key

logger = logging.getLogger(__name__)

_UPLOAD_LIFE: Final = timedelta(hours=24)  # of an upload in parts that no row knows


def sweep_uploads(now: datetime) -> None:
    """Abort what was begun so long ago that nobody can be at it; a server that cannot list them is no failure."""
    begun_before = now - max(_UPLOAD_LIFE, timedelta(seconds=Environment.current().grace_time))
    for storage in {storages[alias].bucket: storages[alias] for alias in ("assets", "temp")}.values():  # type: ignore[attr-defined]
        if isinstance(storage, UploadLister):
            try:
                abort_abandoned(storage, begun_before)
            except StorageError as error:
                logger.warning("uploads not swept reason=%s", error)


def abort_abandoned(storage: UploadLister, begun_before: datetime) -> int:
    """Abort uploads of ours that were begun before this time and that no pending row names; returns how many.

    Those of a pending row are the row's business: a transfer that lasts is refreshed there. What is left are copies
    into or out of quarantine that died, and uploads whose row a restored catalog does not know.
    """
    aborted = 0
    uploads = (u for u in storage.list_uploads() if u.started_at <= begun_before and is_object_key(u.key))
    while chunk := list(islice(uploads, SECTION)):
        pending = StoredObject.objects.filter(
            state=StoredObject.State.PENDING, key__in=[upload.key for upload in chunk]
        )
        known = set(pending.values_list("key", flat=True))
        release_connection()
        for upload in chunk:
            if upload.key not in known:
                storage.abort_upload(upload)
                aborted += 1
    if aborted:
        logger.info("uploads aborted count=%d", aborted)
    return aborted
