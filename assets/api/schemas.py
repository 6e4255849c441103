"""The JSON of the API: what requests may say and what answers look like. Shapes only; no query is made here."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, cast

from ninja import Schema
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from assets.api.numbers import JsonInt
from assets.links import Links
from assets.services.shown import AnyAsset
from assets.signing import MAX_LIFE
from storagecache.environment import SIGNED_URL_LIFE

FOLDER: Literal["folder"] = "folder"
MAX_IDS = 10_000  # of one batch

Text = Annotated[str, Field(max_length=255, pattern=r"^[^\x00]*$")]  # PostgreSQL has no NUL
AssetId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class AssetOut(BaseModel):
    """An asset. `parent_id` is the user's id for what lies in the home folder; a folder has no bytes and no URL."""

    model_config = ConfigDict(title="Asset")

    id: str = Field(description="32 hex digits; the user's id for the home folder")
    user_id: str
    workflow_id: str | None = None
    parent_id: str
    name: str
    content_type: str = Field(description="`folder` for folders")
    size: int | None = Field(default=None, description="bytes")
    metadata: dict[str, JsonValue] | None = None
    created_at: datetime
    get_url: str | None = Field(default=None, description="absolute; signed unless the asset is public")
    thumb_url: str | None = Field(default=None, description="absolute, likewise; only where there is a picture")
    duration: float | None = Field(default=None, description="seconds")
    bucket: str | None = None
    key: str | None = Field(default=None, description="address under /storage/<bucket>/")
    sha256: str | None = None
    etag: str | None = None
    width: int | None = Field(default=None, description="pixels")
    height: int | None = Field(default=None, description="pixels")
    job_id: str | None = None
    node_id: str | None = None
    tags: list[str] = []
    is_public: bool = False
    expires_at: datetime | None = None
    updated_at: datetime
    revision: int = 1


class UrlsIn(Schema):
    """The assets whose URLs are asked for."""

    asset_ids: list[AssetId] = Field(max_length=MAX_IDS)
    expires_in: JsonInt | None = Field(
        default=None, ge=1, le=MAX_LIFE, description=f"seconds; {SIGNED_URL_LIFE} if null"
    )


class UrlsOut(BaseModel):
    """A URL for each asset that is there and has bytes, by its id."""

    urls: dict[str, str]


class AmountOut(BaseModel):
    """How much there is."""

    bytes: int
    count: int = Field(description="files")


class ErrorOut(BaseModel):
    """Every error of the API."""

    detail: str


def asset_out(asset: AnyAsset, links: Links) -> AssetOut:
    """Write an asset, which comes with its object; makes no query."""
    stored = asset.object
    user_id = str(asset.owner_id)
    return AssetOut(
        id=asset.pk.hex,
        user_id=user_id,
        workflow_id=asset.workflow_id or None,
        parent_id=asset.parent_id.hex if asset.parent_id else user_id,
        name=asset.name,
        content_type=FOLDER if asset.is_folder else asset.content_type,
        size=asset.size,
        metadata=cast("dict[str, Any]", asset.metadata),
        created_at=asset.created_at,
        get_url=links.url(asset),
        thumb_url=links.thumbnail(asset),
        duration=asset.duration,
        bucket=asset.bucket if stored else None,
        key=asset.key,
        sha256=stored.sha256 if stored else None,
        etag=stored.etag if stored else None,
        width=asset.width,
        height=asset.height,
        job_id=asset.job_id or None,
        node_id=asset.node_id or None,
        tags=asset.tags,
        is_public=asset.is_public,
        expires_at=asset.expires_at,
        updated_at=asset.updated_at,
        revision=asset.revision,
    )


def home_out(user_id: int, created_at: datetime) -> AssetOut:
    """Write the pseudo folder in which everything of a user lies; it has no parent."""
    return AssetOut(
        id=str(user_id),
        user_id=str(user_id),
        parent_id="",
        name="Home",
        content_type=FOLDER,
        created_at=created_at,
        updated_at=created_at,
    )
