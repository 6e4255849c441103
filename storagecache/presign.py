"""Presigned GET URLs of S3: AWS Signature Version 4 in the query string, with the time as an argument. Pure.

botocore's own signer reads the clock, so that no two of its URLs are equal and no browser caches what they name; it
also takes 2 ms a URL. Here a URL is a function of its arguments and takes microseconds. Where the server is, and with
which credentials it is asked, lives in `storagecache.storages.s3_connection`.

Source: AWS, "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)".
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final
from urllib.parse import quote, urlsplit

MAX_LIFE: Final = 7 * 24 * 3600  # seconds; X-Amz-Expires may not be more (same page)

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who signs. `expires_at`, in seconds since 1970, is the end of a session; None: they last until revoked."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(repr=False, default=None)
    expires_at: int | None = None


@dataclass(frozen=True, slots=True)
class BucketAddress:
    """Where the objects of one bucket are: the Host as clients send it, and the quoted path before the key."""

    scheme: str
    host: str
    path: str  # begins and ends with "/"

    @classmethod
    def before(cls, url: str, key: str) -> BucketAddress:
        """Take the address from any URL of the object `key` (whose characters need no quoting)."""
        parts = urlsplit(url)
        host = parts.netloc.removesuffix(_DEFAULT_PORTS[parts.scheme])  # clients leave the default port out
        return cls(parts.scheme, host, parts.path.removesuffix(key))


@dataclass(frozen=True, slots=True)
class GetOverrides:
    """What the server is to answer with in place of what it stored; "" leaves a header as it is."""

    cache_control: str = ""
    content_disposition: str = ""
    content_type: str = ""

    def query(self) -> str:
        """Write them in canonical order, each with its `&` before it."""
        return (
            (f"&response-cache-control={_quoted(self.cache_control)}" if self.cache_control else "")
            + (f"&response-content-disposition={_quoted(self.content_disposition)}" if self.content_disposition else "")
            + (f"&response-content-type={_quoted(self.content_type)}" if self.content_type else "")
        )


def presign_get(
    address: BucketAddress,
    key: str,
    *,
    credentials: Credentials,
    region: str,
    signed_at: int,
    expires_in: int,
    overrides: GetOverrides = GetOverrides(),  # frozen
) -> str:
    """Sign a GET of the object from `signed_at` (seconds since 1970) on, for `expires_in` seconds.

    Never outlives the session of its credentials.

    Raises:
        ValueError: a life under a second or over seven days, or one that ends before it begins.
    """
    if credentials.expires_at is not None:
        expires_in = min(expires_in, credentials.expires_at - signed_at)
    if not 0 < expires_in <= MAX_LIFE:
        raise ValueError(f"A presigned URL lives 1 to {MAX_LIFE} seconds, not {expires_in}.")
    common = _common(credentials, region, signed_at, expires_in)
    path = address.path + quote(key, safe="/~")
    query = common.query + overrides.query()
    request = f"GET\n{path}\n{query}\nhost:{address.host}\n\nhost\nUNSIGNED-PAYLOAD"
    to_sign = common.head + hashlib.sha256(request.encode()).hexdigest()
    signature = hmac.digest(common.signing_key, to_sign.encode(), "sha256").hex()
    return f"{address.scheme}://{address.host}{path}?{query}&X-Amz-Signature={signature}"


@dataclass(frozen=True, slots=True)
class _Common:
    """What all URLs of one window share: its parameters in canonical order, and how its string to sign begins."""

    query: str
    head: str
    signing_key: bytes


@lru_cache(maxsize=64)
def _common(credentials: Credentials, region: str, signed_at: int, expires_in: int) -> _Common:
    time = datetime.fromtimestamp(signed_at, UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{time[:8]}/{region}/s3/aws4_request"
    parameters = {
        "X-Amz-Algorithm": _ALGORITHM,
        "X-Amz-Credential": f"{credentials.access_key}/{scope}",
        "X-Amz-Date": time,
        "X-Amz-Expires": str(expires_in),
        **({"X-Amz-Security-Token": credentials.token} if credentials.token else {}),
        "X-Amz-SignedHeaders": "host",
    }
    query = "&".join(f"{name}={_quoted(value)}" for name, value in parameters.items())
    return _Common(query, f"{_ALGORITHM}\n{time}\n{scope}\n", _signing_key(credentials.secret_key, time[:8], region))


def _signing_key(secret_key: str, date: str, region: str) -> bytes:
    key = f"AWS4{secret_key}".encode()
    for part in (date, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _quoted(text: str) -> str:
    return quote(text, safe="~")
