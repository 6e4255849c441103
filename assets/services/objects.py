"""Objects and the references to them: pending -> ready -> deleting -> gone.

The row comes before the bytes and goes after them, so whenever the process dies a row tells what is left to do.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import IO, Final, Protocol, cast
from uuid import UUID

from django.core.files.base import File
from django.core.files.storage import InvalidStorageError, Storage, storages
from django.db import models
from django.db.models import Exists, OuterRef, Value
from django.utils import timezone

from assets.content_types import object_extension
from assets.ids import new_id
from assets.models import Asset, StoredObject
from assets.prepared import Change, Given, Insertion, Selection
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
        _INSERT.run(stored)
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
    bucket = bucket_of(storages[alias])
    twin = _TWIN.first(owner=owner_id, storage=alias, bucket=bucket, sha256=staged.sha256, size=staged.size)
    release_connection()
    if twin is None:
        return None
    try:
        return twin if storages[alias].size(twin.key) == twin.size else None
    except BackendTimeoutError:
        raise  # storing would last as long once more
    except (ObjectNotFoundError, BackendUnavailableError):
        return None  # a lost twin must not swallow new bytes


def make_ready(stored: StoredObject) -> None:
    """Declare a pending object whole, inside the section that refers to it.

    Raises:
        UploadGivenUpError: purge took it for abandoned.
    """
    now = timezone.now()
    if not _MAKE_READY.run(id=stored.id, now=now):
        raise UploadGivenUpError(_GIVEN_UP)


def take_reference(stored: StoredObject) -> None:
    """Note that a row is about to refer to a ready object.

    Raises:
        ObjectCollectedError: it is not ready any more.
    """
    if not _REFER.run(id=stored.id, now=timezone.now()):
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


def _pending(object_id: UUID | Value) -> models.QuerySet[StoredObject]:
    return StoredObject.objects.filter(id=object_id, state=StoredObject.State.PENDING)


def _given(field: str, name: str = "") -> Given:
    return Given(StoredObject, field, name)


def _twins() -> models.QuerySet[StoredObject]:
    # Not a join: SQLite would start it from the owner, and read all of the owner's assets.
    owned = Exists(Asset.objects.filter(object=OuterRef("pk"), owner_id=Given(Asset, "owner")))
    same = {name: _given(name) for name in ("storage", "bucket", "sha256", "size")}
    return StoredObject.objects.filter(owned, state=_READY, **same)


_TWIN: Final = Selection(_twins)
_INSERT: Final = Insertion(StoredObject)
_MAKE_READY: Final = Change(
    lambda: _pending(_given("id")),
    lambda: {
        "state": _READY,
        "state_changed_at": _given("state_changed_at", "now"),
        "referenced_at": _given("referenced_at", "now"),
        "deletes_left": 1,
        "upload_id": "",
    },
)
_REFER: Final = Change(
    lambda: StoredObject.objects.filter(id=_given("id"), state=_READY),
    lambda: {"referenced_at": _given("referenced_at", "now")},
)
