"""What the node cache raises to those who ask for keys and clears; its reads and writes never raise."""

from __future__ import annotations

from storagecache.errors import BackendUnavailableError


class NotCacheableError(TypeError, ValueError):
    """A node or value that cannot be encoded faithfully, so that it has no key or frame; never repr()'d instead."""


class FrameError(ValueError):
    """Bytes that are not a frame of ours: damaged, truncated, forged, of another key or version."""


class ClearFailedError(BackendUnavailableError):
    """A clear could not write its generation token, so that old entries may still be hits."""
