"""Objects and the references to them: pending -> ready -> deleting -> gone.

The row comes before the bytes and goes after them, so whenever the process dies a row tells what is left to do.
"""

from __future__ import annotations

import functools
import logging
from datetime import timedelta
from typing import IO, Final, Protocol, cast
from uuid import UUID

from django.core.files.base import File
from django.core.files.storage import InvalidStorageError, Storage, storages
from django.db import models
from django.db.models import Exists, OuterRef
from django.utils import timezone

from assets.content_types import object_extension
from assets.ids import new_id
from assets.models import Asset, StoredObject
from assets.services.sections import release_connection, write_section
from assets.staging import StagedFile
from storagecache.errors import BackendTimeoutError, BackendUnavailableError, ObjectNotFoundError, StorageError
from storagecache.keys import new_object_key

logger = logging.getLogger(__name__)

SHARED_ALIASES: Final = frozenset({"assets"})  # temp objects are never shared
_READY: Final = StoredObject.State.READY
_HEARTBEAT: Final = timedelta(minutes=1)
_GIVEN_UP: Final = "The upload was given up before it ended. Send it again."


class Placed(Protocol):
    """Anything that says where bytes lie, as the catalog recorded it."""

    @property
    def storage(self) -> str:
        """The storage alias."""
        ...

    @property
    def bucket(self) -> str:
        """The S3 bucket or folder name."""
        ...

    @property
    def key(self) -> str:
        """The object's key in that bucket."""
        ...


def storage_of(stored: Placed) -> Storage:
    """Give the storage that holds an object.

    Raises:
        BackendUnavailableError: the catalog recorded a storage or a bucket that is not configured now.
    """
    place = f"{stored.bucket}/{stored.key}"
    try:
        storage = storages[stored.storage]
    except InvalidStorageError as error:
        raise BackendUnavailableError(f"{place} is in the storage {stored.storage!r}, which is not set up.") from error
    current = bucket_of(storage)
    if current != stored.bucket:
        raise BackendUnavailableError(
            f"{place} was stored in the bucket {stored.bucket!r}, but {stored.storage!r} is {current!r} now. "
            "Configure the recorded bucket, or move the objects."
        )
    return storage


def bucket_of(storage: Storage) -> str:
    """Give the bucket that the catalog records for a storage."""
    return cast("str", storage.bucket)  # type: ignore[attr-defined]


class ObjectContent(File):  # type: ignore[type-arg]
    """A staged file on its way into a storage; hears of its progress (see `storagecache.capabilities`)."""

    def __init__(self, staged: StagedFile, object_id: UUID) -> None:
        super().__init__(cast("IO[bytes]", staged.stream))
        self._descriptor = staged.stream.fileno()
        self.size = staged.size
        self.staged_path = staged.path
        self._object_id = object_id
        self._refresh_at = timezone.now() + _HEARTBEAT

    def fileno(self) -> int:
        """Give the descriptor of the staged file."""
        return self._descriptor

    def on_upload_started(self, upload_id: str) -> None:
        """Record the multipart upload, so that purge can abort it after a crash.

        Raises:
            UploadGivenUpError: purge took it for abandoned.
        """
        self._update(upload_id=upload_id)

    def on_progress(self) -> None:
        """Keep a long transfer from looking abandoned.

        Raises:
            UploadGivenUpError: it did look abandoned.
        """
        if timezone.now() < self._refresh_at:
            return
        try:
            self._update()
        except UploadGivenUpError:
            raise
        except BackendUnavailableError as error:
            # The transfer need not end because the catalog is busy: the next part asks again.
            logger.warning("upload not refreshed object=%s reason=%s", self._object_id, error)
            return
        self._refresh_at = timezone.now() + _HEARTBEAT

    def _update(self, **fields: str) -> None:
        with write_section():
            alive = _pending(self._object_id).update(state_changed_at=timezone.now(), **fields)
        release_connection()
        if not alive:
            raise UploadGivenUpError(_GIVEN_UP)


class UploadGivenUpError(BackendUnavailableError):
    """The object is not pending any more: purge took its upload for abandoned."""


class ObjectCollectedError(BackendUnavailableError):
    """The object that was to be shared is being collected: store the bytes anew."""


def store_object(staged: StagedFile, alias: str, *, preview: str = "") -> StoredObject:
    """Put staged bytes into a bucket as a new pending object; costs one INSERT and one save.

    `preview` says whether it is to be looked into once it is ready (see `services.previews`).

    Raises:
        StorageFullError, BackendUnavailableError: purge removes what may be left.
    """
    storage = storages[alias]
    object_id = new_id()
    key = new_object_key(object_id, object_extension(staged.content_type), prefix=getattr(storage, "object_prefix", ""))
    now = timezone.now()
    stored = StoredObject(
        id=object_id, storage=alias, bucket=bucket_of(storage), key=key, size=staged.size, sha256=staged.sha256,
        content_type=staged.content_type, state_changed_at=now, referenced_at=now, created_at=now, preview=preview,
    )  # fmt: skip
    with write_section():
        stored.save(force_insert=True)
    release_connection()
    staged.stream.seek(0)
    storage.save(key, ObjectContent(staged, object_id))
    return stored


def discard_object(stored: StoredObject) -> None:
    """Delete the bytes of an upload that was given up: its row may be gone, then nobody else knows of them."""
    try:
        storage_of(stored).delete(stored.key)
    except StorageError as error:
        logger.warning("object left behind bucket=%s key=%s reason=%s", stored.bucket, stored.key, error)


def find_twin(staged: StagedFile, alias: str, owner_id: int) -> StoredObject | None:
    """Find a ready object of this owner with the same bytes, whose bytes are really there."""
    if alias not in SHARED_ALIASES:
        return None
    asked = (1, owner_id, bucket_of(storages[alias]), staged.sha256, staged.size, _READY, alias)
    twin = next(iter(StoredObject.objects.raw(_twin_sql(), asked)), None)
    release_connection()
    if twin is None:
        return None
    try:
        return twin if storages[alias].size(twin.key) == twin.size else None
    except BackendTimeoutError:
        raise  # storing would last as long once more
    except (ObjectNotFoundError, BackendUnavailableError):
        return None  # a lost twin must not swallow new bytes


@functools.cache
def _twin_sql() -> str:
    """Let the ORM write the statement once, which takes it six times as long as asking does.

    Its parameters are 1, owner, bucket, SHA-256, size, state and alias, in this order.
    """
    # Not a join: SQLite would start it from the owner, and read all of the owner's assets.
    owned = Exists(Asset.objects.filter(object=OuterRef("pk"), owner_id=1))
    twins = StoredObject.objects.filter(owned, storage="a", bucket="b", sha256="s", size=2, state=_READY)
    sql, parameters = twins[:1].query.sql_with_params()
    assert parameters == (1, 1, "b", "s", 2, _READY, "a"), parameters
    return str(sql)


def make_ready(stored: StoredObject) -> None:
    """Declare a pending object whole, inside the section that refers to it.

    Raises:
        UploadGivenUpError: purge took it for abandoned.
    """
    now = timezone.now()
    made = _pending(stored.id).update(
        state=StoredObject.State.READY, state_changed_at=now, referenced_at=now, deletes_left=1, upload_id=""
    )
    if not made:
        raise UploadGivenUpError(_GIVEN_UP)


def take_reference(stored: StoredObject) -> None:
    """Note that a row is about to refer to a ready object.

    Raises:
        ObjectCollectedError: it is not ready any more.
    """
    ready = StoredObject.objects.filter(id=stored.id, state=StoredObject.State.READY)
    if not ready.update(referenced_at=timezone.now()):
        raise ObjectCollectedError("The object is being collected.")


def lock_objects(*object_ids: UUID | None) -> dict[UUID, StoredObject]:
    """Read and lock objects in the order of their ids, so that two sections that swap a pair do not wait in a ring.

    What a SELECT joins is read before its lock is got: PostgreSQL gives a row that waited the joined rows of the
    older snapshot, or none. So a row that was waited for is read again, here, behind its lock.
    """
    chosen = StoredObject.objects.filter(id__in={i for i in object_ids if i}).order_by("id")
    return {stored.id: stored for stored in chosen.select_for_update(no_key=True)}


def drop_references(*object_ids: UUID | None) -> None:
    """Note that rows stopped referring to these objects, in the section that changes those rows."""
    StoredObject.objects.filter(id__in=[i for i in object_ids if i]).update(referenced_at=timezone.now())


def _pending(object_id: UUID) -> models.QuerySet[StoredObject]:
    return StoredObject.objects.filter(id=object_id, state=StoredObject.State.PENDING)
