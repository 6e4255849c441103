"""Images, sound, text, tables and video in and out; values of this process; nested values; the node cache; requests."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import subprocess
import sys
import wave
from collections import namedtuple
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import connections
from PIL import Image

from assets.models import Asset
from assets.services import delete_assets
from assets.workflows import (
    AssetRef,
    AudioRef,
    DataframeRef,
    ImageRef,
    MissingLibraryError,
    ProcessingContext,
    TextRef,
    VideoRef,
    libraries,
)
from assets.workflows.references import is_reference, reference_from
from storagecache.environment import Environment
from storagecache.errors import ObjectNotFoundError, UnsupportedCapabilityError
from tests.assets.conftest import Buckets, put

PROJECT = Path(__file__).resolve().parent.parent.parent
RED = Image.new("RGB", (6, 4), "red")
Pair = namedtuple("Pair", "left right")


# --- references ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [AssetRef, ImageRef, AudioRef, VideoRef, TextRef, DataframeRef])
def test_reference_is_nodetools_json_and_back(kind: type[AssetRef]) -> None:
    reference = kind(uri="u", asset_id="a")
    dumped = reference.model_dump()
    assert dumped == {"type": kind.type, "uri": "u", "asset_id": "a", "data": None}
    assert is_reference(dumped)
    assert reference_from(json.loads(json.dumps(dumped))) == reference
    assert kind().is_empty()
    assert reference.is_set()
    with pytest.raises(AttributeError):
        reference.uri = "x"  # type: ignore[misc]


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"type": "image"},
        {"type": "zzz", "uri": ""},
        {"type": ["image"], "uri": ""},
        1,
        {"type": "text", "data": 1.5},
        {"type": "image", "uri": 5},
        {"type": "dataframe", "data": [], "columns": 5},
    ],
)
def test_other_values_are_no_reference(value: Any) -> None:
    assert not is_reference(value)


@pytest.mark.parametrize("wrong", [{"uri": 1}, {"asset_id": 1}, {"data": 1.5}, {"columns": 5}])
def test_reference_of_wrong_types_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"cannot be of type"):
        reference_from({"type": "dataframe", **wrong})


def test_inline_data_is_read(memory: Buckets, context: ProcessingContext) -> None:
    assert context.asset_to_bytes(ImageRef(data=b"\x89")) == b"\x89"
    assert context.asset_to_bytes(reference_from(ImageRef(data=b"\x89").model_dump())) == b"\x89"
    assert context.asset_to_bytes({"type": "image", "data": [137, 1]}) == b"\x89\x01"
    assert context.text_to_str(TextRef(data="ü")) == "ü"
    with pytest.raises(ValueError, match=r"base64"):
        context.asset_to_bytes(ImageRef(data="%"))
    with pytest.raises(ValueError, match=r"empty"):
        context.asset_to_bytes(ImageRef())


@pytest.mark.parametrize("data", [b"hi", "Größe".encode(), b"\xff\x00", b"\xef\xbb\xbfmark", b"", b"YWJj"])
@pytest.mark.parametrize("kind", [AssetRef, ImageRef, TextRef, DataframeRef])
def test_inline_bytes_come_back_from_their_json(
    memory: Buckets, context: ProcessingContext, kind: type[AssetRef], data: bytes
) -> None:
    again = reference_from(json.loads(json.dumps(kind(data=data).model_dump())))
    assert context.asset_to_bytes(again) == data


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_inline_file_of_a_table_comes_back_from_its_json(
    memory: Buckets, context: ProcessingContext, name: str
) -> None:
    frame = pd.DataFrame({"a": [1, 2]})
    data = context.asset_to_bytes(context.dataframe_from_pandas(frame, name))
    again = reference_from(json.loads(json.dumps(DataframeRef(data=data).model_dump())))
    pd.testing.assert_frame_equal(context.dataframe_to_pandas(again), frame)


# --- images --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [None, "red.png", "red.webp", "red.jpg", "red"])
def test_image_goes_in_and_out(buckets: Buckets, context: ProcessingContext, name: str | None) -> None:
    reference = context.image_from_pil(RED, name)
    found = context.image_to_pil(reference)
    assert (found.size, context.image_to_numpy(reference).shape) == ((6, 4), (4, 6, 3))
    if name is None:
        assert (reference.uri[:9], reference.asset_id) == ("memory://", None)
        assert context.asset_to_bytes(reference).startswith(b"\x89PNG")
    else:
        asset = context.find_asset(reference.asset_id or "")
        assert (asset.name, asset.width, asset.height) == (name, 6, 4)
        assert asset.content_type == {"red.jpg": "image/jpeg", "red.webp": "image/webp"}.get(name, "image/png")
    if name != "red.jpg":
        assert context.image_to_numpy(reference)[0, 0].tolist() == [255, 0, 0] or name == "red.webp"
    assert base64.b64decode(context.image_to_base64(reference)).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("array", "mode"),
    [
        (np.zeros((4, 6), np.uint8), "L"),
        (np.zeros((4, 6, 1), np.uint8), "L"),
        (np.full((4, 6, 3), 0.5), "RGB"),
        (np.ones((4, 6, 4), np.uint8), "RGBA"),
        (np.ones((4, 6), bool), "L"),
        (np.ones((4, 6, 3), np.uint8)[::-1, :, ::-1], "RGB"),
    ],
)
def test_array_becomes_an_image(memory: Buckets, context: ProcessingContext, array: Any, mode: str) -> None:
    image = context.image_to_pil(context.image_from_numpy(array, "x.png"))
    assert (image.mode, image.size) == (mode, (6, 4))
    assert np.asarray(image).max() == {"f": 128, "b": 255}.get(array.dtype.kind, array.max())


@pytest.mark.parametrize(
    "array", [np.zeros(3), np.zeros((2, 2, 7)), np.zeros((2, 2), np.int64), np.zeros((0, 2), np.uint8)]
)
def test_array_that_is_no_image_is_refused(memory: Buckets, context: ProcessingContext, array: Any) -> None:
    with pytest.raises(ValueError, match=r"An image"):
        context.image_from_numpy(array)


def test_image_of_other_bytes_is_refused(memory: Buckets, context: ProcessingContext) -> None:
    for data in (b"", b"text", b"\x89PNG\r\n\x1a\n"):
        with pytest.raises(ValueError, match=r"Not an image"):
            context.image_to_pil(context.image_from_bytes(data))


def test_memory_image_is_kept_from_changes(memory: Buckets, context: ProcessingContext) -> None:
    image = RED.copy()
    reference = context.image_from_pil(image)
    image.putpixel((0, 0), (0, 0, 0))
    context.image_to_pil(reference).putpixel((0, 0), (0, 0, 0))
    assert context.image_to_pil(reference).getpixel((0, 0)) == (255, 0, 0)


def test_memory_value_that_is_gone_is_an_error(memory: Buckets, context: ProcessingContext) -> None:
    reference = context.image_from_pil(RED)
    Environment.get_memory_uri_cache().delete(reference.uri)
    with pytest.raises(ObjectNotFoundError, match=r"dropped"):
        context.image_to_pil(reference)


def test_value_too_large_for_memory_becomes_temporary(
    memory: Buckets, context: ProcessingContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Environment.get_memory_uri_cache(), "max_bytes", 10)
    reference = context.image_from_pil(RED)
    asset = context.find_asset(reference.asset_id or "")
    assert (asset.bucket, asset.expires_at is None) == ("temp", False)
    assert context.image_to_pil(reference).size == (6, 4)


# --- sound, text, tables, video ------------------------------------------------------------------


@pytest.mark.parametrize("name", [None, "tone.wav"])
def test_sound_goes_in_and_out(memory: Buckets, context: ProcessingContext, name: str | None) -> None:
    tone = np.sin(np.linspace(0, 440, 8000, dtype=np.float32))
    reference = context.audio_from_numpy(tone, 8000, name=name)
    samples, rate, seconds = context.audio_to_numpy(reference)
    assert (samples.dtype, samples.shape, rate, seconds) == (np.float32, (8000,), 8000, 1.0)
    assert np.abs(samples - tone).max() < 1e-3
    halved = context.audio_to_numpy(reference, sample_rate=4000)
    assert (halved[1], round(halved[2], 1), context.audio_duration(reference)) == (4000, 1.0, 1.0)
    if name:
        assert Asset.objects.get().duration == 1.0


def test_sound_of_two_channels_keeps_them(memory: Buckets, context: ProcessingContext) -> None:
    stereo = np.stack([np.full(100, 0.5), np.full(100, -0.5)], axis=1)
    samples, _, seconds = context.audio_to_numpy(context.audio_from_numpy(stereo, 100), mono=False)
    assert (samples.shape, seconds, samples[0].round(2).tolist()) == ((100, 2), 1.0, [0.5, -0.5])
    flat = context.audio_from_numpy(np.array([1, -1] * 100, np.int16), 100, num_channels=2)
    assert context.audio_to_numpy(flat)[0].shape == (100,)
    for wrong in (np.zeros((2, 2, 2)), np.zeros(3, np.int64)):
        with pytest.raises(ValueError, match=r"Sound"):
            context.audio_from_numpy(wrong, 100)
    with pytest.raises(ValueError, match=r"sound"):
        context.audio_to_numpy(AudioRef(data=b"no sound"))


def test_duration_of_long_sound_is_counted_in_little_memory(
    memory: Buckets, context: ProcessingContext, tmp_path: Path
) -> None:
    with wave.open(str(tmp_path / "long.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(44_100)
        for _ in range(60):
            file.writeframes(bytes(4 * 44_100 * 5))
    sound = context.audio_from_io(tmp_path / "long.wav", "long.wav")
    context.audio_duration(context.audio_from_numpy(np.zeros(10, np.float32), 10))  # what is imported on the way
    before = peak_memory()
    assert context.audio_duration(sound) == 300.0
    assert peak_memory() - before < 30 << 20  # decoded it has 53 MB, and 106 when its pieces are joined


def peak_memory() -> int:
    """Give the highest resident memory since the last call, in bytes, and begin anew."""
    lines = Path("/proc/self/status").read_text().splitlines()
    highest = next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))
    Path("/proc/self/clear_refs").write_text("5")  # proc(5)
    return highest


@pytest.mark.parametrize("name", [None, "a.txt"])
def test_text_goes_in_and_out(memory: Buckets, context: ProcessingContext, name: str | None) -> None:
    assert context.text_to_str(context.text_from_str("Größe\n", name)) == "Größe\n"
    assert context.text_to_str("as it is") == "as it is"
    with pytest.raises(ValueError, match=r"utf-8"):
        context.text_to_str(TextRef(data=b"\xff"))


@pytest.mark.parametrize("name", [None, "t", "t.parquet", "t.csv", "t.json", "t.jsonl"])
def test_table_goes_in_and_out(memory: Buckets, context: ProcessingContext, name: str | None) -> None:
    frame = pd.DataFrame({"n": [1, 2], "t": ["a", "ü,"], "f": [0.5, None]})
    reference = context.dataframe_from_pandas(frame, name)
    pd.testing.assert_frame_equal(context.dataframe_to_pandas(reference), frame)


def test_inline_table_is_read(memory: Buckets, context: ProcessingContext) -> None:
    value = {"type": "dataframe", "uri": "", "data": [[1, "a"]], "columns": [{"name": "n"}, {"name": "t"}]}
    reference = reference_from(value)
    assert isinstance(reference, DataframeRef)
    assert context.dataframe_to_pandas(reference).to_dict("records") == [{"n": 1, "t": "a"}]
    assert json.loads(context.asset_to_bytes(reference)) == [{"n": 1, "t": "a"}]
    with pytest.raises(ValueError, match=r"table"):
        context.dataframe_to_pandas(DataframeRef(data=b"PAR1 and no more"))


@pytest.mark.parametrize("name", [None, "v.mp4"])
def test_frames_become_a_video(memory: Buckets, context: ProcessingContext, name: str | None) -> None:
    import av

    frames = (np.full((33, 48, 3), shade, np.uint8) for shade in range(0, 250, 10))
    reference = context.video_from_frames(frames, 10, name)
    asset = context.find_asset(reference.asset_id or "")
    assert (asset.content_type, asset.width, asset.height, asset.duration) == ("video/mp4", 48, 32, 2.5)
    assert asset.bucket == ("assets" if name else "temp")
    with context.asset_to_io(reference) as stream, av.open(stream) as container:
        assert sum(1 for _ in container.decode(video=0)) == 25


@pytest.mark.parametrize(("frames", "fps"), [([], 10), ([RED, RED.resize((8, 8))], 10), ([RED], 0), ([RED], -1)])
def test_frames_that_make_no_video_are_refused(
    memory: Buckets, context: ProcessingContext, frames: list[Image.Image], fps: float
) -> None:
    with pytest.raises(ValueError, match=r"[Ff]rame"):
        context.video_from_frames(frames, fps)
    assert not Asset.objects.exists()


def test_missing_library_is_named() -> None:
    with pytest.raises(MissingLibraryError, match=r"'nothing_here'.*pip install nothing_here"):
        libraries.need("nothing_here.part", "This")


def test_context_imports_no_heavy_library() -> None:
    code = (
        "import django, sys; django.setup(); import assets.workflows; "
        "print([n for n in ('numpy', 'pandas', 'PIL', 'av', 'pyarrow', 'boto3') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        env={"DJANGO_SETTINGS_MODULE": "nodetool_site.settings", "ENV": "test", "PATH": "/usr/bin", "HOME": "/nowhere",
             "NODETOOL_CONFIG_DIR": str(Environment.current().config_folder)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "[]", done.stderr[-2000:]


# --- nested values -------------------------------------------------------------------------------


def test_upload_assets_to_temp_replaces_what_only_this_process_has(
    buckets: Buckets, context: ProcessingContext, owner: User
) -> None:
    kept = ImageRef(asset_id=put(owner, "k", b"1").pk.hex)
    value = {
        "a": [context.image_from_pil(RED), (TextRef(data="t"), 1)],
        "p": Pair({"type": "text", "uri": "data:,x", "asset_id": None, "data": None, "more": 1}, None),
        "k": kept,
        "u": AssetRef(uri="http://x.org/"),
        "n": 5,
    }
    result = context.upload_assets_to_temp(value)
    image, (text, one) = result["a"]
    assert isinstance(image, ImageRef)
    assert isinstance(text, TextRef)
    assert (one, result["n"], result["u"], result["k"].asset_id) == (1, 5, value["u"], kept.asset_id)
    assert result["k"].uri.startswith("http")
    assert (result["p"].left["type"], result["p"].left["more"]) == ("text", 1)
    assert context.asset_to_bytes(result["p"].left) == b"x"
    assert context.text_to_str(text) == "t"
    temp = {asset.pk.hex for asset in Asset.objects.filter(bucket="temp")}
    assert {image.asset_id, text.asset_id, result["p"].left["asset_id"]} == temp
    assert value["a"][0].uri.startswith("memory://")  # type: ignore[index]
    assert all(reference.uri.startswith("http") for reference in (image, text))


def test_encode_assets_as_uri_replaces_references_by_their_bytes(
    memory: Buckets, context: ProcessingContext, owner: User
) -> None:
    asset = put(owner, "k.txt", b"hi", content_type="text/plain")
    value = [{"x": TextRef(asset_id=asset.pk.hex)}, (TextRef(data="ü"),), ImageRef(), "text"]
    coded = context.encode_assets_as_uri(value)
    assert coded[0]["x"].uri == "data:text/plain;base64,aGk="
    assert coded[1][0].data is None
    assert context.text_to_str(AssetRef(uri=coded[1][0].uri)) == "ü"
    assert coded[2:] == [ImageRef(), "text"]


def test_value_that_holds_itself_is_refused(memory: Buckets, context: ProcessingContext) -> None:
    value: list[Any] = []
    value.append({"again": value})
    shared = [TextRef(uri="http://x.org/")]
    with pytest.raises(ValueError, match=r"contains itself"):
        context.upload_assets_to_temp(value)
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(ValueError, match=r"nested this deep"):
        context.upload_assets_to_temp(deep)
    assert context.upload_assets_to_temp([shared, shared]) == [shared, shared]


# --- the node cache ------------------------------------------------------------------------------


class Resize:
    """A node."""

    def __init__(self, **properties: Any) -> None:
        self.properties = properties

    def get_node_type(self) -> str:
        return "test.Resize"

    def model_dump(self) -> dict[str, Any]:
        return self.properties


@pytest.fixture(autouse=True)
def empty_cache() -> None:
    Environment.get_node_cache().clear()


def test_cached_result_gives_references_back(disk: Buckets, context: ProcessingContext) -> None:
    node, reference = Resize(width=1), context.image_from_pil(RED, "x.png")
    assert context.get_cached_result(node) is None
    assert context.cache_result(node, {"output": [reference, 1], "pair": (TextRef(data="t"),)})
    assert context.get_cached_result(node) == {"output": [reference, 1], "pair": (TextRef(data="t"),)}
    assert context.get_cached_result(Resize(width=2), "default") == "default"
    delete_assets([context.find_asset(reference.asset_id or "").pk])
    assert context.get_cached_result(node) is None


def test_cached_result_of_this_process_is_stored_for_all(disk: Buckets, context: ProcessingContext) -> None:
    context.cache_result(Resize(width=1), context.image_from_pil(RED))
    Environment.get_memory_uri_cache().clear()
    found = context.get_cached_result(Resize(width=1))
    assert isinstance(found, ImageRef)
    assert context.image_to_pil(found).size == (6, 4)
    assert found.asset_id in context.used_asset_ids


ODD: list[Any] = [
    {"type": "text", "data": 1.5}, {"__reference__": True, "type": "zzz"}, {"__reference__": True, "n": 1},
    [{"type": "image", "uri": 5}],
]  # fmt: skip


@pytest.mark.parametrize("result", ODD, ids=str)
def test_result_that_looks_like_a_reference_is_cached_as_it_is(
    memory: Buckets, context: ProcessingContext, result: Any
) -> None:
    assert context.cache_result(Resize(width=1), result)
    assert context.get_cached_result(Resize(width=1)) == result
    assert context.upload_assets_to_temp(result) == result


def test_result_that_cannot_be_kept_is_given_all_the_same(
    memory: Buckets, context: ProcessingContext, owner: User, change_environment: Any
) -> None:
    """A value of this process that was dropped, and one for which there is no room."""
    gone, kept = ImageRef(uri="memory://gone"), context.image_from_pil(RED)
    change_environment(user_quota_bytes=1)
    for result in (gone, {"images": [kept]}):
        assert context.cache_result(Resize(width=1), result) is False
        assert context.cached(Resize(width=1), lambda result=result: result) is result  # type: ignore[misc]
        assert asyncio.run(in_loop(context, result)) == (False, result)
    assert context.get_cached_result(Resize(width=1)) is None


async def in_loop(context: ProcessingContext, result: Any) -> tuple[bool, Any]:
    """Keep and compute a result in an event loop."""
    took = await context.acache_result(Resize(width=1), result)
    return took, await context.acached(Resize(width=1), lambda: result)


def test_cached_computes_once_for_each_user(disk: Buckets, context: ProcessingContext, stranger: User) -> None:
    runs: list[int] = []

    def compute() -> ImageRef:
        runs.append(1)
        return context.image_from_pil(RED, "x.png")

    assert context.cached(Resize(width=1), compute) == context.cached(Resize(width=1), compute)
    assert len(runs) == 1
    ProcessingContext(user=stranger).cached(Resize(width=1), lambda: runs.append(1))
    assert len(runs) == 2


def test_cache_works_in_an_event_loop(disk: Buckets, context: ProcessingContext) -> None:
    runs: list[int] = []

    async def compute() -> ImageRef:
        runs.append(1)
        return await context.aimage_from_pil(RED, "x.png")

    async def work() -> None:
        node = Resize(width=1)
        assert await context.aget_cached_result(node) is None
        first = await context.acached(node, compute)
        assert await context.acached(node, compute) == first == context.cached(node, lambda: first)
        assert await context.aget_cached_result(node) == first
        assert await context.acache_result(Resize(width=2), first)
        assert context.get_cached_result(Resize(width=2)) == first
        await sync_to_async(connections.close_all)()  # of the thread where Django keeps a loop's connections

    asyncio.run(work())
    assert runs == [1]


# --- another process, and no catalog -------------------------------------------------------------


def manifest(workspace: Path, *entries: dict[str, Any]) -> None:
    (workspace / ".assets").mkdir()
    (workspace / ".assets" / "manifest.json").write_text(json.dumps(entries))


def test_request_makes_the_same_context(memory: Buckets, context: ProcessingContext, owner: User) -> None:
    asset = put(owner, "k", b"1")
    context.use(asset)
    again = ProcessingContext.from_request(json.loads(json.dumps(context.to_request())))
    assert again.binding == context.binding
    assert again.used_asset_ids == (asset.pk.hex,)
    assert again.asset_to_bytes(asset) == b"1"
    for wrong in ({}, {"user_id": "x"}, {"user_id": None}):
        with pytest.raises(ValueError, match=r"user_id|not found"):
            ProcessingContext.from_request(wrong)


def test_context_without_a_catalog_works_by_its_manifest(workspace: Path, tmp_path: Path) -> None:
    """No database fixture: a query would fail the test."""
    import hashlib

    (tmp_path / "elsewhere").write_bytes(b"input")
    asset_id = "0123456789abcdef0123456789abcdef"
    entry = {"id": asset_id, "name": "in.txt", "path": str(tmp_path / "elsewhere"), "type": "text/plain"}
    manifest(workspace, {**entry, "sha256": hashlib.sha256(b"input").hexdigest()})
    context = ProcessingContext.from_request({"user_id": "1", "workspace_dir": str(workspace), "has_catalog": False})
    assert context.asset_path(asset_id) == tmp_path / "elsewhere"
    assert context.asset_to_bytes(TextRef(asset_id=asset_id)) == b"input"
    assert context.text_to_str(TextRef(uri=f"asset://{asset_id}.txt")) == "input"
    assert context.find_asset(asset_id).name == context.find_asset_by_filename("in.txt").name == "in.txt"
    assert [asset.content_type for asset in context.list_assets()] == ["text/plain"]
    stream = io.BytesIO()
    assert context.download_asset(asset_id, stream, 1, 2) == 2
    with pytest.raises(ValueError, match=r"Asset nothing not found"):
        context.find_asset("nothing")
    with pytest.raises(UnsupportedCapabilityError):
        context.asset_url(asset_id)
    for name in ("../out.png", "../out.png", "x" * 1020 + ".png", "ü" * 500 + ".png"):
        reference = context.image_from_pil(RED, name)
        assert context.image_to_pil(reference).size == (6, 4)
    assert [path.suffix for path in (workspace / "outputs").iterdir()] == [".png"] * 4
    for use in ({"temporary": True}, {"parent_id": asset_id}):
        with pytest.raises(UnsupportedCapabilityError, match=r"need the catalog"):
            context.create_asset("x", "text/plain", b"x", **use)  # type: ignore[arg-type]
    (tmp_path / "elsewhere").write_bytes(b"other")
    with pytest.raises(ValueError, match=r"SHA-256"):
        context.asset_to_bytes(asset_id)


def test_manifest_that_a_job_forged_leads_nowhere_else(
    memory: Buckets, owner: User, workspace: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (workspace / "link").symlink_to(tmp_path / "secret")
    (workspace / "mine").write_bytes(b"mine")
    paths = [str(tmp_path / "secret"), "../secret", "link", "/etc/passwd", "mine"]
    ids = [f"{number:032x}" for number in range(len(paths))]
    manifest(
        workspace,
        *(
            {"id": i, "name": "x", "path": path, "sha256": "", "type": "t/t"}
            for i, path in zip(ids, paths, strict=True)
        ),
    )
    context = ProcessingContext(user=owner, workspace_dir=workspace)
    for asset_id in ids:
        with pytest.raises(ValueError, match=r"not found"):
            context.asset_to_bytes(asset_id)
    context = ProcessingContext(user=owner, workspace_dir=workspace)
    without = context.to_request(has_catalog=False)
    assert ProcessingContext.from_request(without).asset_path(ids[-1]) == workspace / "mine"


def test_catalog_knows_better_than_an_old_manifest(
    memory: Buckets, context: ProcessingContext, owner: User, workspace: Path
) -> None:
    """What a job left behind tells of assets as they were: since replaced, or deleted."""
    same, replaced, deleted = (put(owner, name, b"old") for name in ("same", "replaced", "deleted"))
    (workspace / "file").write_bytes(b"old")
    manifest(
        workspace,
        *({"id": asset.pk.hex, "name": "x", "path": "file", "sha256": sha256(b"old").hexdigest(), "type": "t/t"}
          for asset in (same, replaced, deleted)),
    )  # fmt: skip
    put(owner, "replaced", b"new")
    delete_assets([deleted.pk])
    assert context.asset_path(same) == workspace / "file"
    assert context.asset_to_bytes(replaced) == b"new"
    with pytest.raises(UnsupportedCapabilityError):
        context.asset_path(replaced)
    for call in (context.asset_path, context.asset_to_bytes):
        with pytest.raises(ValueError, match=f"Asset {deleted.pk.hex} not found"):
            call(deleted.pk.hex)


# --- fonts and folders ---------------------------------------------------------------------------


def test_font_is_found_by_name_in_any_case(context: ProcessingContext, tmp_path: Path, change_environment: Any) -> None:
    (tmp_path / "fonts" / "deep").mkdir(parents=True)
    font = tmp_path / "fonts" / "deep" / "MyFont.ttf"
    font.write_bytes(b"")
    (tmp_path / "outside.ttf").write_bytes(b"")
    change_environment(font_path=tmp_path / "fonts", comfy_folder=tmp_path, chroma_path=None)
    for name in ("MyFont.ttf", "myfont", "MYFONT.TTF"):
        assert context.get_system_font_path(name) == font
    for name in ("../outside.ttf", "", "nothing", "/etc/passwd", "deep"):
        with pytest.raises(FileNotFoundError, match=r"FONT_PATH"):
            context.get_system_font_path(name)
    assert (context.comfy_folder, context.chroma_path) == (tmp_path, None)
