"""What the tests of the node cache share: a clock, nodes, and how values are compared."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

SECRET = "a secret of the tests"
NOW = 1_790_000_000.0


@dataclass(slots=True)
class Clock:
    """Seconds since 1970 that only a test moves."""

    now: float = NOW

    def __call__(self) -> float:
        return self.now


@dataclass
class Node:
    """A node as NodeTool's."""

    properties: dict[str, Any] = field(default_factory=dict)
    node_type: str = "test.Node"

    def get_node_type(self) -> str:
        return self.node_type

    def model_dump(self) -> dict[str, Any]:
        return self.properties


class OtherNode(Node):
    """Of another class, with other code."""

    def process(self) -> int:
        return 2


class VersionedNode(Node):
    """Declares its version."""

    cache_version = 3


class PrintedNode(Node):
    """Has a fingerprint of what it reads."""

    seen = "a"

    def fingerprint(self) -> str:
        return self.seen


class ShyNode(Node):
    """Is not to be cached."""

    def is_cacheable(self) -> bool:
        return False


def same(left: Any, right: Any) -> bool:
    """Compare by type and bits: NaN is itself, 1 is not True."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        pairs = zip(left.items(), right.items(), strict=False)
        return len(left) == len(right) and all(same(a, b) and same(x, y) for (a, x), (b, y) in pairs)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if hasattr(left, "dtype"):
        return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
    return repr(left) == repr(right) if isinstance(left, float | complex | Decimal) else bool(left == right)
