"""/storage/<bucket>/<key>, and NodeTool's two older addresses: parse, call a service, respond."""

from __future__ import annotations

import functools
import re
import time
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect, JsonResponse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt

from assets.access import reader_id, writer
from assets.api.errors import error_response
from assets.links import cache_control, current_links
from assets.models import Asset
from assets.services import (
    Located,
    delete_at,
    locate,
    nothing_at,
    open_object,
    put_content,
    release_connection,
    storage_of,
)
from assets.serving.delivery import respond
from assets.serving.plan import Body, Conditions, Plan, ServedObject, plan_get
from assets.serving.signed import InvalidLinkError, claims_to_be_signed, grant_of, one_refusal
from assets.serving.uploads import claimed_content_type, expires_in, request_body, write_precondition
from assets.signing import Grant
from storagecache.capabilities import UrlSigner
from storagecache.environment import Environment
from storagecache.errors import ObjectNotFoundError
from storagecache.keys import decode_key

PREFIXES: Final = (
    (b"/storage/assets/", "assets"),
    (b"/storage/temp/", "temp"),
    (b"/api/storage/temp/", "temp"),
    (b"/api/storage/", "assets"),
)
_METHODS: Final = ("get", "head", "put", "delete", "options")
_ALLOW: Final = ", ".join(_METHODS).upper()
# A redirected client repeats these to S3, whose dates and ETags are not ours: such a GET is proxied.
_PLAIN_RANGE: Final = re.compile(r"bytes=(?:[0-9]{1,18}-[0-9]{0,18}|-[0-9]{1,18})")
_NOT_FOR_S3: Final = ("HTTP_IF_MATCH", "HTTP_IF_UNMODIFIED_SINCE", "HTTP_IF_MODIFIED_SINCE", "HTTP_IF_RANGE")


@method_decorator(csrf_exempt, name="dispatch")  # assets.access judges each way of being known by itself
class StorageView(View):
    """One object at one address."""

    http_method_names = list(_METHODS)

    def dispatch(self, request: HttpRequest, *args: object, **kwargs: object) -> HttpResponseBase:
        """Answer; a signed link grants reading only, and is refused in one way whatever is wrong."""
        if not claims_to_be_signed(request):
            return super().dispatch(request, *args, **kwargs)
        if request.method not in ("GET", "HEAD"):
            raise InvalidLinkError
        with one_refusal():
            return super().dispatch(request, *args, **kwargs)

    def get(self, request: HttpRequest) -> HttpResponseBase:
        """Answer GET and HEAD: conditions and ranges from the catalog, bytes from the bucket."""
        located, reading = _find(request)
        try:
            return _answer(request, located, reading)
        except ObjectNotFoundError:
            # Replaced and purged between the SELECT and the open, perhaps: look once more.
            return _answer(request, *_find(request))

    head = get

    def put(self, request: HttpRequest) -> HttpResponse:
        """Create or replace the object in one step."""
        bucket, key = address(request)
        owner = writer(request)
        body, expected = request_body(request)
        stored = put_content(
            owner=owner,
            bucket=bucket,
            key=key,
            content=body,
            content_type=claimed_content_type(request),
            expected=expected,
            expires_in=expires_in(request, bucket),
            check=write_precondition(request),
        )
        return _stored(stored.asset, status=201 if stored.created else 200)

    def delete(self, request: HttpRequest) -> HttpResponse:
        """Delete the object for good."""
        bucket, key = address(request)
        delete_at(writer(request).pk, bucket, key, check=write_precondition(request))
        return HttpResponse(status=204)

    def options(self, request: HttpRequest, *_args: object, **_names: object) -> HttpResponse:
        """Tell the methods; that they exist is no secret."""
        return HttpResponse(status=204, headers={"Allow": _ALLOW})

    def http_method_not_allowed(self, request: HttpRequest, *_args: object, **_names: object) -> HttpResponse:
        """Refuse any other method, and name those there are (RFC 9110 15.5.6)."""
        response = error_response(405, "An object knows GET, HEAD, PUT and DELETE.")
        response["Allow"] = _ALLOW
        return response


def address(request: HttpRequest) -> tuple[str, str]:
    """Give the bucket and the key of a request, from the bytes of its path.

    Raises:
        InvalidKeyError: what the grammar of keys refuses.
    """
    raw = request.META.get("nodetool.path_info")
    path = raw.encode("latin-1") if raw is not None else request.path_info.encode()
    for prefix, bucket in PREFIXES:
        if path.startswith(prefix):
            return bucket, decode_key(path[len(prefix) :])
    raise ObjectNotFoundError("Not found.")


@dataclass(frozen=True, slots=True)
class _Reading:
    """How this reader may have what was found: Cache-Control and Vary of the answer, and the grant of a signed link."""

    cache_control: str
    vary: str
    grant: Grant | None = None


def _find(request: HttpRequest) -> tuple[Located, _Reading]:
    """Find what this reader may read.

    Who may not read learns no more than of an absent key, and that not from the clock either: a wrong token is
    refused in both cases, after the same statements.
    """
    bucket, key = address(request)
    try:
        located = locate(bucket, key)
    except ObjectNotFoundError:
        if not claims_to_be_signed(request):  # a signature is judged without the token, here as there
            reader_id(request)
        raise
    grant = grant_of(request, bucket, key, located.object_id)
    if grant is not None:
        return located, _Reading(cache_control(grant.expires_at - time.time()), "", grant)
    if located.is_public:
        return located, _Reading("public, no-cache", "")
    if reader_id(request) != located.owner_id:
        raise nothing_at(bucket, key)
    return located, _Reading("private, no-cache", "Cookie, Authorization")


def _answer(request: HttpRequest, located: Located, reading: _Reading) -> HttpResponseBase:
    release_connection()
    download = reading.grant.download if reading.grant else request.GET.get("download") == "1"
    plan = plan_get(
        request.method or "GET",
        Conditions.from_environ(request.META),
        _served(located),
        now=int(time.time()),
        cache_control=reading.cache_control,
        vary=reading.vary,
        download=download,
    )
    redirect = _redirect(request, located, plan, reading.grant, download=download)
    response = redirect or respond(plan, functools.partial(open_object, located))
    _keep_on_site(response, reading)
    return response


def _keep_on_site(response: HttpResponseBase, reading: _Reading) -> None:
    """Refuse to let pages of other sites embed what was read by a session or the local user.

    The reader is known by a cookie or by where they sit, which holds for a page of another site in their browser too:
    its <img> and <video> shall not show, measure or play it (Fetch standard, 3.6). Links may be embedded anywhere.
    """
    if reading.vary and not Environment.current().cors_allowed_origins:
        response["Cross-Origin-Resource-Policy"] = "same-site"


def _served(located: Located) -> ServedObject:
    return ServedObject(
        size=located.size,
        etag=located.etag,
        content_type=located.content_type,
        modified_at=int(located.changed_at.timestamp()),
        name=located.name,
    )


def _redirect(
    request: HttpRequest, located: Located, plan: Plan, grant: Grant | None, *, download: bool
) -> HttpResponse | None:
    """Send a plain GET to the bucket itself, when it can answer."""
    if plan.body is not Body.RUN or Environment.current().s3_delivery != "redirect":
        return None
    storage = storage_of(located)
    if not isinstance(storage, UrlSigner) or _differs_at_s3(request, plan):
        return None
    links = current_links()
    end = links.end(located.expires_at, grant.expires_at if grant else None)
    url = links.presigned(located, _served(located), end=end, download=download)
    if url is None:
        return None
    response = HttpResponseRedirect(url)
    response["Cache-Control"] = "private, no-store"
    return response


def _differs_at_s3(request: HttpRequest, plan: Plan) -> bool:
    """Tell whether S3 could answer otherwise than planned: to what it knows less of, or to a Range but the plainest."""
    wanted = request.META.get("HTTP_RANGE")
    is_odd = wanted is not None and (plan.status != 206 or not _PLAIN_RANGE.fullmatch(wanted))
    return is_odd or any(name in request.META for name in _NOT_FOR_S3)


def _stored(asset: Asset, *, status: int) -> HttpResponse:
    etag = asset.object.etag if asset.object else ""
    location = f"/storage/{asset.bucket}/{quote(asset.key or '')}"
    return JsonResponse(
        {
            "id": asset.pk.hex,
            "bucket": asset.bucket,
            "key": asset.key,
            "size": asset.size,
            "content_type": asset.content_type,
            "etag": etag,
        },
        status=status,
        headers={"ETag": etag, "Location": location, "Cache-Control": "no-store"},
    )
