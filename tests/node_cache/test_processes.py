"""Big values and other processes: what one stored through the service's own settings, another one reads."""

from __future__ import annotations

import pytest

from tests.node_cache.conftest import Run

STORE = """
from hashlib import sha256
import numpy as np
value = np.random.default_rng(5).integers(0, 256, {size}, "u1")
assert cache.set(node_cache_key(Node({{"n": {size}}})), {{"pixels": value, "note": "x" * 2000}})
print(sha256(value).hexdigest())
"""
READ = """
from hashlib import sha256
found = cache.get(node_cache_key(Node({{"n": {size}}})), MISS)
assert found is not MISS and found["note"] == "x" * 2000
assert cache.stats()["l3"]["hits"] == 1 and cache.stats()["misses"] == 0
print(sha256(found["pixels"]).hexdigest())
"""


@pytest.mark.parametrize("size", [1_200_000, 64_000_000])
def test_value_over_a_megabyte_is_read_by_another_process(run: Run, size: int) -> None:
    stored = run(script=STORE.format(size=size)).strip()
    assert len(stored) == 64
    assert run(script=READ.format(size=size)).strip() == stored
