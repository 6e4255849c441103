"""Big values and other processes: what one stored through the service's own settings, another one reads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from storagecache.node_cache.frames import frame_bytes, frame_of, mac_key
from tests.node_cache.conftest import ROOT, Run
from tests.node_cache.parts import NOW, SECRET

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


WITHOUT_LIBRARIES = """
import sys
for name in ("numpy", "PIL", "pandas", "pyarrow"):
    sys.modules[name] = None
from pathlib import Path
from storagecache.node_cache import node_cache_key
from storagecache.node_cache.cache import NodeCache
from storagecache.node_cache.errors import FrameError
from storagecache.node_cache.frames import frame_bytes, frame_of, mac_key, read_frame
class Node:
    def get_node_type(self): return "t"
    def model_dump(self): return {"a": [1, 2.5, b"x"]}
assert node_cache_key(Node()).digest
value = {"a": [1, None, (2, {3})], "text": "x" * 2000}
assert read_frame(frame_bytes(frame_of(value, now=0, ttl=None), "k", b"0" * 32), "k", b"0" * 32).value() == value
try:
    read_frame(Path(sys.argv[1]).read_bytes(), "key", mac_key(sys.argv[2])).value()
except FrameError as error:
    print("refused")
"""


def test_optional_libraries_are_not_needed_and_their_values_are_misses_without_them(tmp_path: Path) -> None:
    path = tmp_path / "frame"
    path.write_bytes(frame_bytes(frame_of(np.arange(5), now=NOW, ttl=None), "key", mac_key(SECRET)))
    command = [sys.executable, "-c", WITHOUT_LIBRARIES, str(path), SECRET]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("refused", 0), done.stderr
