"""Hypothesis strategies of everything that a key or a frame may hold."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np

ANY_TEXTS = st.text(st.characters(exclude_categories=[]), max_size=40).filter(lambda text: "asset" not in text)
TEXTS = ANY_TEXTS | st.text("ab", min_size=1020, max_size=1030)
ZONES = st.none() | st.sampled_from([dt.UTC, dt.timezone(dt.timedelta(hours=-3, minutes=7)), zoneinfo.ZoneInfo("UTC")])
ATOMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=True)
    | st.complex_numbers(allow_nan=False)
    | TEXTS
    | st.binary(max_size=40)
    | st.binary(min_size=1020, max_size=1100)
    | st.datetimes(timezones=ZONES)
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.uuids()
    | st.decimals()
)
PLAIN_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20).filter(lambda text: "asset" not in text)
HASHABLE = st.none() | st.booleans() | st.integers() | PLAIN_TEXTS | st.binary(max_size=8)
DTYPES = st.sampled_from(
    ["?", "i1", "<i2", ">i4", "<i8", "u1", "<u4", "<f2", ">f4", "<f8", "<c8", "<c16", "S3", "<U2", "<M8[ns]", "<m8[s]"]
)
ARRAYS = DTYPES.flatmap(
    lambda name: st_np.arrays(np.dtype(name), st_np.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)


def _grown(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(PLAIN_TEXTS, inner, max_size=4)
    )


def _grown_values(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return _grown(inner) | st.dictionaries(HASHABLE, inner, max_size=3)


SETS = st.frozensets(HASHABLE, max_size=4) | st.sets(HASHABLE, max_size=4)
INPUTS = st.dictionaries(PLAIN_TEXTS, st.recursive(ATOMS | ARRAYS | SETS, _grown, max_leaves=8), max_size=5)
VALUES = st.recursive(ATOMS | ARRAYS | SETS | st.binary(max_size=9).map(bytearray), _grown_values, max_leaves=10)
