"""/api/assets/download: assets and whole folders as one zip, streamed."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from django.http import HttpRequest, HttpResponseBase, StreamingHttpResponse
from ninja import Router, Schema
from pydantic import Field

from assets.api.errors import UnprocessableError
from assets.api.requests import caller_id, errors, refuse_unknown
from assets.api.schemas import MAX_IDS, AssetId
from assets.services.archive import ArchiveError, plan_archive
from assets.services.archive_stream import ArchiveStream
from assets.serving.disposition import content_disposition

_ZIP: Final = "application/zip"
_BYTES: Final = {"type": "string", "format": "binary"}
_DESCRIPTION: Final = (
    "The archive, streamed. Folders stay folders, names are safe and unique, and `_errors.txt` lists what is missing."
)

router = Router()


class DownloadIn(Schema):
    """The assets and folders that the archive holds; one that is named twice, or lies in another, is there once."""

    asset_ids: list[AssetId] = Field(min_length=1, max_length=MAX_IDS)


@router.post(
    "/assets/download",
    response=errors(404, 408, 411, 413),
    summary="Download as zip",
    operation_id="download_assets",
    openapi_extra={"responses": {200: {"description": _DESCRIPTION, "content": {_ZIP: {"schema": _BYTES}}}}},
)
def download(request: HttpRequest, body: DownloadIn) -> HttpResponseBase:
    """Give assets and whole folders as one zip; it is made while it is sent, and not deflated."""
    refuse_unknown(request)
    try:
        archive = plan_archive(caller_id(request), [UUID(hex=found) for found in body.asset_ids])
    except ArchiveError as error:
        raise UnprocessableError(str(error)) from error
    response = StreamingHttpResponse(ArchiveStream(archive), content_type=_ZIP)
    response["Content-Disposition"] = content_disposition("attachment", archive.name)
    response["Cache-Control"] = "private, no-store"
    return response
