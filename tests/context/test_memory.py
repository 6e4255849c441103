"""A gibibyte through `download_asset`: memory stays where it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from assets.workflows import ProcessingContext
from tests.assets.conftest import Buckets

GIB = 1 << 30
BLOCK = bytes(1 << 20)


class Zeros:
    """A gibibyte of zeros, read in pieces."""

    def __init__(self) -> None:
        self.left = GIB

    def read(self, size: int, /) -> bytes:
        piece = BLOCK[: min(size, self.left)]
        self.left -= len(piece)
        return piece


class Counter:
    """A sink that keeps nothing."""

    def __init__(self) -> None:
        self.size = 0
        self.most = 0

    def write(self, data: bytes, /) -> int:
        self.size += len(data)
        if self.size % (16 << 20) < len(data):
            self.most = max(self.most, resident())
        return len(data)


def resident() -> int:
    """Give the resident memory of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("buckets", ["filesystem", "s3"], indirect=True)
def test_download_asset_of_a_gibibyte_takes_little_memory(buckets: Buckets, context: ProcessingContext) -> None:
    asset = context.create_asset("big", "application/octet-stream", Zeros())
    context.download_asset(asset, Counter(), 0, 4 << 20)  # what is imported and pooled on the way
    before, sink = resident(), Counter()
    assert context.download_asset(asset, sink) == sink.size == GIB
    assert sink.most - before <= 32 << 20
