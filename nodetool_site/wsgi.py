"""The WSGI application that any server can run."""

import encodings.unicode_escape  # noqa: F401  # Django logs refusals with it: a process out of files imports nothing
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from django.core.wsgi import get_wsgi_application

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "nodetool_site.settings")
_django = get_wsgi_application()

from assets.services import Lookups  # noqa: E402
from assets.serving.hot import HotLayer  # noqa: E402  # once the apps are there
from assets.serving.uploads import PacedInput  # noqa: E402
from nodetool_site.metrics import start_flushing  # noqa: E402
from nodetool_site.observing import observed, observed_quick  # noqa: E402
from nodetool_site.settling import settle  # noqa: E402

# What is answered below Django, asked on its own by servers that can answer some requests sooner than others.
quick = observed_quick(HotLayer(Lookups.of_catalog()).answer)


def begin() -> None:
    """Do what a web process does beside answering: called once, by servers that know of it."""
    start_flushing()
    settle()


def application(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    """Answer a request the short way, or hand it to Django, with the path as it came and a body that may not trickle.

    Django replaces PATH_INFO by text in which the byte FF has become "%FF": two keys would be one.
    """
    answer = None if environ.pop("nodetool.asked", False) else quick(environ)
    if answer is not None:
        start_response(answer.status, answer.headers)
        return answer.body
    return _full(environ, start_response)


@observed
def _full(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    environ["nodetool.path_info"] = environ.get("PATH_INFO", "")
    environ["wsgi.input"] = PacedInput(environ["wsgi.input"], environ.get("CONTENT_LENGTH", ""))
    return _django(environ, start_response)
