"""Objects and the references to them: pending -> ready -> deleting -> gone.

The row comes before the bytes and goes after them, so whenever the process dies a row tells what is left to do.
"""

from __future__ import annotations

from datetime import timedelta
from typing import IO, Final, Protocol, cast
from uuid import UUID

from django.core.files.base import File
from django.core.files.storage import Storage, storages
from django.db import models, transaction
from django.utils import timezone

from assets.content_types import object_extension
from assets.ids import new_id
from assets.models import StoredObject
from assets.services.sections import release_connection, write_section
from assets.staging import StagedFile
from storagecache.errors import BackendUnavailableError, ObjectNotFoundError
from storagecache.keys import new_object_key

SHARED_ALIASES: Final = frozenset({"assets"})  # temp objects are never shared
_HEARTBEAT: Final = timedelta(minutes=1)


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
        BackendUnavailableError: the catalog recorded a bucket that is not configured now.
    """
    storage = storages[stored.storage]
    current = bucket_of(storage)
    if current != stored.bucket:
        raise BackendUnavailableError(
            f"{stored.bucket}/{stored.key} was stored in the bucket {stored.bucket!r}, but {stored.storage!r} is "
            f"{current!r} now. Configure the recorded bucket, or move the objects."
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
        """Record the multipart upload, so that purge can abort it after a crash."""
        self._update(upload_id=upload_id)

    def on_progress(self) -> None:
        """Keep a long transfer from looking abandoned."""
        if timezone.now() >= self._refresh_at:
            self._refresh_at = timezone.now() + _HEARTBEAT
            self._update()

    def _update(self, **fields: str) -> None:
        with write_section():
            _pending(self._object_id).update(state_changed_at=timezone.now(), **fields)
        release_connection()


def store_object(staged: StagedFile, alias: str) -> UUID:
    """Put staged bytes into a bucket as a new pending object; costs one INSERT and one save.

    Raises:
        StorageFullError, BackendUnavailableError: purge removes what may be left.
    """
    storage = storages[alias]
    object_id = new_id()
    key = new_object_key(object_id, object_extension(staged.content_type), prefix=getattr(storage, "object_prefix", ""))
    now = timezone.now()
    with write_section():
        StoredObject.objects.create(
            id=object_id, storage=alias, bucket=bucket_of(storage), key=key, size=staged.size, sha256=staged.sha256,
            content_type=staged.content_type, state_changed_at=now, referenced_at=now, created_at=now,
        )  # fmt: skip
    release_connection()
    staged.stream.seek(0)
    storage.save(key, ObjectContent(staged, object_id))
    return object_id


def find_twin(staged: StagedFile, alias: str, owner_id: int) -> UUID | None:
    """Find a ready object of this owner with the same bytes, whose bytes are really there."""
    if alias not in SHARED_ALIASES:
        return None
    twin = StoredObject.objects.filter(
        storage=alias, bucket=bucket_of(storages[alias]), sha256=staged.sha256, size=staged.size,
        state=StoredObject.State.READY, assets__owner_id=owner_id,
    ).first()  # fmt: skip
    release_connection()
    if twin is None:
        return None
    try:
        return twin.id if storages[alias].size(twin.key) == twin.size else None
    except (ObjectNotFoundError, BackendUnavailableError):
        return None  # a lost twin must not swallow new bytes


def make_ready(object_id: UUID) -> None:
    """Declare a pending object whole, inside the section that refers to it.

    Raises:
        BackendUnavailableError: purge took it for abandoned.
    """
    now = timezone.now()
    made = _pending(object_id).update(
        state=StoredObject.State.READY, state_changed_at=now, referenced_at=now, deletes_left=1, upload_id=""
    )
    if not made:
        raise BackendUnavailableError("The upload was given up before it ended. Send it again.")


class ObjectCollectedError(BackendUnavailableError):
    """The object that was to be shared is being collected: store the bytes anew."""


def take_reference(object_id: UUID) -> None:
    """Note that a row is about to refer to a ready object.

    Raises:
        ObjectCollectedError: it is not ready any more.
    """
    ready = StoredObject.objects.filter(id=object_id, state=StoredObject.State.READY)
    if not ready.update(referenced_at=timezone.now()):
        raise ObjectCollectedError("The object is being collected.")


def lock_objects(*object_ids: UUID | None) -> None:
    """Lock objects in the order of their ids, so that two sections that swap a pair do not wait for each other."""
    chosen = StoredObject.objects.filter(id__in=[i for i in object_ids if i])
    if transaction.get_connection().features.has_select_for_update:
        list(chosen.order_by("id").select_for_update().values_list("id"))


def drop_references(*object_ids: UUID | None) -> None:
    """Note that rows stopped referring to these objects, in the section that changes those rows."""
    StoredObject.objects.filter(id__in=[i for i in object_ids if i]).update(referenced_at=timezone.now())


def _pending(object_id: UUID) -> models.QuerySet[StoredObject]:
    return StoredObject.objects.filter(id=object_id, state=StoredObject.State.PENDING)
