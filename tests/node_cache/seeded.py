"""Values of every kind that a key or a frame may hold, by the hundred thousand.

Seeded, and a hundred times cheaper to make than hypothesis' own of `values`, which look for small counterexamples.
"""

from __future__ import annotations

import datetime as dt
import math
import random
import string
import struct
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, Final

import numpy as np

DTYPES: Final = ["?", "i1", "<i2", ">i4", "<i8", "u1", "<u4", "<f2", ">f4", "<f8", "<c8", "S3", "<M8[ns]", "<m8[s]"]
EDGES: Final = [0, -1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64 - 1, 2**64, -(2**80)]
FLOATS: Final = [0.0, -0.0, 1.0, float("inf"), float("-inf"), float("nan"), -float("nan"), 5e-324, 1.7e308]
LETTERS: Final = [string.printable, "äöüßé", "日本語", "😀𝔘", "\x00\x7f\x80\u2028", "\ud800\udfff"]
PRINTED: Final = LETTERS[:-1]
ZONES: Final = [None, dt.UTC, dt.timezone(dt.timedelta(hours=-3, minutes=7))]


class Seeded:
    """Makes values; those of one seed are the same in every process."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def inputs(self) -> dict[str, Any]:
        """Give a node's properties."""
        return {self._text(PRINTED): self._value(3, for_key=True) for _ in range(self._random.randrange(5))}

    def value(self) -> Any:
        """Give a node's result."""
        return self._value(3, for_key=False)

    def _value(self, depth: int, *, for_key: bool) -> Any:
        if depth and self._random.random() < 0.45:
            return self._holder(depth, for_key=for_key)
        atom = self._random.choice(ATOMS if for_key else ATOMS_OF_FRAMES)
        return atom(self)

    def _holder(self, depth: int, *, for_key: bool) -> Any:
        inner = [self._value(depth - 1, for_key=for_key) for _ in range(self._random.randrange(5))]
        kind = self._random.randrange(3 if for_key else 4)
        if kind == 0:
            return inner
        if kind == 1:
            return tuple(inner)
        return {(self._text(PRINTED) if kind == 2 else self._hashable()): item for item in inner}

    def _hashable(self) -> Any:
        return self._random.choice(HASHABLE)(self)

    def set_of(self, kind: Callable[[list[Any]], Any]) -> Any:
        return kind([self._hashable() for _ in range(self._random.randrange(5))])

    def _text(self, letters: list[str]) -> str:
        alphabet = self._random.choice(letters)
        return "".join(self._random.choices(alphabet, k=self._random.randrange(12)))

    def integer(self) -> int:
        return self._random.choice(EDGES) if self._random.random() < 0.3 else self._random.getrandbits(80) - 2**79 >> 40

    def floating(self) -> float:
        if self._random.random() < 0.3:
            return self._random.choice(FLOATS)
        return float(struct.unpack("<d", self._random.randbytes(8))[0])

    def text(self) -> str:
        return self._text(LETTERS)

    def printed(self) -> str:
        return self._text(PRINTED)

    def long_text(self) -> str:
        return self._random.choice(["a", "é"]) * self._random.randrange(1018, 1030)

    def data(self) -> bytes:
        return self._random.randbytes(self._random.randrange(40))

    def long_data(self) -> bytes:
        return self._random.randbytes(self._random.randrange(1018, 1030))

    def number(self) -> complex:
        return complex(self._random.uniform(-9, 9), self._random.choice(FLOATS[:5]))

    def decimal(self) -> Decimal:
        return Decimal((self._random.randrange(2), (self._random.randrange(10), 7), self._random.randrange(-9, 9)))

    def moment(self) -> dt.datetime:
        seconds = self._random.randrange(4_000_000_000)
        start = dt.datetime(1970, 1, 1, tzinfo=self._random.choice(ZONES))
        return start + dt.timedelta(seconds=seconds, microseconds=seconds % 1_000_000)

    def span(self) -> dt.timedelta:
        return dt.timedelta(self._random.randrange(-999, 999), self._random.randrange(86_400), 7)

    def truth(self) -> bool:
        return self._random.random() < 0.5

    def uuid(self) -> uuid.UUID:
        return uuid.UUID(int=self._random.getrandbits(128))

    def array(self) -> np.ndarray[Any, Any]:
        dtype = np.dtype(self._random.choice(DTYPES))
        shape = tuple(self._random.randrange(5) for _ in range(self._random.randrange(4)))
        data = self._random.randbytes(dtype.itemsize * math.prod(shape))
        if dtype.kind == "b":
            data = bytes(byte & 1 for byte in data)
        return np.ndarray(shape, dtype, data).copy(self._random.choice("CF"))


Make = Callable[[Seeded], Any]
HASHABLE: Final[list[Make]] = [lambda _: None, Seeded.truth, Seeded.integer, Seeded.printed, Seeded.data]
ATOMS: Final[list[Make]] = [
    *HASHABLE,
    *(Seeded.floating, Seeded.text, Seeded.long_text, Seeded.long_data, Seeded.number, Seeded.decimal),
    *(Seeded.moment, lambda made: made.moment().date(), lambda made: made.moment().timetz(), Seeded.span, Seeded.uuid),
    *(Seeded.array, lambda made: made.set_of(set), lambda made: made.set_of(frozenset)),
]
ATOMS_OF_FRAMES: Final[list[Make]] = [*ATOMS, lambda made: bytearray(made.data())]


def seeded_inputs(seed: int, count: int) -> Iterator[dict[str, Any]]:
    """Give so many nodes' properties."""
    seeded = Seeded(seed)
    return (seeded.inputs() for _ in range(count))


def seeded_values(seed: int, count: int) -> Iterator[Any]:
    """Give so many results."""
    seeded = Seeded(seed)
    return (seeded.value() for _ in range(count))
