"""Keeps the `cache` area within its bound, whoever writes to it: bytes are reserved before they are written.

All processes of a folder reserve from one small file, under its lock; a process takes a share at a time. Where there
is no folder (S3, memory), each process keeps its own account and looks at the area more often.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from storagecache.breaker import Breaker
from storagecache.node_cache.area import CacheArea, make_room, on_disk
from storagecache.node_cache.forks import watch_forks
from storagecache.node_cache.tiers import TooLargeError

LEDGER: Final = "u/usage"

_SHARE: Final = 128  # a share is this part of the bound
_SLACK: Final = 8  # this part stays free: 16 processes may have reserved a share, and not written it, when one looks
_DIGITS: Final = 20
_LOOKS: Final = 16  # shares that a process takes from an account of its own until it looks at the area again
_WAIT: Final = 1.0  # seconds for the ledger, which a stopped process may hold
_POLL: Final = 0.002

logger: Final = logging.getLogger(__name__)


class DiskBudget:
    """Reservations of one cache; shared by threads. Counts whole blocks of the disk, as `du` does."""

    def __init__(self, area: CacheArea, max_bytes: int) -> None:
        self._area = area
        self._limit = max_bytes - max_bytes // _SLACK
        self._target = self._limit - max_bytes // _SLACK  # trimmed down to, so that it is not trimmed all the time
        self._share = max_bytes // _SHARE
        self._own: bytes = b""  # the ledger, where there is no folder
        self._breaker = Breaker(time.monotonic)  # of the ledger's lock
        self._taken = 0  # times that this one was used
        self._credit = 0  # reserved, but not used yet
        self.after_fork()
        watch_forks(self)

    @contextmanager
    def room(self, size: int) -> Iterator[None]:
        """Reserve `size` bytes while they are written; what expires first makes room, if there is too little.

        A value of more than a share is written under the lock, so that the next one who looks sees it.

        Raises:
            TooLargeError: it would not fit into the empty area.
            OSError, StorageError: the area cannot be looked at.
        """
        cost = on_disk(size)
        if cost > self._target:
            raise TooLargeError("more than the area may hold")
        if cost > self._share:
            with self._lock, self._ledger() as ledger:
                self._reserve(ledger, cost)
                yield
            return
        with self._lock:
            if cost > self._credit:
                with self._ledger() as ledger:
                    self._reserve(ledger, self._share)
                self._credit = self._share
            self._credit -= cost
        yield

    def after_fork(self) -> None:
        """Begin anew in a forked child: the parent's lock may be held, and its credit is the parent's."""
        self._lock = threading.Lock()
        self._credit = 0

    def _reserve(self, ledger: _Ledger, cost: int) -> None:
        used = ledger.read()
        if used is None or used + cost > self._limit:
            trimmed = make_room(self._area, self._target - cost)
            used = trimmed.left
            if trimmed.files:
                logger.info("node cache trimmed files=%d bytes=%d", trimmed.files, trimmed.size)
        ledger.write(used + cost)

    def _ledger(self) -> AbstractContextManager[_Ledger]:
        path = self._area.local_path(LEDGER)
        return _own_ledger(self) if path is None else _locked(path, self._breaker)


class _Ledger:
    """How many bytes are used or reserved, as a text of digits; None for what is absent or no number."""

    def __init__(self, text: bytes) -> None:
        self.text = text

    def read(self) -> int | None:
        """Give the number."""
        return int(self.text) if self.text.isdigit() and len(self.text) <= _DIGITS else None

    def write(self, used: int) -> None:
        """Replace the number."""
        self.text = b"%d" % used


@contextmanager
def _locked(path: str, breaker: Breaker) -> Iterator[_Ledger]:
    """Hold the ledger's file among all processes."""
    if not breaker.allows():
        raise TimeoutError("the cache area's ledger was held by another process a moment ago")
    fd = _opened(path)
    try:
        _lock(fd, breaker)
        ledger = _Ledger(os.pread(fd, _DIGITS + 1, 0).rstrip())
        before = ledger.text
        try:
            yield ledger
        finally:
            if ledger.text != before:
                os.pwrite(fd, ledger.text.ljust(_DIGITS), 0)
                os.ftruncate(fd, _DIGITS)
    finally:
        os.close(fd)


def _lock(fd: int, breaker: Breaker) -> None:
    until = time.monotonic() + _WAIT
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                breaker.failed()
                raise TimeoutError("the cache area's ledger is held by another process") from None
            time.sleep(_POLL)
        else:
            breaker.succeeded()
            return


def _opened(path: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        return os.open(path, flags, 0o600)


@contextmanager
def _own_ledger(budget: DiskBudget) -> Iterator[_Ledger]:
    """Keep the account in this process; forgotten now and then, so that what others wrote is seen."""
    budget._taken += 1
    ledger = _Ledger(budget._own if budget._taken % _LOOKS else b"")
    yield ledger
    budget._own = ledger.text
