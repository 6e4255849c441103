"""Signed links to /storage/: an HMAC over all that a link grants. Pure: time and keys are arguments.

A link's query is `[download=1&]expires=..&key_id=..&object=..&signature=..`, in this order and nothing beside it. It
grants reading (GET and HEAD) of one object at one address until a time. The catalog has the last word: an asset that
is gone, or holds another object since, is no longer what the link names. Which asset gets which URL is decided in
`assets.links`, and what an invalid link is answered in `assets.serving.signed`.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

MAX_LIFE: Final = 7 * 24 * 3600  # seconds; as S3's presigned URLs
PARAMETERS: Final = frozenset({"expires", "key_id", "object", "signature"})  # `download` alone signs nothing

_SALT: Final = b"nodetool-storage signed links 1"
_NAME_SALT: Final = b"nodetool-storage name of the key of signed links 1"
_WINDOWS_IN_A_LIFE: Final = 4
_QUERY: Final = re.compile(
    r"(download=1&)?expires=([1-9][0-9]{0,10})&key_id=([0-9a-f]{8})&object=([0-9a-f]{32})&signature=([\w-]{43})",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key and the public name by which a link tells which key signed it."""

    name: str
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Keyring:
    """The key that signs, and all keys that verify: the earlier ones serve until their last links have expired."""

    current: SigningKey
    by_name: dict[str, SigningKey] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a valid link grants: the object (32 hex digits of its id), until when (seconds since 1970), as download."""

    object_id: str
    expires_at: int
    download: bool

    def holds(self, now: float) -> bool:
        """Tell whether its time has not come, nor is further away than any link of ours may last."""
        return now < self.expires_at <= now + MAX_LIFE


@lru_cache(maxsize=8)
def keyring(secret_key: str, fallbacks: tuple[str, ...] = ()) -> Keyring:
    """Derive the keys from SECRET_KEY and the earlier ones in SECRET_KEY_FALLBACKS.

    Each has salts of its own, so that neither a link nor a key's name tells of any other use of SECRET_KEY.
    """
    keys = [_derive(text.encode()) for text in (secret_key, *fallbacks)]
    return Keyring(keys[0], {key.name: key for key in reversed(keys)})


def sign(keys: Keyring, *, bucket: str, key: str, object_id: str, expires_at: int, download: bool = False) -> str:
    """Give the query that lets anyone read the object at this address until `expires_at` (seconds since 1970)."""
    prefix = "download=1&" if download else ""
    signature = _signature(keys.current, bucket, key, object_id, expires_at, download)
    return f"{prefix}expires={expires_at}&key_id={keys.current.name}&object={object_id}&signature={signature}"


def is_signed(names: Iterable[str]) -> bool:
    """Tell whether a request with these query parameters claims to be signed, well or not."""
    return not PARAMETERS.isdisjoint(names)


def is_link(query: str) -> bool:
    """Tell whether a raw query string looks exactly like one of ours; a request that is signed badly need not."""
    return _QUERY.fullmatch(query) is not None


def verify(query: str, *, keys: Keyring, bucket: str, key: str, now: float) -> Grant | None:
    """Give what the raw query string grants at this address now, or None when it is not one of ours."""
    grant = read_link(query, keys=keys, bucket=bucket, key=key)
    return grant if grant is not None and grant.holds(now) else None


def read_link(query: str, *, keys: Keyring, bucket: str, key: str) -> Grant | None:
    """Give what the raw query string grants at this address at its time, or None when it is not one of ours.

    Only the very text that `sign` wrote passes: no other order, encoding, doubled or added parameter.
    """
    found = _QUERY.fullmatch(query)
    if found is None:
        return None
    signing_key = keys.by_name.get(found[3])
    expires_at, download = int(found[2]), found[1] is not None
    if signing_key is None:
        return None
    expected = _signature(signing_key, bucket, key, found[4], expires_at, download)
    return Grant(found[4], expires_at, download) if hmac.compare_digest(expected, found[5]) else None


def window(now: float, *, life: int, longest: int) -> tuple[int, int]:
    """Give the beginning and end of the window that `now` lies in: links signed inside one are equal.

    Windows are aligned to 1970, so that processes agree. A short life has windows of a quarter of it.
    """
    length = max(1, min(longest, life // _WINDOWS_IN_A_LIFE))
    start = int(now) // length * length
    return start, start + length


def _derive(secret_key: bytes) -> SigningKey:
    name = hmac.digest(secret_key, _NAME_SALT, "sha256").hex()[:8]
    return SigningKey(name, hmac.digest(secret_key, _SALT, "sha256"))


def _signature(signing_key: SigningKey, bucket: str, key: str, object_id: str, expires_at: int, download: bool) -> str:
    """Sign the facts, one a line: only the key, which is the last, could hold a line break (and may not)."""
    facts = f"read\n{bucket}\n{object_id}\n{expires_at}\n{'download' if download else 'view'}\n{key}"
    return base64.urlsafe_b64encode(hmac.digest(signing_key.secret, facts.encode(), "sha256"))[:43].decode()
