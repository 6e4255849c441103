"""/storage/<bucket>/<key>, and NodeTool's two older addresses: parse, call a service, respond."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt

from assets.access import reader_id, writer
from assets.api.errors import error_response
from assets.links import PUBLIC_POLICY, cache_control
from assets.models import Asset
from assets.services import (
    Located,
    delete_at,
    locate,
    nothing_at,
    open_object,
    put_content,
    release_connection,
)
from assets.serving.address import split_path
from assets.serving.delegation import Delegated, delegate, served_object
from assets.serving.delivery import respond
from assets.serving.plan import Conditions, plan_get
from assets.serving.signed import InvalidLinkError, claims_to_be_signed, grant_of, one_refusal
from assets.serving.uploads import claimed_content_type, expires_in, request_body, write_precondition
from assets.signing import Grant
from storagecache.environment import Environment
from storagecache.errors import ObjectNotFoundError

_METHODS: Final = ("get", "head", "put", "delete", "options")
_ALLOW: Final = ", ".join(_METHODS).upper()


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
    found = split_path(raw.encode("latin-1") if raw is not None else request.path_info.encode())
    if found is None:
        raise ObjectNotFoundError("Not found.")
    return found


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
        return located, _Reading(PUBLIC_POLICY, "")
    if reader_id(request) != located.owner_id:
        raise nothing_at(bucket, key)
    return located, _Reading("private, no-cache", "Cookie, Authorization")


def _answer(request: HttpRequest, located: Located, reading: _Reading) -> HttpResponseBase:
    release_connection()
    download = reading.grant.download if reading.grant else request.GET.get("download") == "1"
    plan = plan_get(
        request.method or "GET",
        Conditions.from_environ(request.META),
        served_object(located),
        now=int(time.time()),
        cache_control=reading.cache_control,
        vary=reading.vary,
        download=download,
    )
    until = reading.grant.expires_at if reading.grant else None
    elsewhere = delegate(request.META, located, plan, until=until, download=download)
    response = _delegated(elsewhere) if elsewhere else respond(plan, functools.partial(open_object, located))
    _keep_on_site(response, reading)
    return response


def _keep_on_site(response: HttpResponseBase, reading: _Reading) -> None:
    """Refuse to let pages of other sites embed what was read by a session or the local user.

    The reader is known by a cookie or by where they sit, which holds for a page of another site in their browser too:
    its <img> and <video> shall not show, measure or play it (Fetch standard, 3.6). Links may be embedded anywhere.
    """
    if reading.vary and not Environment.current().cors_allowed_origins:
        response["Cross-Origin-Resource-Policy"] = "same-site"


def _delegated(answer: Delegated) -> HttpResponse:
    response = HttpResponse(status=answer.status)
    del response["Content-Type"]
    for name, value in answer.headers:
        response[name] = value
    return response


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
