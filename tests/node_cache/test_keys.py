"""Keys: equal everywhere, typed, by content, never repr()'d."""

from __future__ import annotations

import dataclasses
import enum
import os
import pickle
import shutil
import struct
import subprocess
import sys
import types
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from PIL import Image

from storagecache.node_cache import NodeCacheKey, NotCacheableError, node_cache_key, register_assets
from storagecache.node_cache.frames import frame_of
from tests.node_cache.parts import Node, OtherNode, PrintedNode, ShyNode, VersionedNode
from tests.node_cache.seeded import seeded_inputs
from tests.node_cache.values import INPUTS

NAN = float("nan")
COUNT = int(os.environ.get("PROPERTY_COUNT", "300"))
HYPOTHESIS_COUNT = 2000
pytestmark = pytest.mark.timeout(120 + COUNT // 30)
ROOT = Path(__file__).resolve().parents[2]


class Mode(enum.StrEnum):
    FAST = "fast"


def digest(properties: Any, **scope: str) -> str:
    return node_cache_key(Node({"p": properties}), **scope).digest


@pytest.fixture
def catalog() -> dict[str, str]:
    """Give a catalog of asset contents by id, registered as the assets app does."""
    contents: dict[str, str] = {}
    register_assets(is_live=lambda ids: all(i in contents for i in ids), digest_of=contents.get)
    return contents


def test_key_has_its_scopes_and_a_digest() -> None:
    key = node_cache_key(Node({"a": 1}), user="u", workflow="w")
    assert (key.user, key.workflow, key.node_type, len(key.digest)) == ("u", "w", "test.Node", 64)
    assert key == NodeCacheKey("u", "w", "test.Node", key.digest)
    with pytest.raises(dataclasses.FrozenInstanceError):
        key.user = "x"  # type: ignore[misc]


def test_key_follows_order_no_dict_and_what_matters() -> None:
    same = [digest({"a": 1, "b": {"c": 2, "d": 3}}), digest({"b": {"d": 3, "c": 2}, "a": 1})]
    assert len(set(same)) == 1
    assert digest(1) != digest(1, user="2")
    assert digest(1) == digest(1, workflow="other")
    assert node_cache_key(Node()).digest != node_cache_key(OtherNode()).digest
    assert node_cache_key(Node(node_type="x")).digest != node_cache_key(Node(node_type="y")).digest
    assert node_cache_key(Node(), inputs={"x": 1}).digest != node_cache_key(Node(), inputs={"x": 2}).digest


DIFFERENT: list[Any] = [
    1, 1.0, True, "1", b"1", [1], (1,), {"1": 1}, None, 0, 0.0, -0.0, False, "", b"", [], (), {}, set(), frozenset(),
    2**64, 2**64 + 1, -(2**63) - 1, float("inf"), float("-inf"), float("nan"), "nan", 1j, {1}, {2}, {"a"}, "a", ["a"],
    [[1], 2], [1, [2]], np.float64(1), np.float32(1), np.int64(1), np.array(1), np.array([1]), np.array([[1]]),
    np.array([1.0]), np.array(["1"]), Mode.FAST, "fast", "\ud800", "\ud801", "x" * 70_000, "x" * 70_001, b"x" * 70_000,
]  # fmt: skip


def test_different_values_have_different_keys() -> None:
    digests = [digest(value) for value in DIFFERENT]
    assert len(set(digests)) == len(DIFFERENT)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (complex(NAN, 1), complex(-NAN, 1)),
        (np.float32("nan"), -np.float32("nan")),
        ({"a": [(NAN,), {NAN}]}, {"a": [(-NAN,), {-NAN}]}),
    ],
    ids=["complex", "numpy", "nested"],
)
def test_nan_of_every_type_is_one_value(one: Any, other: Any) -> None:
    assert digest(one) == digest(other)


def test_enum_counts_by_the_value_of_its_member() -> None:
    sizes = [enum.Enum("Size", {"BIG": (number, number)}) for number in (1024, 2048)]
    assert digest(sizes[0]["BIG"]) != digest(sizes[1]["BIG"])
    with pytest.raises(NotCacheableError):
        digest(enum.Enum("Thing", {"A": object()})["A"])


def holders(depth: int) -> list[Any]:
    """Give values as deep as that, of each type that can hold others."""
    found: list[Any] = [1, 1, 1, 1]
    for _ in range(depth):
        found = [[found[0]], {"a": found[1]}, (found[2],), frozenset([found[3]])]
    return found


@pytest.mark.parametrize("depth", [50, 500, 5000])
def test_depth_is_refused_where_it_is_too_much(depth: int) -> None:
    for value in holders(depth):
        for step in (digest, lambda value: frame_of(value, now=0.0, ttl=None).value()):
            if depth == 50:
                step(value)
                continue
            with pytest.raises(NotCacheableError):
                step(value)


def test_depth_is_refused_before_the_stack_is_used_up() -> None:
    value: Any = 1
    for _ in range(3000):
        value = [({"a": value},)]
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(100_000)
    try:
        with pytest.raises(NotCacheableError):
            frame_of(value, now=0.0, ttl=None)
        with pytest.raises(NotCacheableError):
            digest(value)
    finally:
        sys.setrecursionlimit(limit)


def test_nan_is_one_value() -> None:
    payload = struct.unpack("<d", struct.pack("<Q", 0x7FF8_0000_0000_1234))[0]
    nans = [float("nan"), -float("nan"), payload, float("inf") - float("inf")]
    assert len({digest([{"x": (nan,)}]) for nan in nans}) == 1
    assert digest([float("nan"), 1]) != digest([float("nan"), 2])


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {1: 2},
        {"a": {None: 1}},
        OrderedDict(a=1),
        [lambda: 1],
        type("T", (str,), {})("x"),
        ...,
        Node,
        (1).__add__,
    ],
    ids=["object", "number-key", "none-key", "ordered", "function", "text-subclass", "ellipsis", "class", "method"],
)
def test_value_that_has_no_faithful_encoding_is_refused(value: Any) -> None:
    with pytest.raises(NotCacheableError):
        digest(value)


def test_value_within_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(NotCacheableError):
        digest(value)


def test_arrays_enter_by_content_not_by_layout() -> None:
    array = np.arange(10_000).reshape(100, 100)
    assert digest(array) == digest(np.asfortranarray(array)) == digest(np.repeat(array, 2, axis=0)[::2])
    changed = array.copy()
    changed[50, 50] += 1
    assert digest(array) != digest(changed)  # repr() shows neither
    assert digest(array) != digest(array.reshape(50, 200))
    assert digest(array) == digest(array.astype(">i8"))
    assert digest(array) != digest(array.astype("<i4"))


def test_images_enter_by_content() -> None:
    image = Image.new("RGB", (8, 8), (1, 2, 3))
    assert digest(image) == digest(image.copy())
    image_too = image.copy()
    image_too.putpixel((0, 0), (1, 2, 4))
    assert digest(image) != digest(image_too)


def test_asset_references_enter_by_content(catalog: dict[str, str]) -> None:
    catalog.update({"a" * 32: "1" * 64, "b" * 32: "1" * 64, "c" * 32: "2" * 64})

    def reference(letter: str, uri: str) -> dict[str, Any]:
        return {"type": "image", "uri": uri, "asset_id": letter * 32, "data": None}

    first = digest(reference("a", "http://x/storage/assets/a.png?sig=1"))
    assert first == digest(reference("b", "http://y/b.png"))
    assert first != digest(reference("c", "http://x/storage/assets/a.png?sig=1"))
    assert digest(f"asset://{'a' * 32}.png") == digest(f"asset://{'b' * 32}.jpg")
    catalog["a" * 32] = "3" * 64
    assert first != digest(reference("a", "http://x/storage/assets/a.png?sig=1"))
    with pytest.raises(NotCacheableError):
        digest(reference("f", "http://x"))


@pytest.mark.parametrize("uri", ["memory://x", "asset://nobody.png", "http://h/api/storage/x.png"])
def test_reference_without_known_content_is_refused(catalog: dict[str, str], uri: str) -> None:
    with pytest.raises(NotCacheableError):
        digest({"type": "image", "uri": uri, "asset_id": None, "data": None})


def test_reference_without_catalog_is_refused() -> None:
    with pytest.raises(NotCacheableError):
        digest({"asset_id": "a"})


def test_declared_version_replaces_the_source() -> None:
    before = node_cache_key(VersionedNode()).digest
    VersionedNode.cache_version = 4
    try:
        assert node_cache_key(VersionedNode()).digest != before
    finally:
        VersionedNode.cache_version = 3
    assert node_cache_key(VersionedNode()).digest == before


def test_fingerprint_is_part_of_the_key() -> None:
    node = PrintedNode()
    before = node_cache_key(node).digest
    node.seen = "b"
    assert node_cache_key(node).digest != before


def test_node_that_declines_is_refused() -> None:
    with pytest.raises(NotCacheableError):
        node_cache_key(ShyNode())


SCRIPT = """
import pickle, sys
from storagecache.node_cache import node_cache_key
from tests.node_cache.parts import Node
with open(sys.argv[1], "rb") as file:
    for _ in range(int(sys.argv[2])):
        print(node_cache_key(Node(pickle.load(file))).digest)
"""


def other_pythons() -> list[str]:
    """Give this Python, and those of the other supported versions that have the packages."""
    versions = [
        version for version in ("3.11", "3.12", "3.13") if version != f"{sys.version_info[0]}.{sys.version_info[1]}"
    ]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found = {}
    for version in versions:
        on_path = [path for path in [shutil.which(f"python{version}")] if path]
        candidates = [*on_path, *map(str, sorted(pyenv.glob(f"{version}*/bin/python{version}")))]
        found[version] = next(filter(_has_packages, candidates), None)
    return [sys.executable, *filter(None, found.values())]


def _has_packages(python: str) -> bool:
    probe = subprocess.run([python, "-c", "import numpy, ormsgpack, blake3, django"], capture_output=True, check=False)
    return probe.returncode == 0


def generated() -> Iterator[dict[str, Any]]:
    """Give COUNT inputs: some of hypothesis' choice, and as many others as are wanted."""
    chosen: list[dict[str, Any]] = []

    @settings(max_examples=min(COUNT, HYPOTHESIS_COUNT), deadline=None, database=None)
    @given(INPUTS)
    def gather(properties: dict[str, Any]) -> None:
        chosen.append(properties)

    gather()
    yield from chosen
    yield from seeded_inputs(seed=5, count=COUNT)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Give a file of inputs and the digests of their keys here."""
    path, digests = tmp_path_factory.mktemp("keys") / "inputs", []
    with path.open("wb") as file:
        for properties in generated():
            pickle.dump(properties, file)
            digests.append(node_cache_key(Node(properties)).digest)
    return path, digests


@pytest.mark.parametrize("python", other_pythons())
@pytest.mark.parametrize("seed", ["0", "1", "424242"])
def test_keys_are_equal_in_other_processes(corpus: tuple[Path, list[str]], python: str, seed: str) -> None:
    path, digests = corpus
    assert len(digests) > COUNT
    done = subprocess.run(
        [python, "-c", SCRIPT, str(path), str(len(digests))],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == digests


def test_class_without_source_has_equal_keys_in_other_processes() -> None:
    script = (
        "from storagecache.node_cache import node_cache_key\n"
        "class N:\n"
        "    def get_node_type(self): return 't'\n"
        "    def model_dump(self): return {'a': 1}\n"
        "    def process(self, x): return x in {'a', 'b', 'c'}\n"
        "print(node_cache_key(N()).digest)"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    ]
    assert len(set(runs)) == 1


def test_package_version_is_part_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    package = types.ModuleType("a_package_of_nodes")
    monkeypatch.setitem(sys.modules, package.__name__, package)

    def made(version: str) -> str:
        package.__version__ = version  # type: ignore[attr-defined]
        cls = type("Packaged", (Node,), {"__module__": package.__name__})
        return node_cache_key(cls()).digest

    assert made("1.0") == made("1.0")
    assert made("1.0") != made("1.1")
