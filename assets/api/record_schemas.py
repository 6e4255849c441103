"""The JSON of single assets: what may be said of one when it is made or changed. Shapes only; no query is made here."""

from __future__ import annotations

import unicodedata
from typing import Annotated, Final
from uuid import UUID

from ninja import Schema
from pydantic import AfterValidator, BaseModel, Field, JsonValue
from pydantic_core import PydanticCustomError

from assets.api.numbers import JsonFloat, JsonInt
from assets.api.schemas import AmountOut, AssetId, AssetOut, Text
from assets.content_types import clean_content_type
from assets.models import Asset
from assets.services.folders import FOLDER

MAX_NAME: Final = 1024  # characters
MAX_TAGS: Final = 100
MAX_SOURCES: Final = 1000
MAX_USES: Final = 100  # that an answer names
MAX_LIFE: Final = 10 * 365 * 86_400  # seconds
# As JSON schema says it: no control characters, and not only spaces.
_NAME_PATTERN: Final = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"


def _worded(text: str) -> str:
    if any(unicodedata.category(letter) == "Cc" for letter in text):
        raise PydanticCustomError("controls", "control characters are not allowed")
    if not text.strip():
        raise PydanticCustomError("empty", "must not be empty")
    return text


def _typed(text: str) -> str:
    if text != FOLDER and not clean_content_type(text):
        raise PydanticCustomError("type", "must be 'folder' or a type such as image/png")
    return text


Worded = Annotated[str, AfterValidator(_worded), Field(json_schema_extra={"pattern": _NAME_PATTERN})]
Name = Annotated[Worded, Field(min_length=1, max_length=MAX_NAME)]
Tag = Annotated[Worded, Field(min_length=1, max_length=255)]
Tags = Annotated[list[Tag], Field(max_length=MAX_TAGS)]
ContentType = Annotated[str, AfterValidator(_typed), Field(max_length=255)]
Metadata = dict[str, JsonValue]  # `assets.services.metadata` judges it


class AssetCreate(BaseModel):
    """What is said of a new asset. Without a name it has the file's, without a type that of its bytes and name."""

    name: Name | None = None
    content_type: ContentType | None = Field(default=None, description="`folder` makes a folder, which has no file")
    parent_id: Text | None = Field(default=None, description="a folder; the user's id, or none, is home")
    workflow_id: Text | None = None
    job_id: Text | None = None
    node_id: Text | None = None
    metadata: Metadata | None = None
    tags: Tags | None = None
    expires_in: JsonInt | None = Field(default=None, ge=1, le=MAX_LIFE, description="seconds; not for folders")
    sources: Annotated[list[AssetId], Field(max_length=MAX_SOURCES)] | None = Field(
        default=None, description="the assets it was made from; those that are not there are left out"
    )
    duration: JsonFloat | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="seconds; the measured one wins"
    )
    size: JsonInt | None = Field(default=None, ge=0, description="accepted and ignored: the measured one counts")

    def source_ids(self) -> tuple[UUID, ...]:
        """Give the sources, each once."""
        return tuple(dict.fromkeys(UUID(source) for source in self.sources or ()))


class AssetChange(BaseModel):
    """What is to change of an asset; null or absent is to stay. `data` is text that replaces its bytes."""

    name: Name | None = None
    parent_id: Text | None = Field(default=None, description="a folder to move it to; the user's id is home")
    content_type: ContentType | None = None
    metadata: Metadata | None = Field(default=None, description="replaces all of it")
    tags: Tags | None = Field(default=None, description="replaces all of them")
    data: str | None = None


class DeleteQuery(Schema):
    """How to delete."""

    permanent: bool = Field(default=False, description="skip the trash; also takes what is in it")


class AssetRef(BaseModel):
    """An asset that is named beside another one."""

    id: str
    name: str


class DeletedOut(BaseModel):
    """What a deletion took, children before their folders, and whom it may concern."""

    deleted_asset_ids: list[str]
    used_by: list[AssetRef] = Field(
        default=[],
        description=f"live assets beside them that were made from them, at most {MAX_USES}; absent when none",
    )


class AssetTree(AssetOut):
    """An asset with what lies in it; a file has no children."""

    children: list[AssetTree]


class TreeOut(BaseModel):
    """The asset that was asked for, with everything below it."""

    assets: list[AssetTree]


class SummaryOut(BaseModel):
    """What is told of an asset beside its record."""

    breadcrumbs: list[AssetRef] = Field(description="the folders that it lies in, from Home on")
    content: AmountOut | None = Field(description="the files directly in a folder; null for a file")
    total: AmountOut | None = Field(description="the files in a folder and in all folders below it; null for a file")
    used_by: list[AssetRef] = Field(description=f"live assets that were made from it, at most {MAX_USES}")
    used_by_more: bool = Field(description="there are others")


class PackagesOut(BaseModel):
    """Assets of installed packages: there are none here."""

    assets: list[dict[str, JsonValue]]


def asset_ref(asset: Asset) -> AssetRef:
    """Name an asset."""
    return AssetRef(id=asset.pk.hex, name=asset.name)
