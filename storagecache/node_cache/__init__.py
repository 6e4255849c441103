"""The node cache: what workflow nodes computed, right across processes. The format is in docs/node-cache.md."""

from storagecache.node_cache.errors import ClearFailedError, FrameError, NotCacheableError
from storagecache.node_cache.keys import NodeCacheKey, node_cache_key
from storagecache.node_cache.miss import MISS
from storagecache.node_cache.references import register_assets

__all__ = [
    "MISS",
    "ClearFailedError",
    "FrameError",
    "NodeCacheKey",
    "NotCacheableError",
    "node_cache_key",
    "register_assets",
]
