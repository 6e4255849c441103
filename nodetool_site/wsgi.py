"""The WSGI application that any server can run."""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from django.core.wsgi import get_wsgi_application

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "nodetool_site.settings")
_django = get_wsgi_application()


def application(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    """Hand a request to Django, with the path as it came.

    Django replaces PATH_INFO by text in which the byte FF has become "%FF": two keys would be one.
    """
    environ["nodetool.path_info"] = environ.get("PATH_INFO", "")
    return _django(environ, start_response)
