"""Files of a form on their way in: written once, where the bucket wants them, while the form is being read.

Django hands blocks over as it parses; here they go straight to a staged file, so that nothing is copied later and
memory stays at one block. Nothing here writes the catalog.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from django.core.files.storage import Storage
from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import FileUploadHandler, SkipFile
from django.http import HttpRequest

from assets.content_types import resolve_content_type
from assets.staging import BLOCK, StagedFile, StagingWriter, staging_folder
from storagecache.environment import Environment
from storagecache.errors import StorageError
from storagecache.storages.durable import discard, open_staging, reopen


@dataclass(frozen=True, slots=True)
class RefusedFile:
    """A file of the form that could not be taken, and why."""

    name: str
    error: StorageError


class StagedUpload(UploadedFile):  # type: ignore[type-arg]
    """One file of a form in a private file near its bucket; `close` removes it, stored or not."""

    def __init__(self, folder: str, name: str, content_type: str) -> None:
        """Open an empty file in `folder`.

        Raises:
            StorageFullError, BackendUnavailableError
        """
        self._descriptor, self._path = open_staging(folder)
        try:
            stream = reopen(self._descriptor)
        except StorageError:
            discard(self._descriptor, self._path)
            raise
        self._writer = StagingWriter(self._descriptor, Environment.current().max_upload_bytes)
        super().__init__(stream, name, content_type, size=0)

    def take(self, block: bytes) -> None:
        """Write the next bytes (see `StagingWriter.write`)."""
        self._writer.write(block)
        self.size = self._writer.size

    def staged(self) -> StagedFile:
        """Give what services store; the type comes from the claim, the name and the first bytes."""
        claimed, name = self.content_type or "", self.name or ""
        return StagedFile(
            stream=cast("BinaryIO", self.file),
            path=self._path,
            size=self._writer.size,
            sha256=self._writer.sha256.hexdigest(),
            content_type=resolve_content_type(claimed, name, bytes(self._writer.head)),
        )

    def close(self) -> None:
        """Remove the private file; objects linked from it stay. A second call does nothing."""
        if not self.closed:
            super().close()
            discard(self._descriptor, self._path)


class StagingUploadHandler(FileUploadHandler):
    """Stages every file of one request; one that cannot be taken is skipped and noted in `refused`.

    Whoever makes the handler closes it when the request is answered.
    """

    chunk_size = BLOCK

    def __init__(self, request: HttpRequest | None = None, *, storage: Storage) -> None:
        super().__init__(request)
        self.refused: list[RefusedFile] = []
        self._storage = storage
        self._uploads: list[StagedUpload] = []

    def new_file(
        self,
        field_name: str,
        file_name: str,
        content_type: str,
        content_length: int | None,
        charset: str | None = None,
        content_type_extra: dict[str, Any] | None = None,
    ) -> None:
        """Open the next staged file."""
        super().new_file(field_name, file_name, content_type, content_length, charset, content_type_extra)
        try:
            self._uploads.append(StagedUpload(staging_folder(self._storage), file_name, content_type))
        except StorageError as error:
            self._refuse(error)

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        """Write a block; a file that is too large, or that the disk cannot take, is dropped and the form read on."""
        try:
            self._uploads[-1].take(raw_data)
        except StorageError as error:
            self._uploads.pop().close()
            self._refuse(error)

    def file_complete(self, file_size: int) -> StagedUpload:
        """Give the file to the form."""
        return self._uploads[-1]

    def close(self) -> None:
        """Remove every staged file, those of a form that was cut included."""
        for upload in self._uploads:
            upload.close()

    def _refuse(self, error: StorageError) -> None:
        self.refused.append(RefusedFile(self.file_name or "", error))
        raise SkipFile from error
