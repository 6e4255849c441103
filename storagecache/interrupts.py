"""A sleep that signals end, for a process that mostly sleeps.

A lock's or an event's `wait` misses a signal that comes just before it blocks: the handler then runs only when the wait
ends by itself. And a handler must not set an event that its own thread may be about to wait for. A descriptor to which
the interpreter writes each signal has neither trouble (signal.set_wakeup_fd).
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Final

_PLENTY: Final = 4096  # more bytes than signals will wait

Sleep = Callable[[float], None]


def on_signals(numbers: Iterable[signal.Signals], handler: Callable[[int, FrameType | None], object]) -> Sleep:
    """Let `handler` answer these signals from now on; gives a sleep of so many seconds that each of them cuts short.

    For the main thread, as all handlers of signals. The handler may raise: then the sleep does, too.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    for number in numbers:
        signal.signal(number, handler)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

    def sleep(seconds: float) -> None:
        if select.select([reading], [], [], seconds)[0]:
            os.read(reading, _PLENTY)

    return sleep
