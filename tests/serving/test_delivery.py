"""How long the blocks of a body are: they follow the reader, and never exceed what was asked for."""

import io

import pytest

from assets.serving.delivery import FIRST_BLOCK, LONG_BLOCK, QUICK, SHORT_BLOCK, Blocks, LongSlots


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def lengths(blocks: Blocks, number: int) -> list[int]:
    return [len(next(blocks)) for _ in range(number)]


def made(clock: Clock, slots: LongSlots) -> Blocks:
    return Blocks(io.BytesIO(bytes(2 << 20)), 2 << 20, clock=clock, slots=slots)


def test_blocks_quick_reader_grow_to_the_longest(clock: Clock) -> None:
    blocks = made(clock, LongSlots(1))

    assert lengths(blocks, 3) == [FIRST_BLOCK, LONG_BLOCK, LONG_BLOCK]


def test_blocks_slow_reader_fall_back_to_the_shortest(clock: Clock) -> None:
    blocks = made(clock, LongSlots(1))
    lengths(blocks, 4)

    clock.now += QUICK

    assert lengths(blocks, 1) == [SHORT_BLOCK]


def test_blocks_without_a_free_slot_stay_short(clock: Clock) -> None:
    slots = LongSlots(1)
    lengths(made(clock, slots), 1)

    assert lengths(made(clock, slots), 3) == [SHORT_BLOCK] * 3


@pytest.mark.parametrize("end", ["slow", "closed", "whole"])
def test_blocks_slot_is_free_again_for_the_next_reader(clock: Clock, end: str) -> None:
    slots = LongSlots(1)
    first = made(clock, slots)
    if end == "whole":
        list(first)
    else:
        lengths(first, 2)
    if end == "closed":
        first.close()
        first.close()  # twice is fine
    if end == "slow":
        clock.now += QUICK
        lengths(first, 1)

    assert lengths(made(clock, slots), 1) == [FIRST_BLOCK]
    assert not slots.take()


def test_blocks_together_are_exactly_the_length(clock: Clock) -> None:
    data = bytes(range(251)) * 3000

    assert b"".join(Blocks(io.BytesIO(data), len(data) - 7, clock=clock)) == data[:-7]


def test_blocks_stream_ends_early_breaks_the_connection(clock: Clock) -> None:
    blocks = Blocks(io.BytesIO(b"abc"), 4, clock=clock)
    next(blocks)

    with pytest.raises(ConnectionError):
        next(blocks)
