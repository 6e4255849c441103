"""The key of a node's result: who asks, which code runs, and on what. Pure but for the catalog's asset digests.

What a key's generations add, and what goes over the wire, is in `generations`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final, Protocol

from storagecache.node_cache.canonical import canonical_bytes
from storagecache.node_cache.code_version import code_and_interface
from storagecache.node_cache.errors import NotCacheableError

KEY_VERSION: Final = 1
MAX_RECORDED_BYTES: Final = 65_536  # of a key's parts, kept for `explain`

PART_NAMES: Final = (
    "key_version",
    "user",
    "node_type",
    "code_version",
    "interface",
    "fingerprint",
    "properties",
    "inputs",
)


class CacheableNode(Protocol):
    """What a node must have; `cache_version`, `fingerprint()` and `is_cacheable()` are optional."""

    def get_node_type(self) -> str:
        """Name the type, the same in every process."""
        ...

    def model_dump(self) -> dict[str, Any]:
        """Give the properties as plain data."""
        ...


@dataclass(frozen=True, slots=True, init=False)
class NodeCacheKey:
    """A node's key and its scopes; `digest` is hex and covers all but the workflow, which only scopes clears."""

    user: str
    workflow: str
    node_type: str
    digest: str
    parts: bytes = field(compare=False, repr=False)  # the canonical text, for `explain`

    def __init__(self, user: str, workflow: str, node_type: str, digest: str, parts: bytes = b"") -> None:
        """Fill the slots, in a third of the time that a frozen dataclass takes (a tenth of a key's time)."""
        _set_user(self, user)
        _set_workflow(self, workflow)
        _set_node_type(self, node_type)
        _set_digest(self, digest)
        _set_parts(self, parts)


_set_user, _set_workflow, _set_node_type, _set_digest, _set_parts = (
    vars(NodeCacheKey)[name].__set__ for name in ("user", "workflow", "node_type", "digest", "parts")
)


def node_cache_key(
    node: CacheableNode, user: str = "1", workflow: str = "", *, inputs: Mapping[str, Any] | None = None
) -> NodeCacheKey:
    """Make the key of what a node will compute; equal in every process, hash seed and Python version.

    `user` is the user or tenant; `inputs` are inputs that are not among the node's properties.

    Raises:
        NotCacheableError: `is_cacheable()` says no, or a part cannot be encoded faithfully.
    """
    if (asks := getattr(node, "is_cacheable", None)) is not None and not (asks() if callable(asks) else asks):
        raise NotCacheableError(f"A node of type {node.get_node_type()} declares itself not cacheable.")
    node_type = node.get_node_type()
    code, interface = code_and_interface(type(node))
    if (declared := getattr(node, "cache_version", None)) is not None:
        code = [declared() if callable(declared) else declared]
    seen = getattr(node, "fingerprint", None)
    packed = canonical_bytes(
        [KEY_VERSION, user, node_type, code, interface, seen and [seen()], node.model_dump(), inputs and dict(inputs)]
    )
    parts = packed if len(packed) <= MAX_RECORDED_BYTES else b""
    return NodeCacheKey(user, workflow, node_type, sha256(packed).hexdigest(), parts)
