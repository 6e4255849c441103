"""How long the blocks of a body are: they follow the reader, and never exceed what was asked for."""

import io

import pytest

from assets.serving.delivery import LONGEST_BLOCK, QUICK, SHORTEST_BLOCK, Blocks


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_blocks_quick_reader_grow_to_the_longest(clock: Clock) -> None:
    blocks = Blocks(io.BytesIO(bytes(2 << 20)), 2 << 20, clock=clock)

    assert [len(next(blocks)) for _ in range(4)] == [SHORTEST_BLOCK, 2 * SHORTEST_BLOCK, LONGEST_BLOCK, LONGEST_BLOCK]


def test_blocks_slow_reader_fall_back_to_the_shortest(clock: Clock) -> None:
    blocks = Blocks(io.BytesIO(bytes(2 << 20)), 2 << 20, clock=clock)
    for _ in range(4):
        next(blocks)

    clock.now += QUICK

    assert len(next(blocks)) == SHORTEST_BLOCK


def test_blocks_together_are_exactly_the_length(clock: Clock) -> None:
    data = bytes(range(251)) * 3000

    assert b"".join(Blocks(io.BytesIO(data), len(data) - 7, clock=clock)) == data[:-7]


def test_blocks_stream_ends_early_breaks_the_connection(clock: Clock) -> None:
    blocks = Blocks(io.BytesIO(b"abc"), 4, clock=clock)
    next(blocks)

    with pytest.raises(ConnectionError):
        next(blocks)
