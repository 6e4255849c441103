"""Bodies that trickle in; the clock is an argument."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from django.core.handlers.wsgi import WSGIRequest
from django.http import UnreadablePostError
from django.test import RequestFactory

from assets.api.errors import SlowBodyError, refusal
from assets.serving.uploads import LEAST_RATE, PATIENCE, PacedInput, RequestBody


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

    def readline(self, size: int, /) -> bytes:
        """Read as `read` does: there are no lines here."""
        return self.read(size)

    def paced(self) -> PacedInput:
        """Make the input that Django sees."""
        return PacedInput(self, str(self.length), clock=lambda: self.now)

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


def test_input_for_django_gives_all_that_is_asked_for_and_less_only_at_the_end() -> None:
    paced = Sender(length=300_000, rate=1e9).paced()
    assert [len(paced.read(size)) for size in (200_000, 90_000, 90_000, 10)] == [200_000, 90_000, 10_000, 0]


@pytest.mark.parametrize("size", [1 << 20, 64 << 10, 100])
def test_input_for_django_that_trickles_is_refused_inside_one_read(size: int) -> None:
    sender = Sender(length=1 << 20, rate=100)
    paced = sender.paced()
    with pytest.raises(SlowBodyError):
        list(iter(lambda: paced.read(size), b""))
    assert PATIENCE < sender.now < 3 * PATIENCE


def test_form_and_json_that_trickle_are_408(rf: RequestFactory) -> None:
    """Django wraps what the input raises; the answer is still that of our own error."""
    request = rf.post("/api/assets/urls", b"x" * 10, content_type="application/json")
    sender = Sender(length=1 << 20, rate=100)
    trickling = WSGIRequest({**request.environ, "wsgi.input": sender.paced(), "CONTENT_LENGTH": str(sender.length)})
    with pytest.raises(UnreadablePostError) as caught:
        _ = trickling.body
    answer = refusal(caught.value)
    assert answer is not None
    assert (answer.status_code, "slower" in answer.text) == (408, True)
