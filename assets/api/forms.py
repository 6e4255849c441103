"""A multipart form that brings a file: read once, into a staged file, and only taken when all of it came.

Who sends it is known before it is read, but for the CSRF token of a session, which may be one of its fields.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from django.core.exceptions import RequestDataTooBig
from django.core.files.storage import storages
from django.http import HttpRequest

from assets.api.errors import BadRequestError, LengthRequiredError
from assets.api.requests import Caller
from assets.services import release_connection
from assets.serving.uploads import RequestBody, announced_length
from assets.staging import BLOCK
from assets.upload_handler import StagedUpload, StagingUploadHandler
from storagecache.environment import Environment
from storagecache.errors import DigestMismatchError, ObjectTooLargeError

if TYPE_CHECKING:
    from typing_extensions import Buffer

_BESIDE_FILE: Final = 8 << 20  # bytes that a form may have beside its file
_MULTIPART: Final = "multipart/form-data"
_FORMS: Final = frozenset({_MULTIPART, "application/x-www-form-urlencoded"})
_JSON_FILE: Final = 4 << 20  # bytes


class UploadingCaller(Caller):
    """The caller, for a route that takes a form: prepares its reading first, since the CSRF check may read it."""

    def __call__(self, request: HttpRequest) -> int:
        """Give the caller's id; see `Caller`."""
        handler = StagingUploadHandler(request, storage=storages["assets"])
        request.upload_handlers = [handler]
        length = announced_length(request)
        body = RequestBody(request.META["wsgi.input"], length or 0)
        closing = _Closing((request.content_params or {}).get("boundary", ""))
        # Where Django reads the body from: it wants a file, with lines.
        request._stream = cast("BinaryIO", io.BufferedReader(_Raw(body, closing), BLOCK))
        request.nodetool_form = _Incoming(handler, body, closing, length)  # type: ignore[attr-defined]
        try:
            return super().__call__(request)
        except BaseException:
            handler.close()
            raise


class _Closing:
    """Watches a form go by for the boundary that closes it (RFC 2046 5.1.1): Django takes a form without one."""

    def __init__(self, boundary: str) -> None:
        self._mark = b"--%b--" % boundary.encode()
        self._tail = b""
        self.came = False

    def watch(self, block: bytes) -> None:
        """Look at the next bytes; the boundary may lie across two blocks."""
        short = len(self._mark) - 1
        seam = self._tail + block[:short]
        self.came = self.came or self._mark in seam or self._mark in block
        self._tail = (seam if len(block) < short else block)[-short:]


class _Raw(io.RawIOBase):
    """The body as the lowest layer of Python's files."""

    def __init__(self, body: RequestBody, closing: _Closing) -> None:
        self._body = body
        self._closing = closing

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer)
        block = self._body.read(len(view))
        self._closing.watch(block)
        view[: len(block)] = block
        return len(block)


@dataclass(frozen=True, slots=True)
class _Incoming:
    handler: StagingUploadHandler
    body: RequestBody
    closing: _Closing
    length: int | None


@dataclass(frozen=True, slots=True)
class AssetForm:
    """What a form brought: the text of its field `json`, if there is one, and its file, if there is one."""

    json: str | bytes | None
    file: StagedUpload | None


def read_form(request: HttpRequest) -> AssetForm:
    """Read the form of a request that `UploadingCaller` let in.

    What Django refuses, and what makes it break off, is put into words by `assets.api.errors`.

    Raises:
        BadRequestError: two files, or two of the field `json`, or no closing boundary.
        LengthRequiredError: nobody can tell whether it is whole.
        DigestMismatchError: it was cut on its way.
        ObjectTooLargeError, StorageFullError, SlowBodyError, BackendUnavailableError: the file could not be taken.
    """
    incoming: _Incoming = request.nodetool_form  # type: ignore[attr-defined]
    if incoming.length is None:
        raise LengthRequiredError("Send Content-Length: a form in chunks may be cut unnoticed.")
    if incoming.length > Environment.current().max_upload_bytes + _BESIDE_FILE:
        raise ObjectTooLargeError(f"The form has more than {Environment.current().max_upload_bytes} bytes.")
    release_connection()
    _ = request.POST  # the CSRF check may have read it, then it is there
    if incoming.body.left and request.content_type in _FORMS:
        raise DigestMismatchError(f"The form ended {incoming.body.left} bytes early.")
    if request.content_type == _MULTIPART and not incoming.closing.came:
        raise BadRequestError("The form has no closing boundary, so its last part may be cut.")
    for refused in incoming.handler.refused:
        raise refused.error
    return AssetForm(_json_of(request), _file_of(request))


def close_form(request: HttpRequest) -> None:
    """Remove the staged files of a request; what was stored stays."""
    incoming: _Incoming = request.nodetool_form  # type: ignore[attr-defined]
    incoming.handler.close()


def _json_of(request: HttpRequest) -> str | bytes | None:
    """Give the field `json`; browsers send a Blob as a file."""
    sent = request.FILES.get("json")
    if len(request.FILES.getlist("json")) + len(request.POST.getlist("json")) > 1:
        raise BadRequestError("json: given more than once.")
    if sent is None:
        return request.POST.get("json")
    if (sent.size or 0) > _JSON_FILE:
        raise RequestDataTooBig
    sent.seek(0)  # it was written through the same descriptor
    return cast("bytes", sent.read())


def _file_of(request: HttpRequest) -> StagedUpload | None:
    files = request.FILES.getlist("file")
    if len(files) > 1:
        raise BadRequestError("file: given more than once.")
    return cast("StagedUpload", files[0]) if files else None
