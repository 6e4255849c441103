"""What a web process does once, before its first request."""

from __future__ import annotations

import gc

from django.urls import get_resolver


def settle() -> None:
    """Import what answers requests, and keep all that is loaded by now out of the garbage collector's walks.

    The application is some hundred thousand objects that stay. A walk through them takes 30 ms and more, and comes in
    the midst of a request: one upload in some hundred waited for it.
    """
    _ = get_resolver().url_patterns
    gc.collect()
    gc.freeze()
