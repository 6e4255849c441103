"""Answers whose bytes somebody else sends: a redirect to the bucket (S3), or an order to the proxy in front.

The Django view and the layer below Django both ask here, once it is known who reads. Nobody is delegated a request
that they could answer otherwise than planned.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import quote

from assets.links import current_links
from assets.services import Located, storage_of
from assets.serving.plan import Body, Plan, ServedObject
from storagecache.capabilities import LocalFiles, UrlSigner
from storagecache.environment import Environment

Header = tuple[str, str]

# A redirected client repeats these to S3, whose dates and ETags are not ours: such a GET is proxied.
_NOT_FOR_S3: Final = frozenset({"HTTP_IF_MATCH", "HTTP_IF_UNMODIFIED_SINCE", "HTTP_IF_MODIFIED_SINCE", "HTTP_IF_RANGE"})
# nginx judges by the dates of its files.
_NOT_FOR_PROXY: Final = _NOT_FOR_S3 | {"HTTP_IF_NONE_MATCH"}
_PLAIN_RANGE: Final = re.compile(r"bytes=(?:[0-9]{1,18}-[0-9]{0,18}|-[0-9]{1,18})")
_OF_A_REDIRECT: Final = (("Cache-Control", "private, no-store"), ("X-Content-Type-Options", "nosniff"))
# What nginx writes itself; Accept-Ranges to a 200 only.
_OF_NGINX: Final = {
    200: frozenset({"Accept-Ranges", "Content-Length"}),
    206: frozenset({"Content-Range", "Content-Length"}),
}


class Delegated(NamedTuple):
    """Status and headers of an answer without a body of ours."""

    status: int
    headers: tuple[Header, ...]


def served_object(located: Located) -> ServedObject:
    """Give what the plan needs to know."""
    return ServedObject(
        size=located.size,
        etag=located.etag,
        content_type=located.content_type,
        modified_at=int(located.changed_at.timestamp()),
        name=located.name,
    )


def delegate(
    environ: Mapping[str, str], located: Located, plan: Plan, *, until: int | None, download: bool
) -> Delegated | None:
    """Give the answer that makes somebody else send the bytes of a plan, where one is set up and can.

    `until` is when the link that was followed ends (seconds since 1970), if it was one.

    Raises:
        BackendUnavailableError: the recorded bucket is not configured now.
    """
    if plan.body is not Body.RUN:
        return None
    environment, storage = Environment.current(), storage_of(located)
    if environment.accel_redirect is not None and isinstance(storage, LocalFiles):
        is_whole = _has_size(storage.local_path(located.key), located.size)
        return _by_proxy(environ, located, plan, environment.accel_redirect) if is_whole else None
    if environment.s3_delivery == "redirect" and isinstance(storage, UrlSigner):
        return _to_bucket(environ, located, plan, until, download)
    return None


def _to_bucket(
    environ: Mapping[str, str], located: Located, plan: Plan, until: int | None, download: bool
) -> Delegated | None:
    """Send the client to the bucket itself. The URL is the same for all inside a window (`assets.links`)."""
    if _is_odd(environ, plan, _NOT_FOR_S3):
        return None
    links = current_links()
    end = links.end(located.expires_at, until)
    url = links.presigned(located, served_object(located), end=end, download=download)
    return Delegated(302, (("Location", url), *_OF_A_REDIRECT)) if url else None


def _by_proxy(environ: Mapping[str, str], located: Located, plan: Plan, location: str) -> Delegated | None:
    """Name the file to nginx, which sends it, or the one plain range of it, with what it keeps of our headers."""
    if _is_odd(environ, plan, _NOT_FOR_PROXY):
        return None
    kept = tuple(header for header in plan.headers if header[0] not in _OF_NGINX[plan.status])
    file = f"{location}/{located.storage}/{quote(located.key)}"
    return Delegated(200, (*kept, ("X-Accel-Redirect", file)))


def _has_size(path: str, size: int) -> bool:
    """Tell whether a file is there and as long as the catalog says: nginx would send what it finds as if it were all.

    What is short or gone is answered here, where a short body ends the connection and a lost one is 404.
    """
    try:
        return os.stat(path).st_size == size
    except OSError:
        return False


def _is_odd(environ: Mapping[str, str], plan: Plan, conditions: frozenset[str]) -> bool:
    """Tell whether another server could answer otherwise than planned: to conditions, or to all but a plain range."""
    wanted = environ.get("HTTP_RANGE")
    if wanted is not None and (plan.status != 206 or not _PLAIN_RANGE.fullmatch(wanted)):
        return True
    return not environ.keys().isdisjoint(conditions)
