"""Ports for servers of tests. No pytest here: where it is loaded the product takes itself for tested."""

from __future__ import annotations

import random
import socket

_HOST = "127.0.0.1"


def free_ports(number: int, *, offsets: tuple[int, ...] = (0,)) -> int:
    """Give the first of `number` adjacent ports, all free, also at each offset (below the ephemeral range)."""
    for _attempt in range(200):
        first = random.SystemRandom().randrange(11_000, 22_000 - number)
        if all(_is_free(first + step + offset) for step in range(number) for offset in offsets):
            return first
    raise RuntimeError(f"no {number} adjacent free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((_HOST, port))
        except OSError:
            return False
    return True
