"""Bodies that trickle in; the clock is an argument."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from assets.api.errors import SlowBodyError
from assets.serving.uploads import LEAST_RATE, PATIENCE, RequestBody


@dataclass(slots=True)
class Sender:
    """A sender of `rate` bytes a second, from byte `slow_from` on; blocks as the web server's read does."""

    length: int
    rate: float
    slow_from: int = 0
    now: float = 0.0
    sent: int = 0
    asked: list[int] = field(default_factory=list)

    def read(self, size: int, /) -> bytes:
        """Wait until `size` bytes are there."""
        count = min(size, self.length - self.sent)
        self.now += max(0, self.sent + count - max(self.slow_from, self.sent)) / self.rate
        self.sent += count
        self.asked.append(size)
        return b"x" * count

    def body(self) -> RequestBody:
        """Make the body that comes from here."""
        return RequestBody(self, self.length, clock=lambda: self.now)


def drain(body: RequestBody) -> int:
    """Read to the end; gives the number of bytes."""
    return sum(len(block) for block in iter(lambda: body.read(256 << 10), b""))


@pytest.mark.parametrize("rate", [LEAST_RATE, 10 * LEAST_RATE, 1e9])
def test_body_at_the_least_rate_or_faster_is_taken(rate: float) -> None:
    sender = Sender(length=1 << 20, rate=rate)
    assert drain(sender.body()) == 1 << 20


@pytest.mark.parametrize("rate", [0.5 * LEAST_RATE, 100, 50])
def test_body_that_trickles_is_refused_soon_after_the_patience(rate: float) -> None:
    sender = Sender(length=1 << 20, rate=rate)
    with pytest.raises(SlowBodyError):
        drain(sender.body())
    assert PATIENCE < sender.now < 3 * PATIENCE


def test_body_that_slows_down_later_is_refused() -> None:
    sender = Sender(length=10 << 20, rate=200, slow_from=1 << 20)
    with pytest.raises(SlowBodyError):
        drain(sender.body())
    assert sender.sent < 2 << 20


def test_body_that_is_short_and_slow_is_taken_within_the_patience() -> None:
    assert drain(Sender(length=50, rate=1).body()) == 50


def test_body_that_ends_is_never_refused_for_its_last_bytes() -> None:
    assert drain(Sender(length=100, rate=1).body()) == 100


def test_body_that_comes_fast_is_asked_for_in_few_reads() -> None:
    sender = Sender(length=10 << 20, rate=1e9)
    drain(sender.body())
    assert max(sender.asked) == 64 << 10
    assert len(sender.asked) < 170


def test_body_without_length_never_asks_beyond_what_is_wanted() -> None:
    sender = Sender(length=100_000, rate=1e9)
    body = RequestBody(sender, None, clock=lambda: sender.now)
    assert [len(body.read(10)) for _ in range(3)] == [10, 10, 10]
