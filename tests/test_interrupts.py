"""A sleep that a signal ends, even one that comes just before it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from storagecache.interrupts import on_signals

NEVER = 300.0  # seconds: beyond the time limit of a test


class Woken(Exception):
    """What a handler may raise."""


@pytest.fixture(autouse=True)
def _handlers_as_before() -> Iterator[None]:
    before, descriptor = signal.getsignal(signal.SIGUSR1), signal.set_wakeup_fd(-1)
    yield
    signal.set_wakeup_fd(descriptor)
    signal.signal(signal.SIGUSR1, before)


def test_signal_before_the_sleep_ends_it() -> None:
    seen: list[int] = []
    sleep = on_signals([signal.SIGUSR1], lambda number, _: seen.append(number))
    os.kill(os.getpid(), signal.SIGUSR1)
    sleep(NEVER)
    assert seen == [signal.SIGUSR1]


def test_signal_in_the_sleep_raises_what_its_handler_raises() -> None:
    def handler(*_: object) -> None:
        raise Woken

    sleep = on_signals([signal.SIGUSR1], handler)
    later = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1))
    later.start()
    with pytest.raises(Woken):
        sleep(NEVER)
    later.join()


def test_sleep_ends_by_itself() -> None:
    sleep = on_signals([signal.SIGUSR1], lambda *_: None)
    sleep(0.01)
    os.kill(os.getpid(), signal.SIGUSR1)
    sleep(NEVER)
    sleep(0.01)  # one signal ends one sleep
