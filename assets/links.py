"""Which URL an asset has: signed by us or by S3, or plain where it is public. Every `get_url` is made here.

No request is looked at: absolute URLs come from configuration alone. No query, and no trip to a bucket, is made per
URL. How a link of ours is signed lives in `assets.signing`, how S3's is in `storagecache.presign`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import quote

from django.conf import settings
from django.core.files.storage import storages

from assets.services.objects import Placed, bucket_of
from assets.services.previews import shows_picture
from assets.services.shown import AnyAsset, AnyObject
from assets.serving.plan import ServedObject, response_overrides
from assets.signing import Keyring, keyring, sign, window
from storagecache.capabilities import UrlSigner
from storagecache.environment import SIGNED_URL_LIFE, SIGNED_URL_WINDOW, Environment

THUMBNAIL_SIZE: Final = 256  # pixels, of the URL in lists
PUBLIC_POLICY: Final = "public, no-cache"  # the Cache-Control of what anybody may read, until they may not
_ALIASES: Final = ("assets", "temp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """Makes the URLs of one moment; times in seconds since 1970.

    All URLs made between `signed_at` and `window_end` are equal, in every process, so that browsers cache what they
    name. `signers` holds the storages that answer by themselves, by alias and bucket.
    """

    keys: Keyring
    base_url: str
    public_url: str | None
    asset_bucket: str
    signers: Mapping[tuple[str, str], UrlSigner]
    now: float
    signed_at: int
    window_end: int
    life: int

    @classmethod
    def at(cls, now: float, *, life: int = SIGNED_URL_LIFE) -> Links:
        """Read the configuration and give the links of this moment, which live `life` seconds from their window on."""
        environment = Environment.current()
        signed_at, end = window(now, life=life, longest=SIGNED_URL_WINDOW)
        return cls(
            keys=current_keys(),
            base_url=environment.base_url,
            public_url=environment.public_url,
            asset_bucket=bucket_of(storages["assets"]),
            signers=_signers() if environment.s3_delivery == "redirect" else {},
            now=now,
            signed_at=signed_at,
            window_end=end,
            life=life,
        )

    def url(self, asset: AnyAsset, *, download: bool = False) -> str | None:
        """Give the absolute URL by which whoever has it reads the asset, without any header.

        The asset comes with its object (select_related). None for folders and for what has expired.
        """
        stored, end = asset.object, self.end(asset.expires_at)
        if stored is None or asset.key is None or end <= self.now:
            return None
        if self._is_on_public_url(asset, stored):
            return f"{self.public_url}/{quote(stored.key)}"
        is_ours = not self.signers  # mostly: then nothing need be told of what the bucket would answer
        url = None if is_ours else self.presigned(stored, _served(asset, stored), end=end, download=download)
        return url or self._own(asset, stored.pk.hex, end, download)

    def thumbnail(self, asset: AnyAsset) -> str | None:
        """Give the absolute URL of an asset's small picture, likewise; None when there is none and none can be made."""
        stored, end = asset.object, self.end(asset.expires_at)
        if stored is None or not shows_picture(stored) or end <= self.now:
            return None
        address = f"{self.base_url}/api/assets/{asset.pk.hex}/thumbnail?size={THUMBNAIL_SIZE}"
        if asset.is_public:
            return address
        bucket, key = thumbnail_key(asset, THUMBNAIL_SIZE)
        query = sign(self.keys, bucket=bucket, key=key, object_id=stored.pk.hex, expires_at=end)
        return f"{address}&{query}"

    def presigned(self, placed: Placed, served: ServedObject, *, end: int, download: bool = False) -> str | None:
        """Give the URL by which the bucket itself answers until `end`, if it can."""
        signer = self.signers.get((placed.storage, placed.bucket))
        if signer is None or end <= self.signed_at:
            return None
        content_type, disposition = response_overrides(served, download=download)
        return signer.presigned_url(
            placed.key,
            signed_at=self.signed_at,
            expires_in=end - self.signed_at,
            content_type=content_type,
            disposition=disposition,
            cache_control=cache_control(end - self.window_end),
        )

    def end(self, expires_at: datetime | None, until: int | None = None) -> int:
        """Tell when a link made now ends: never after the asset that it names, nor after `until`."""
        end = self.signed_at + self.life
        if expires_at is not None:
            end = min(end, int(expires_at.timestamp()))
        return end if until is None else min(end, until)

    def _own(self, asset: AnyAsset, object_id: str, end: int, download: bool) -> str:
        bucket, key = asset.bucket, asset.key or ""
        address = f"{self.base_url}/storage/{bucket}/{quote(key)}"
        if asset.is_public:
            return f"{address}?download=1" if download else address
        query = sign(self.keys, bucket=bucket, key=key, object_id=object_id, expires_at=end, download=download)
        return f"{address}?{query}"

    def _is_on_public_url(self, asset: AnyAsset, stored: AnyObject) -> bool:
        """Tell whether NODETOOL_STORAGE_PUBLIC_URL, whose links never end, may name the object."""
        is_forever = asset.is_public and asset.expires_at is None
        return is_forever and self.public_url is not None and stored.bucket == self.asset_bucket


def thumbnail_key(asset: AnyAsset, size: int) -> tuple[str, str]:
    """Give the bucket and key under which the link of a small picture is signed: no bucket of objects has this name."""
    return "thumbnail", f"{asset.pk.hex}/{size}"


def cache_control(life_left: float) -> str:
    """Write the policy of an answer to a signed link, whose object never changes: this browser keeps it as long."""
    return f"private, max-age={max(0, int(life_left))}, immutable"


def current_links(*, life: int = SIGNED_URL_LIFE) -> Links:
    """Give the links of this moment."""
    return Links.at(time.time(), life=life)


def current_keys() -> Keyring:
    """Give the keys that sign and verify, derived once in a process."""
    return keyring(settings.SECRET_KEY, tuple(settings.SECRET_KEY_FALLBACKS))


def _signers() -> dict[tuple[str, str], UrlSigner]:
    found = [(alias, storages[alias]) for alias in _ALIASES]
    return {(alias, bucket_of(storage)): storage for alias, storage in found if isinstance(storage, UrlSigner)}


def _served(asset: AnyAsset, stored: AnyObject) -> ServedObject:
    return ServedObject(
        size=stored.size, etag=stored.etag, content_type=asset.content_type, modified_at=0, name=asset.name
    )
