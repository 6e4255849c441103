"""Send what a plan says: blocks of a file, a proxied read, or a redirect to the bucket."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final

from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse

from assets.api.errors import error_response
from assets.serving.plan import Body, Part, Plan

SHORT_BLOCK: Final = 16 << 10  # bytes; each of hundreds of slow readers holds a few
FIRST_BLOCK: Final = 256 << 10  # bytes; what a reader gets first, and then twice as much each time, with a long slot
LONG_BLOCK: Final = 512 << 10  # bytes; what the fastest readers get at once
LONG_SLOTS: Final = 8  # readers of a process who may get more than a short block at once
QUICK: Final = 0.004  # seconds; a reader who takes a block in less gets a longer one next

OpenPart = Callable[[int, int], BinaryIO]  # start, length -> a stream to close


class BlockResponse(StreamingHttpResponse):
    """A response whose blocks go to the server as they are, past Django's conversions."""

    blocks: Blocks

    def __iter__(self) -> Iterator[bytes]:
        return self.blocks


class LongSlots:
    """How many readers may be served in long blocks at once; thread-safe."""

    def __init__(self, number: int) -> None:
        self._free = threading.Semaphore(number)

    def take(self) -> bool:
        """Take a slot if one is free."""
        return self._free.acquire(blocking=False)

    def give_back(self) -> None:
        """Free a slot that was taken."""
        self._free.release()


_SLOTS: Final = LongSlots(LONG_SLOTS)


class Blocks:
    """The bytes of one stream, block by block, never more than `length`; closes the stream at its end.

    The length of a block follows its reader: a fast one is served in few steps (10 MB over loopback: 0.9 of nginx's
    rate, and 0.6 with blocks of 64 KiB), hundreds of slow ones hold little memory. The kernel's buffers make everybody
    look fast for the first megabytes, so that only a few readers get long blocks at once.
    """

    def __init__(
        self,
        stream: BinaryIO,
        length: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        slots: LongSlots = _SLOTS,
    ) -> None:
        self._stream = stream
        self._left = length
        self._clock = clock
        self._slots = slots
        self._has_slot = False
        self._size = SHORT_BLOCK
        self._sent = clock()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        """Give the next block.

        Raises:
            ConnectionError: the bucket holds less than the catalog says; the client must not take it for whole.
        """
        if not self._left:
            self._release()
            raise StopIteration
        self._follow(self._clock() - self._sent < QUICK)
        block = self._stream.read(min(self._size, self._left))
        if not block:
            raise ConnectionError(f"the object ended {self._left} bytes early")
        self._left -= len(block)
        self._sent = self._clock()
        return block

    def close(self) -> None:
        """Close the stream."""
        self._release()
        self._stream.close()

    def _follow(self, quick: bool) -> None:
        """Choose the length of the next block by how the last one was taken."""
        if not quick:
            self._release()
        elif self._has_slot:
            self._size = min(self._size * 2, LONG_BLOCK)
        elif self._slots.take():
            self._has_slot = True
            self._size = FIRST_BLOCK

    def _release(self) -> None:
        self._size = SHORT_BLOCK
        if self._has_slot:
            self._has_slot = False
            self._slots.give_back()


def respond(plan: Plan, open_part: OpenPart) -> HttpResponseBase:
    """Make the response of a plan; its bytes are opened here, so that a lost object is still an error."""
    if plan.body is Body.ERROR:
        response: HttpResponseBase = error_response(plan.status, plan.detail)
    elif plan.body is Body.NONE:
        response = HttpResponse(status=plan.status)
    elif plan.body is Body.RUN:
        response = _run(plan, open_part)
    else:
        response = StreamingHttpResponse(Multipart(plan, open_part), status=plan.status)
    if plan.body is not Body.ERROR:
        del response["Content-Type"]
    for name, value in plan.headers:
        response[name] = value
    return response


def _run(plan: Plan, open_part: OpenPart) -> HttpResponseBase:
    part = plan.parts[0]
    if not part.length:
        return HttpResponse(status=plan.status)
    blocks = _open(part, open_part)
    response = BlockResponse(blocks, status=plan.status)
    response.blocks = blocks
    return response


def _open(part: Part, open_part: OpenPart) -> Blocks:
    return Blocks(open_part(part.start, part.length), part.length)


class Multipart:
    """The parts of a plan, one open at a time. The first is opened at once, while an error can still be answered."""

    def __init__(self, plan: Plan, open_part: OpenPart) -> None:
        self._current = _open(plan.parts[0], open_part)
        self._blocks = self._run(plan, open_part)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        """Give the next block."""
        return next(self._blocks)

    def close(self) -> None:
        """Close the part that is open."""
        self._current.close()

    def _run(self, plan: Plan, open_part: OpenPart) -> Iterator[bytes]:
        for number, part in enumerate(plan.parts):
            if number:
                self._current.close()
                self._current = _open(part, open_part)
            yield part.preamble
            yield from self._current
        yield plan.closing
