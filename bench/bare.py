"""A bare Django view that gives files, and takes them durably: what a service costs before it is one.

`python -m granian --interface wsgi bench.bare:application`, with BARE_FOLDER as its folder. Neither catalog nor access.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import FileResponse, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import path
from django.views.decorators.http import etag

settings.configure(ROOT_URLCONF=__name__, SECRET_KEY="bare", ALLOWED_HOSTS=["*"], MIDDLEWARE=[])
FOLDER = Path(os.environ["BARE_FOLDER"])
BLOCK = 256 << 10


def file(request: HttpRequest, name: str) -> HttpResponseBase:
    """Give or take one file."""
    return _take(request, FOLDER / name) if request.method == "PUT" else _give(request, FOLDER / name)


@etag(lambda request, place: f'"{place.stat().st_mtime_ns}"')
def _give(request: HttpRequest, place: Path) -> HttpResponseBase:
    return FileResponse(place.open("rb"))


def _take(request: HttpRequest, place: Path) -> HttpResponse:
    digest, source, left = hashlib.sha256(), request.META["wsgi.input"], int(request.META["CONTENT_LENGTH"])
    draft = place.with_name(f"{place.name}.draft")
    draft.parent.mkdir(parents=True, exist_ok=True)
    with draft.open("wb") as target:
        while left and (block := source.read(min(BLOCK, left))):
            digest.update(block)
            target.write(block)
            left -= len(block)
        os.fsync(target.fileno())
    draft.replace(place)
    return HttpResponse(digest.hexdigest(), status=201)


urlpatterns = [path("<path:name>", file)]
application = get_wsgi_application()
