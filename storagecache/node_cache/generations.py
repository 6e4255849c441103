"""Generation tokens: what makes a clear reach every process at once, without touching an entry.

Each scope (all, user, workflow, node type and their combinations) has a random token in the shared tier; a key on the
wire is a digest of the key and of its scopes' tokens, so that a new token leaves old entries unreachable for ever. A
single key has a tombstone token of the same kind. The epoch is one token that every clear replaces last: while it
stands, what this process remembers of all others is current. A token that is lost is replaced by a new one, never
by a guess.
"""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import product
from typing import Final

from storagecache.node_cache.keys import NodeCacheKey
from storagecache.node_cache.tiers import Found, SmallTier, TierTroubleError, TooLargeError

EPOCH_KEY: Final = "e-" + "0" * 40
WIRE_DIGITS: Final = 40  # 160 bits of sha256, in hex

_TOKEN: Final = re.compile(rb"\A[0-9a-f]{32}\Z")
_MAX_REMEMBERED: Final = 50_000  # leases, of about 600 bytes
_MAX_TRIES: Final = 5

AnyKey = NodeCacheKey | str


@dataclass(frozen=True, slots=True)
class Lease:
    """A key as it is stored under the generations of one moment; a value stored by it is dead once they change."""

    key_id: str
    wire: str
    epoch: str
    base: str  # digest of the scopes' tokens
    tombstone: str


@dataclass(frozen=True, slots=True)
class _Known:
    """What holds under one epoch: digests of scopes' tokens, and leases with their tombstones."""

    epoch: str
    bases: dict[tuple[str, ...], str]
    leases: dict[tuple[str, ...], Lease]


class Generations:
    """Reads, remembers and replaces the tokens of one tier; shared by threads."""

    def __init__(self, tier: SmallTier) -> None:
        self._tier = tier
        self._known = _Known("", {}, {})
        self._lock = threading.Lock()

    def remembered(self, key: AnyKey) -> Lease | None:
        """Give the lease that this process believes in, without a trip; None when it must ask."""
        return self._known.leases.get(_identity(key))

    def is_current(self, lease: Lease) -> bool:
        """Ask the tier whether a lease's epoch still stands (one trip).

        Raises:
            TierTroubleError
        """
        return self._tier.holds(EPOCH_KEY, lease.epoch.encode())

    def read(self, key: AnyKey, lease: Lease | None) -> tuple[Lease, bytes | memoryview | None]:
        """Give a key's lease and entry as they are now: in one trip where the scopes are remembered.

        `lease` is what `remembered` gave.

        Under a remembered lease the epoch alone tells: a new tombstone, too, is announced by a new epoch.

        Raises:
            TierTroubleError
        """
        if lease is not None:
            stands, data = self._tier.fetch_guarded(EPOCH_KEY, lease.epoch.encode(), lease.wire)
            if stands:
                return lease, data
            lease = self.load(key)
        else:
            lease = self._guess(key) or self.load(key)
        for _ in range(_MAX_TRIES):
            tomb = tomb_key(lease.key_id)
            found = self._tier.fetch([EPOCH_KEY, tomb, lease.wire])
            if found.get(EPOCH_KEY) != lease.epoch.encode():
                lease = self.load(key)
                continue
            if (tombstone := _token(found, tomb)) == lease.tombstone:
                self._remember(key, lease)
                return lease, found.get(lease.wire)
            lease = _lease(lease.key_id, lease.epoch, lease.base, tombstone)
        raise TierTroubleError("the generations do not stand still")

    def load(self, key: AnyKey) -> Lease:
        """Read the tokens of a key, making those that are lost; two trips when none is.

        Raises:
            TierTroubleError
        """
        named = key_id(key)
        scopes, tomb = list(_scope_keys(key)), tomb_key(named)
        epoch = self._ensured([EPOCH_KEY])[EPOCH_KEY]  # before the others, so that they are at least as new
        tokens = self._ensured([*scopes, tomb], optional=self._optional(scopes, tomb))
        base = _base(tokens[scope] for scope in scopes)
        lease = _lease(named, epoch, base, tokens[tomb])
        self._remember(key, lease)
        return lease

    def renew(self, lease: Lease) -> Lease:
        """Give a key a new tombstone under the lease's scopes: all that was stored for it is unreachable.

        Raises:
            TierTroubleError
        """
        tombstone = secrets.token_hex(16)
        self._write(tomb_key(lease.key_id), tombstone)
        epoch = self._new_epoch()
        return _lease(lease.key_id, epoch, lease.base, tombstone)

    def clear(self, *, user: str | None, workflow: str | None, node_type: str | None) -> None:
        """Replace the token of one scope; None in all three is everything.

        Raises:
            TierTroubleError: a token could not be written; old entries may still be hits.
        """
        self._write(scope_key(user, workflow, node_type), secrets.token_hex(16))
        self._new_epoch()

    def _new_epoch(self) -> str:
        """Let every process ask anew; written last, when the tokens it announces can be read."""
        epoch = secrets.token_hex(16)
        self._write(EPOCH_KEY, epoch)
        self._known = _Known(epoch, {}, {})
        return epoch

    def _write(self, key: str, token: str) -> None:
        try:
            self._tier.set(key, [token.encode()], None)
        except TooLargeError as error:  # out of memory, more likely
            raise TierTroubleError(str(error)) from error

    def _optional(self, scopes: list[str], tomb: str) -> frozenset[str]:
        """Name the tokens that need not exist: tombstones; on files, which do not vanish singly, also combinations."""
        if self._tier.evicts:
            return frozenset({tomb})
        return frozenset({tomb, *scopes[4:]})

    def _ensured(self, keys: list[str], *, optional: frozenset[str] = frozenset()) -> dict[str, str]:
        """Read tokens; make the absent ones that are not optional, or take those that another process just made."""
        found = self._tier.fetch(keys)
        tokens = {key: _token(found, key) for key in keys}
        for key in keys:
            if not tokens[key] and key not in optional:
                tokens[key] = self._made(key, damaged=key in found)
        return tokens

    def _made(self, key: str, *, damaged: bool) -> str:
        token = secrets.token_hex(16)
        if damaged:
            self._write(key, token)
            return token
        try:
            if self._tier.add(key, [token.encode()], None):
                return token
        except TooLargeError as error:
            raise TierTroubleError(str(error)) from error
        made = _token(self._tier.fetch([key]), key)
        if not made:
            raise TierTroubleError("a generation token does not stay")
        return made

    def _guess(self, key: AnyKey) -> Lease | None:
        """Give a lease that holds if the key was never deleted; None when its scopes are not known."""
        known = self._known
        base = known.bases.get(_scope_id(key))
        return None if base is None else _lease(key_id(key), known.epoch, base, "")

    def _remember(self, key: AnyKey, lease: Lease) -> None:
        if self._known.leases.get(_identity(key)) is lease:
            return
        with self._lock:
            known = self._known
            if known.epoch != lease.epoch or len(known.leases) >= _MAX_REMEMBERED:
                known = self._known = _Known(lease.epoch, {}, {})
            known.bases[_scope_id(key)] = lease.base
            known.leases[_identity(key)] = lease


def scope_key(user: str | None, workflow: str | None, node_type: str | None) -> str:
    """Name the token of one scope; None stands for any."""
    return "g-" + _digest("scope", *(_marked(part) for part in (user, workflow, node_type)))


def flight_name(key: AnyKey, lease: Lease | None) -> str:
    """Name the compute of a key under the generations of now, also when those cannot be read."""
    return lease.wire if lease is not None else "v-" + key_id(key)


def tomb_key(key_id: str) -> str:
    """Name the tombstone of one key."""
    return "d-" + key_id


def _identity(key: AnyKey) -> tuple[str, ...]:
    return (key,) if isinstance(key, str) else (key.user, key.workflow, key.node_type, key.digest)


def _scope_id(key: AnyKey) -> tuple[str, ...]:
    return () if isinstance(key, str) else (key.user, key.workflow, key.node_type)


def _scope_keys(key: AnyKey) -> Iterator[str]:
    """Name the scopes that a key is in: everything, each of its three, then their combinations."""
    if isinstance(key, str):
        yield scope_key(None, None, None)
        return
    chosen = sorted(product((False, True), repeat=3), key=sum)
    for user, workflow, node_type in chosen:
        yield scope_key(
            key.user if user else None, key.workflow if workflow else None, key.node_type if node_type else None
        )


def key_id(key: AnyKey) -> str:
    """Name a key apart from generations; a text and a node's key never collide."""
    if isinstance(key, str):
        return _digest("text", key)
    return _digest("node", key.user, key.workflow, key.node_type, key.digest)


def _lease(key_id: str, epoch: str, base: str, tombstone: str) -> Lease:
    wire = "v-" + sha256(f"{key_id}{base}{tombstone}".encode()).hexdigest()[:WIRE_DIGITS]
    return Lease(key_id, wire, epoch, base, tombstone)


def _base(tokens: Iterator[str]) -> str:
    return sha256("/".join(tokens).encode()).hexdigest()[:WIRE_DIGITS]


def _digest(*parts: str) -> str:
    hasher = sha256()
    for part in parts:
        text = part.encode("utf-8", "surrogatepass")
        hasher.update(b"%d:" % len(text))
        hasher.update(text)
    return hasher.hexdigest()[:WIRE_DIGITS]


def _marked(part: str | None) -> str:
    return "any" if part is None else f"is {part}"


def _token(found: Found, key: str) -> str:
    """Give a token that was fetched, or "" for an absent or damaged one."""
    data = found.get(key)
    if data is None:
        return ""
    return bytes(data).decode() if len(data) == 32 and _TOKEN.match(data) else ""
