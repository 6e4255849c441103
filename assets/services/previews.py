"""What is kept of looks into media: small pictures, dimensions, durations; and the queue of looks to take.

The queue is the catalog: an object that is ready and `wanted` is due. A worker claims its row for a while, has
`assets.media` look into the bytes in a process of its own, and keeps what was found; a claim whose worker died is
taken again when it ends. Whatever moment that happens nothing half-made is visible: pictures are objects like any
other, pending until the section that refers to them, and purge takes what no section referred to.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from io import BytesIO
from typing import Any, Final, NoReturn
from uuid import UUID

from django.core.files.storage import storages
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.utils import timezone

from assets.media.kinds import PICTURE_TYPE, kind_of
from assets.media.sandbox import NoPreviewError, Preview, look_into
from assets.media.source import local_file
from assets.models import Asset, Rendition, StoredObject
from assets.services.objects import (
    UploadGivenUpError,
    discard_object,
    drop_references,
    lock_objects,
    make_ready,
    storage_of,
    store_object,
)
from assets.services.sections import release_connection, write_section
from assets.services.shown import AnyObject
from assets.staging import stage_stream, staging_folder
from storagecache.environment import Environment
from storagecache.errors import ObjectNotFoundError, StorageError

logger = logging.getLogger(__name__)

Want = StoredObject.Preview
Ready = StoredObject.State.READY
LEASE: Final = timedelta(minutes=5)  # a look takes half a minute at most, fetching a film from S3 some more
PAUSE: Final = timedelta(minutes=1)  # before the next try at a bucket that does not answer
MAX_TRIES: Final = 3  # looks that end with their worker: it is the file, then
IDLE: Final = 0.5  # seconds between two questions for work
AFTER_FAILURE: Final = 15.0  # seconds until the next one; each failure is logged with its traceback
_POLL: Final = 0.05  # seconds between two looks of a waiting request
_WAITERS: Final = 16  # requests that wait at once in a process; the others are told to come back
_PAGE: Final = 1000  # rows in one statement
_NOTE: Final = 100  # characters
_MEASURED: Final = ("width", "height", "duration")
_waiting = threading.BoundedSemaphore(_WAITERS)


# --- what uploads ask -----------------------------------------------------------------------------


def preview_for(content_type: str) -> str:
    """Tell whether a new object of this type is to be looked into."""
    return Want.WANTED if kind_of(content_type) else Want.UNASKED


def measured(stored: StoredObject) -> dict[str, Any]:
    """Give what is known of an object's pixels and seconds, as fields of an asset. Call it inside the section.

    Costs nothing, but for a shared object that is being looked into at this moment: then one SELECT.
    """
    if stored.preview == Want.WANTED and stored.state == Ready:
        stored.refresh_from_db(fields=_MEASURED)
    return {name: value for name in _MEASURED if (value := getattr(stored, name)) is not None}


def announce(stored: StoredObject) -> dict[str, Any]:
    """Note that an object which may be wanted is ready, behind the section that made it so.

    A worker finds it by itself. Where no worker can (objects in memory) a thread of this process does it; in tests it
    is done now, and what was measured is returned as fields of an asset.
    """
    if stored.preview != Want.WANTED:
        return {}
    environment = Environment.current()
    if environment.env == "test":
        make(stored.pk)
        return measured(StoredObject.objects.get(pk=stored.pk))
    if environment.storage_kind == "memory":
        _start_thread()
    return {}


# --- what readers ask -----------------------------------------------------------------------------


def shows_picture(stored: AnyObject) -> bool:
    """Tell whether there is a picture of an object, or one may be made; costs nothing."""
    if stored.preview in (Want.MADE, Want.NONE):
        return bool(stored.color)
    return kind_of(stored.content_type) in ("image", "video")


def find_shown(asset_id: str) -> Asset:
    """Find a live file by its id (32 hex digits), whoever owns it, with its object; costs one SELECT.

    Raises:
        ObjectNotFoundError: none, a folder, trashed or expired: always the same text.
    """
    found = None
    if len(asset_id) == 32 and set(asset_id) <= set("0123456789abcdef"):
        alive = Asset.objects.alive(timezone.now()).filter(pk=UUID(hex=asset_id), object__isnull=False)
        found = alive.select_related("object").first()
    if found is None:
        raise no_picture()
    return found


def no_picture() -> ObjectNotFoundError:
    """Make the one error of an asset that shows nothing, or that the reader may not see."""
    return ObjectNotFoundError("There is no picture of an asset with this id.")


def picture_of(source_id: UUID, size: int) -> StoredObject | None:
    """Give the object of a small picture, if it is made; costs one SELECT."""
    renditions = Rendition.objects.filter(source_id=source_id, size=size).select_related("object")
    found = next(iter(renditions[:1]), None)
    return found.object if found else None


def await_picture(stored: StoredObject, size: int, *, seconds: float) -> StoredObject | None:
    """Give a small picture, made within `seconds`, or None. Only some requests wait; an object never asked about is
    asked about now.
    """
    if stored.preview == Want.UNASKED and shows_picture(stored):
        ask([stored.pk])
        stored.refresh_from_db(fields=["preview"])
        announce(stored)
    if stored.preview == Want.NONE or not shows_picture(stored):
        return None
    found = picture_of(stored.pk, size)
    if found is not None or seconds <= 0 or not _waiting.acquire(blocking=False):
        return found
    try:
        return _polled(stored.pk, size, time.monotonic() + seconds)
    finally:
        _waiting.release()


def _polled(source_id: UUID, size: int, deadline: float) -> StoredObject | None:
    while (found := picture_of(source_id, size)) is None and time.monotonic() < deadline:
        release_connection()
        time.sleep(_POLL)
        if not StoredObject.objects.filter(pk=source_id, preview=Want.WANTED).exists():
            return picture_of(source_id, size)
    return found


def ask(source_ids: list[UUID]) -> int:
    """Have objects looked into, again if they were; tells how many."""
    with write_section():
        asked = StoredObject.objects.filter(pk__in=source_ids, state=Ready).exclude(preview=Want.WANTED)
        count = asked.update(preview=Want.WANTED, preview_tries=0, preview_at=None, preview_note="")
    release_connection()
    return count


# --- the work -------------------------------------------------------------------------------------


def make_next() -> bool:
    """Look into the object that has waited longest; tells whether there was one. Any number may do so at once."""
    return _make(StoredObject.objects.all())


def make(source_id: UUID) -> bool:
    """Look into this object, if it is due."""
    return _make(StoredObject.objects.filter(pk=source_id))


def work_forever(*, sleep: Callable[[float], None] = time.sleep) -> NoReturn:
    """Make what is wanted, one after the other, until `sleep` raises. A failure of ours is logged, and not the end."""
    while True:
        try:
            pause = 0.0 if make_next() else IDLE
        except Exception:  # the catalog is away, or this machine is full: both pass
            logger.exception("previews failed next_in=%d", AFTER_FAILURE)
            pause = AFTER_FAILURE
        if pause:
            release_connection()
            sleep(pause)


@functools.cache
def _start_thread() -> threading.Thread:
    thread = threading.Thread(target=work_forever, name="previews", daemon=True)
    thread.start()
    return thread


def _make(chosen: QuerySet[StoredObject]) -> bool:
    source = _claim(chosen)
    if source is None:
        return False
    if source.preview_tries >= MAX_TRIES:
        _settle(source, Want.NONE, "the look never ended")
        return True
    try:
        _keep(source, _look(source))
    except (NoPreviewError, ObjectNotFoundError) as error:
        logger.info("no preview object=%s reason=%s", source.pk, error)
        _settle(source, Want.NONE, str(error))
    except (StorageError, OSError) as error:  # no process, no room for the answer: no fault of the file either
        logger.warning("preview put off object=%s reason=%s", source.pk, error)
        _put_off(source)
    return True


def _claim(chosen: QuerySet[StoredObject]) -> StoredObject | None:
    """Take one due object for the time of a lease; asked first outside of the section, for mostly there is none."""
    now = timezone.now()
    free = Q(preview_at=None) | Q(preview_at__lte=now)
    due = chosen.filter(free, preview=Want.WANTED, state=Ready).order_by("pk")
    there = due.exists()
    release_connection()
    if not there:
        return None
    with write_section():
        source = next(iter(due.select_for_update(skip_locked=True)[:1]), None)
        if source is not None:
            row = StoredObject.objects.filter(pk=source.pk)
            row.update(preview_tries=F("preview_tries") + 1, preview_at=now + LEASE)
    release_connection()
    return source


def _look(source: StoredObject) -> Preview:
    kind = kind_of(source.content_type)
    if kind is None:
        raise NoPreviewError("not media")
    storage = storage_of(source)
    with local_file(storage, source.key, size=source.size, kind=kind, folder=staging_folder(storage)) as stream:
        return look_into(stream, kind)


def _keep(source: StoredObject, preview: Preview) -> None:
    """Store the pictures, then refer to them in one section, then tell the assets.

    In this order, and wanted until the end: an upload that shares the object meanwhile reads the figures from it.
    """
    by_size = _store_pictures(source.storage, preview.pictures)
    try:
        _refer(source, by_size, preview)
    except (ObjectNotFoundError, UploadGivenUpError):
        for stored in _distinct(by_size):
            discard_object(stored)  # purge may have forgotten them by now
        raise
    _tell_assets(source, {name: value for name in _MEASURED if (value := getattr(preview, name)) is not None})
    _settle(source, Want.MADE, "")


def _store_pictures(alias: str, pictures: Mapping[int, bytes]) -> dict[int, StoredObject]:
    """Store each picture once: those of a source that is small itself are equal."""
    by_bytes: dict[bytes, StoredObject] = {}
    for data in pictures.values():
        if data not in by_bytes:
            with stage_stream(BytesIO(data), storages[alias], name="preview.webp", content_type=PICTURE_TYPE) as staged:
                by_bytes[data] = store_object(staged, alias)
    return {size: by_bytes[data] for size, data in pictures.items()}


def _distinct(by_size: dict[int, StoredObject]) -> list[StoredObject]:
    return list({stored.pk: stored for stored in by_size.values()}.values())


def _refer(source: StoredObject, by_size: dict[int, StoredObject], preview: Preview) -> None:
    """Make the pictures ready in the place of earlier ones. The source is locked first, as purge does.

    Raises:
        ObjectNotFoundError: the source is being collected.
        UploadGivenUpError: purge took the pictures for abandoned.
    """
    kind = Rendition.Kind.THUMBNAIL if kind_of(source.content_type) == "image" else Rendition.Kind.POSTER
    with write_section():
        locked = lock_objects(source.pk).get(source.pk)
        if locked is None or locked.state != Ready:
            raise ObjectNotFoundError("The source went away meanwhile.")
        _drop_pictures(source.pk)
        for stored in _distinct(by_size):
            make_ready(stored)
        Rendition.objects.bulk_create(
            Rendition(source=source, kind=kind, size=size, object=stored) for size, stored in by_size.items()
        )
        row = StoredObject.objects.filter(pk=source.pk)
        row.update(color=preview.color, **{name: getattr(preview, name) for name in _MEASURED})
    release_connection()


def _drop_pictures(source_id: UUID) -> None:
    earlier = Rendition.objects.filter(source_id=source_id)
    held = list(earlier.values_list("object_id", flat=True))
    if held:
        earlier.delete()
        drop_references(*held)


def _tell_assets(source: StoredObject, known: dict[str, Any]) -> None:
    """Write what was measured into the assets of an object, page by page: a shared one may have many.

    Neither `revision` nor `updated_at` moves: nobody changed the record.
    """
    last = UUID(int=0)
    while known:
        ids = list(Asset.objects.filter(object=source, pk__gt=last).order_by("pk").values_list("pk", flat=True)[:_PAGE])
        release_connection()
        if not ids:
            return
        with write_section():
            Asset.objects.filter(pk__in=ids, object=source).update(**known)
        last = ids[-1]
    release_connection()


def _settle(source: StoredObject, outcome: str, note: str) -> None:
    with write_section():
        row = StoredObject.objects.filter(pk=source.pk, preview=Want.WANTED)
        row.update(preview=outcome, preview_note=note[:_NOTE], preview_tries=0, preview_at=None)
    release_connection()


def _put_off(source: StoredObject) -> None:
    """Leave an object for later whose bytes were out of reach: that is no fault of the file, so it is not counted."""
    with write_section():
        row = StoredObject.objects.filter(pk=source.pk, preview=Want.WANTED)
        row.update(preview_tries=source.preview_tries, preview_at=timezone.now() + PAUSE)
    release_connection()


# --- making anew ----------------------------------------------------------------------------------


def ask_for_all(*, missing: bool) -> Iterator[int]:
    """Have every object of media looked into, or those of which nothing is made; yields how many, page by page."""
    last: UUID | None = UUID(int=0)
    while last is not None:
        page = list(_candidates(missing).filter(pk__gt=last)[:_PAGE])
        release_connection()
        last = page[-1][0] if len(page) == _PAGE else None
        chosen = [pk for pk, content_type in page if kind_of(content_type)]
        if chosen:
            yield ask(chosen)


def _candidates(missing: bool) -> QuerySet[StoredObject, tuple[UUID, str]]:
    """Give ready objects that are no pictures of others."""
    made = Exists(Rendition.objects.filter(object=OuterRef("pk")))
    rows = StoredObject.objects.filter(~made, state=Ready).order_by("pk")
    rows = rows.exclude(preview=Want.MADE) if missing else rows
    return rows.values_list("pk", "content_type")
