"""One compute per key: among this process's threads, and among processes by a lock in Memcached.

It saves work and promises nothing: whoever cannot lock, or would wait for itself, computes.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from storagecache.node_cache.frames import Frame
from storagecache.node_cache.tiers import SmallTier, TierTroubleError, TooLargeError

LOCK_SECONDS: Final = 3  # a dead holder is replaced after this long
HEARTBEAT_SECONDS: Final = 1.0
POLL_SECONDS: Final = 0.025


@dataclass(eq=False, slots=True)
class Flight:
    """A compute under way. Its future ends with the frame, with the error, or with None: nothing to share."""

    leader: Any
    future: Future[Frame | None] = field(default_factory=Future)


@dataclass(frozen=True, slots=True)
class Boarding:
    """What an asker shall do: lead, follow `flight`, or (without one) compute alone."""

    leads: bool
    flight: Flight | None


class Flights:
    """The computes under way in this process."""

    def __init__(self) -> None:
        self._flights: dict[str, Flight] = {}
        self._waiting: dict[Any, Flight] = {}
        self._lock = threading.Lock()

    def join(self, name: str, owner: Any) -> Boarding:
        """Lead a new flight, follow the one under way, or compute alone instead of waiting for oneself."""
        with self._lock:
            flight = self._flights.get(name)
            if flight is None:
                flight = self._flights[name] = Flight(owner)
                return Boarding(leads=True, flight=flight)
            if self._leads_back(flight, owner):
                return Boarding(leads=False, flight=None)
            self._waiting[owner] = flight
            return Boarding(leads=False, flight=flight)

    def leave(self, owner: Any) -> None:
        """End a wait."""
        with self._lock:
            self._waiting.pop(owner, None)

    def leads_others(self, owner: Any) -> bool:
        """Tell whether an owner leads more than one flight: it computes within a compute."""
        with self._lock:
            return len([flight for flight in self._flights.values() if flight.leader == owner]) > 1

    def land(self, name: str, flight: Flight, *, frame: Frame | None = None, error: Exception | None = None) -> None:
        """Tell the followers how it went; only the first word counts."""
        with self._lock:
            if self._flights.get(name) is not flight:
                return
            del self._flights[name]
        if error is not None:
            flight.future.set_exception(error)
        else:
            flight.future.set_result(frame)

    def _leads_back(self, flight: Flight, owner: Any) -> bool:
        """Follow who waits for whom: a compute that asks for what it is itself computing must not wait."""
        seen: Flight | None = flight
        while seen is not None:
            if seen.leader == owner:
                return True
            seen = self._waiting.get(seen.leader)
        return False


class KeyLocks(Protocol):
    """A lock per key among processes."""

    def acquire(self, name: str) -> bool | None:
        """Take it: True; held by another: False; no locks to be had: None."""
        ...

    def release(self, name: str) -> None:
        """Give it back, if it is still ours."""
        ...

    def beat(self) -> None:
        """Prolong the locks that are held."""
        ...


class NoLocks:
    """Where processes share no Memcached: threads alone are coordinated."""

    def acquire(self, name: str) -> bool | None:
        return None

    def release(self, name: str) -> None:
        return None

    def beat(self) -> None:
        return None


class TierLocks:
    """Locks by Memcached's `add`, each with its owner's token; they end by themselves unless `beat` is called."""

    def __init__(self, tier: SmallTier, wake: Callable[[], None]) -> None:
        self._tier = tier
        self._wake = wake
        self._held: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def acquire(self, name: str) -> bool | None:
        token = secrets.token_hex(16).encode()
        try:
            if not self._tier.add(_lock_key(name), [token], LOCK_SECONDS):
                return False
        except (TierTroubleError, TooLargeError):
            return None
        with self._lock:
            self._held[name] = token
        self._wake()
        return True

    def release(self, name: str) -> None:
        with self._lock:
            token = self._held.pop(name, None)
        if token is None:
            return
        try:
            if self._is_ours(name, token):
                self._tier.delete(_lock_key(name))
        except TierTroubleError:
            return  # it ends by itself

    def beat(self) -> None:
        with self._lock:
            held = list(self._held.items())
        for name, token in held:
            try:
                if self._is_ours(name, token):
                    self._tier.set(_lock_key(name), [token], LOCK_SECONDS)
            except (TierTroubleError, TooLargeError):
                continue

    def _is_ours(self, name: str, token: bytes) -> bool:
        return bytes(self._tier.fetch([_lock_key(name)]).get(_lock_key(name), b"")) == token


def _lock_key(name: str) -> str:
    return "x-" + name.partition("-")[2]
