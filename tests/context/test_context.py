"""Assets through a context: found, opened, downloaded, created, linked; whose they are and what they came from."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import os
import threading
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.core.files.storage import storages

from assets.ids import new_id
from assets.models import Asset, Derivation, fold_name
from assets.services import delete_assets
from assets.workflows import AssetRef, ImageRef, ProcessingContext, TextRef
from storagecache.errors import (
    DigestMismatchError,
    ObjectNotFoundError,
    RangeNotSatisfiableError,
    UnsupportedCapabilityError,
)
from tests.assets.conftest import Buckets, put, statements
from tests.assets.test_staging import Trickle

DATA = os.urandom(300_000)


def sources(asset: Asset) -> set[Any]:
    return set(Derivation.objects.filter(asset=asset).values_list("source_id", flat=True))


def folder(owner: User, name: str, parent: Asset | None = None) -> Asset:
    made = Asset(id=new_id(), owner=owner, name=name, name_folded=fold_name(name), is_folder=True, parent=parent)
    made.content_type = "folder"
    made.created_at = made.updated_at = owner.date_joined
    made.save(force_insert=True)
    return made


def received(context: ProcessingContext, asset: Any, start: int = 0, length: int | None = None) -> bytes:
    stream = io.BytesIO()
    assert context.download_asset(asset, stream, start, length) == len(stream.getvalue())
    return stream.getvalue()


def test_create_asset_records_its_origin_and_reads_back(buckets: Buckets, context: ProcessingContext) -> None:
    asset = context.create_asset("a b/ü#?.bin", "application/octet-stream", DATA, metadata={"k": 1}, tags=["t"])
    assert (asset.workflow_id, asset.job_id, asset.node_id) == ("w1", "j1", "n1")
    assert (asset.name, asset.metadata, asset.tags, asset.key) == ("a b/ü#?.bin", {"k": 1}, ["t"], asset.pk.hex)
    assert context.asset_to_bytes(asset) == received(context, asset.pk.hex) == DATA
    with context.asset_to_io(AssetRef(asset_id=asset.pk.hex)) as stream:
        stream.seek(-10, io.SEEK_END)
        assert stream.read() == DATA[-10:]
        stream.seek(5)
        assert stream.read(5) == DATA[5:10]


@pytest.mark.parametrize("kind", ["bytes", "bytearray", "stream", "trickle", "path", "workspace"])
def test_create_asset_takes_every_kind_of_content(
    memory: Buckets, context: ProcessingContext, workspace: Path, tmp_path: Path, kind: str
) -> None:
    (workspace / "in.bin").write_bytes(b"content")
    (tmp_path / "else.bin").write_bytes(b"content")
    content: Any = {
        "bytes": b"content",
        "bytearray": bytearray(b"content"),
        "stream": io.BytesIO(b"content"),
        "trickle": Trickle(b"content"),
        "path": tmp_path / "else.bin",
        "workspace": "in.bin",
    }[kind]
    assert context.asset_to_bytes(context.create_asset("x", "text/plain", content)) == b"content"


@pytest.mark.parametrize("name", ["", "a\0b", "a\nb", "x" * 1025, "a\udcff", 5])
def test_create_asset_of_an_impossible_name_is_refused(memory: Buckets, context: ProcessingContext, name: str) -> None:
    with pytest.raises(ValueError, match=r"name"):
        context.create_asset(name, "text/plain", b"x")


@pytest.mark.parametrize("content", [None, 5, [b"x"], io.StringIO("x")], ids=["none", "number", "list", "text stream"])
def test_create_asset_of_what_is_no_content_is_refused(
    memory: Buckets, context: ProcessingContext, content: Any
) -> None:
    with pytest.raises(TypeError, match=r"Content is bytes, a binary stream or a path, not"):
        context.create_asset("x", "text/plain", content)
    assert not Asset.objects.exists()


@pytest.mark.parametrize(
    "measure",
    [{"duration": float("nan")}, {"duration": -1.0}, {"duration": float("inf")}, {"width": -1}, {"height": 2**31}],
    ids=str,
)  # fmt: skip
def test_create_asset_of_an_impossible_measure_is_refused(
    memory: Buckets, context: ProcessingContext, measure: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=rf"The {next(iter(measure))} of an asset is a number from 0 on"):
        context.create_asset("x", "text/plain", b"x", **measure)


def test_create_asset_from_a_str_outside_of_the_workspace_is_refused(
    memory: Buckets, context: ProcessingContext
) -> None:
    for path in ("/etc/passwd", "../x"):
        with pytest.raises(ValueError, match=r"workspace"):
            context.create_asset("x", "text/plain", path)


def test_create_asset_links_what_the_context_used(
    buckets: Buckets, context: ProcessingContext, owner: User, stranger: User
) -> None:
    made = [put(owner, f"{number}", b"%d" % number) for number in range(8)]
    put(stranger, "theirs", b"x")
    context.find_asset(made[0].pk.hex)
    context.asset_to_bytes(ImageRef(asset_id=made[1].pk.hex))
    received(context, made[2], 0, 1)
    context.asset_url("3")
    context.asset_to_bytes({"type": "image", "uri": "", "asset_id": made[4].pk.hex})
    context.download_file(f"asset://{made[5].pk.hex}.bin").close()
    context.refresh_uri(AssetRef(asset_id=made[6].pk.hex))
    context.list_assets()
    result = context.create_asset("out", "text/plain", b"out")
    assert sources(result) == {asset.pk for asset in made[:7]}
    assert set(Derivation.objects.values_list("job_id", "node_id")) == {("j1", "n1")}
    assert sources(context.for_node("n2").create_asset("other", "text/plain", b"o")) == set()
    assert sources(context.create_asset("told", "text/plain", b"t", sources=[made[7]])) == {made[7].pk}
    assert sources(context.create_asset("none", "text/plain", b"n", sources=())) == set()


def test_create_asset_whose_source_is_gone_is_made_without_it(
    memory: Buckets, context: ProcessingContext, owner: User
) -> None:
    kept, lost = put(owner, "kept", b"1"), put(owner, "lost", b"2")
    context.use(kept, lost.pk.hex)
    delete_assets([lost.pk])
    assert sources(context.create_asset("out", "text/plain", b"out")) == {kept.pk}


def test_inputs_of_a_context_are_sources(memory: Buckets, owner: User) -> None:
    given = put(owner, "given", b"1")
    context = ProcessingContext(user=str(owner.pk), inputs=[AssetRef(asset_id=given.pk.hex)])
    assert sources(context.create_asset("out", "text/plain", b"out")) == {given.pk}


def test_another_users_asset_is_not_found(
    memory: Buckets, context: ProcessingContext, stranger: User, workspace: Path
) -> None:
    asset = put(stranger, "theirs.txt", b"secret")
    asset_id = asset.pk.hex
    calls: list[Any] = [
        lambda: context.find_asset(asset_id),
        lambda: context.find_asset_by_filename("theirs.txt"),
        lambda: context.get_asset_url(asset_id),
        lambda: context.asset_url("theirs.txt"),
        lambda: context.asset_url(asset),
        lambda: context.asset_path(asset),
        lambda: context.download_asset(asset, io.BytesIO()),
        lambda: context.asset_to_bytes(ImageRef(asset_id=asset_id)),
        lambda: context.asset_to_bytes(AssetRef(uri="/storage/assets/theirs.txt")),
        lambda: context.asset_to_bytes(AssetRef(uri="http://127.0.0.1:7777/storage/assets/theirs.txt")),
        lambda: context.download_file(f"asset:{asset_id}"),
        lambda: context.refresh_uri(AssetRef(asset_id=asset_id)),
        lambda: context.use(asset),
        lambda: context.create_asset("x", "text/plain", b"x", sources=[asset]),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"not found|private network"):
            call()
    assert context.list_assets(content_type="text") == context.list_assets(recursive=True) == []


def test_another_users_asset_is_not_found_by_coroutines(
    memory: Buckets, context: ProcessingContext, stranger: User
) -> None:
    asset_id = put(stranger, "theirs.txt", b"secret").pk.hex
    finders = ("find_asset", "get_asset_url", "asset_url", "asset_path", "asset_to_io", "asset_to_bytes",
               "asset_to_base64", "asset_to_data_uri", "use")  # fmt: skip

    async def work() -> None:
        for name in finders:
            with pytest.raises(ValueError, match=f"^Asset {asset_id} not found$"):
                await getattr(context, f"a{name}")(asset_id)
            with pytest.raises(ValueError, match=f"^Asset {asset_id} not found$"):
                getattr(context, name)(asset_id)
        with pytest.raises(ValueError, match=f"^Asset {asset_id} not found$"):
            await context.adownload_asset(asset_id, io.BytesIO())
        with pytest.raises(ValueError, match=f"^Asset {asset_id} not found$"):
            await context.arefresh_uri(ImageRef(asset_id=asset_id))
        with pytest.raises(ValueError, match="leads out of the workspace"):
            await context.aresolve_workspace_path("../x")
        with pytest.raises(FileNotFoundError, match="FONT_PATH"):
            await context.aget_system_font_path("no such font")

    asyncio.run(work())


@pytest.mark.parametrize("wrong", ["0" * 32, "nothing", "", "'; --", "\0", "é" * 40, "../../etc"])
def test_wrong_ids_are_a_value_error_that_names_them(memory: Buckets, context: ProcessingContext, wrong: str) -> None:
    for call in (context.find_asset, context.get_asset_url, context.asset_to_bytes):
        with pytest.raises(ValueError, match=r"not found") as caught:
            call(wrong)
        assert str(caught.value) == f"Asset {wrong} not found"
        assert isinstance(caught.value, ObjectNotFoundError)


def test_download_asset_gives_ranges(buckets: Buckets, context: ProcessingContext, owner: User) -> None:
    asset = put(owner, "k", DATA)
    size = len(DATA)
    for start, length in [(0, 1), (size - 1, None), (10, 70_000), (size - 5, 100), (size, None), (0, 0), (7, 0)]:
        end = size if length is None else start + length
        assert received(context, asset, start, length) == DATA[start:end]
    for start, length in [(size + 1, None), (-1, None), (0, -1)]:
        with pytest.raises(RangeNotSatisfiableError):
            context.download_asset(asset, io.BytesIO(), start, length)


def test_download_asset_of_damaged_bytes_is_an_error(disk: Buckets, context: ProcessingContext, owner: User) -> None:
    asset = put(owner, "k", DATA)
    assert asset.object is not None
    path = Path(storages["assets"].path(asset.object.key))
    path.chmod(0o644)
    path.write_bytes(DATA[:-1] + bytes([DATA[-1] ^ 1]))
    for call in (received, lambda context, asset: received(context, asset, 0, len(DATA) + 5)):
        with pytest.raises(DigestMismatchError):
            call(context, asset)
    with pytest.raises(DigestMismatchError):
        context.asset_to_bytes(asset)
    path.write_bytes(DATA[:1000])
    with pytest.raises(DigestMismatchError, match=r"1000"):
        received(context, asset)
    with pytest.raises(DigestMismatchError, match=r"end after"):
        received(context, asset, 500, 1000)


class Short(io.RawIOBase):
    """A raw stream that takes three bytes at a time."""

    def __init__(self) -> None:
        self.taken = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.taken += bytes(data[:3])
        return min(3, len(data))


def test_download_asset_into_a_stream_that_takes_little_is_whole(
    memory: Buckets, context: ProcessingContext, owner: User
) -> None:
    stream = Short()
    context.download_asset(put(owner, "k", b"0123456789"), stream)
    assert stream.taken == b"0123456789"


def test_download_asset_costs_one_statement(memory: Buckets, context: ProcessingContext, owner: User) -> None:
    asset = put(owner, "k", DATA)
    with statements() as seen:
        received(context, asset.pk.hex)
    assert [sql.split()[0] for sql in seen if sql.startswith("SELECT")] == ["SELECT"]


def test_find_asset_by_filename_gives_the_newest(memory: Buckets, context: ProcessingContext, owner: User) -> None:
    context.create_asset("Größe.txt", "text/plain", b"1")
    second = context.create_asset("Größe.txt", "text/plain", b"2")
    assert context.find_asset_by_filename("Größe.txt").pk == second.pk
    with pytest.raises(ValueError, match=r"Asset größe.txt not found"):
        context.find_asset_by_filename("größe.txt")


def test_list_assets_narrows_by_folder_depth_and_type(memory: Buckets, context: ProcessingContext, owner: User) -> None:
    upper = folder(owner, "upper")
    lower = folder(owner, "lower", upper)
    context.create_asset("home.txt", "text/plain", b"1")
    context.create_asset("upper.txt", "text/plain", b"2", upper.pk.hex)
    context.create_asset("lower.json", "application/json", b"{}", lower.pk.hex)

    def names(*args: Any, **options: Any) -> list[str]:
        return [asset.name for asset in context.list_assets(*args, **options)]

    assert names() == ["upper", "home.txt"]
    assert names(upper.pk.hex) == ["lower", "upper.txt"]
    assert names(upper.pk.hex, recursive=True) == ["lower", "upper.txt", "lower.json"]
    assert names(str(owner.pk), True, "text/") == ["home.txt", "upper.txt"]
    assert sorted(names(recursive=True)) == ["home.txt", "lower", "lower.json", "upper", "upper.txt"]
    assert names(content_type="application/json") == ["lower.json"]
    assert names(recursive=True, limit=2) == names(recursive=True)[:2]
    with pytest.raises(ValueError, match=r"Asset nowhere not found"):
        names("nowhere")
    with pytest.raises(ValueError, match=r"not found"):
        names("0" * 32, recursive=True)


def test_asset_url_is_the_same_for_asset_key_and_id(buckets: Buckets, context: ProcessingContext, owner: User) -> None:
    asset = put(owner, "a/b c.txt", b"1")
    url = context.asset_url(asset)
    assert (
        url == context.asset_url("a/b c.txt") == context.asset_url(asset.pk.hex) == context.get_asset_url(asset.pk.hex)
    )
    assert url.startswith("http")
    assert context.asset_url(str(asset.pk), expires_in=60) != url
    assert context.refresh_uri(TextRef(asset_id=asset.pk.hex)) == TextRef(asset_id=asset.pk.hex, uri=url)
    assert context.refresh_uri({"type": "text", "asset_id": asset.pk.hex}) == TextRef(asset_id=asset.pk.hex, uri=url)
    for life in (0, -1, 8 * 24 * 3600):
        with pytest.raises(ValueError, match=r"expires_in"):
            context.asset_url(asset, expires_in=life)
    with pytest.raises(ObjectNotFoundError, match=r"folder"):
        context.asset_url(folder(owner, "f"))


def test_asset_url_of_this_service_is_read_from_the_catalog(
    disk: Buckets, context: ProcessingContext, owner: User
) -> None:
    asset = put(owner, "a/ü b.txt", b"1")
    for uri in (context.asset_url(asset), "/storage/assets/a/%C3%BC%20b.txt", "/api/storage/a/%C3%BC%20b.txt"):
        assert context.asset_to_bytes(AssetRef(uri=uri)) == b"1"
    assert context.used_asset_ids == (asset.pk.hex,)


def test_asset_path_is_the_file_where_there_is_one(buckets: Buckets, context: ProcessingContext, owner: User) -> None:
    asset = put(owner, "k", b"1")
    if buckets.kind == "filesystem":
        assert context.asset_path(asset).read_bytes() == b"1"
    else:
        with pytest.raises(UnsupportedCapabilityError, match=r"open or download"):
            context.asset_path(asset)


def test_asset_to_text_forms(memory: Buckets, context: ProcessingContext) -> None:
    asset = context.create_asset("a.txt", "text/plain", b"hi")
    encoded = base64.b64encode(b"hi").decode()
    assert (context.asset_to_base64(asset), context.asset_to_data_uri(asset)) == (
        encoded,
        f"data:text/plain;base64,{encoded}",
    )


def test_context_works_in_an_event_loop_both_ways(buckets: Buckets, context: ProcessingContext) -> None:
    async def work() -> None:
        asset = await context.acreate_asset("a.txt", "text/plain", b"hi")
        assert await context.aasset_to_bytes(asset) == b"hi"
        stream = io.BytesIO()
        assert await context.adownload_asset(asset.pk.hex, stream, 1) == 1
        assert (await context.afind_asset(asset.pk.hex)).name == "a.txt"
        assert [found.pk for found in await context.alist_assets()] == [asset.pk]
        with pytest.raises(ValueError, match=r"Asset nothing not found"):
            await context.afind_asset("nothing")
        # The plain ones hold the loop up, and work.
        assert context.asset_to_bytes(context.find_asset(asset.pk.hex)) == b"hi"
        assert context.create_asset("b.txt", "text/plain", b"ho").size == 2
        assert await asyncio.gather(*(context.aasset_to_bytes(asset) for _ in range(40))) == [b"hi"] * 40

    asyncio.run(work())


def test_context_is_shared_by_threads(disk: Buckets, context: ProcessingContext) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            data = b"%d" % number * 1000
            asset = context.create_asset(f"{number}", "text/plain", data)
            assert context.asset_to_bytes(asset) == data
        except BaseException as error:  # noqa: BLE001  # told below
            failures.append(error)
        finally:
            from django.db import connection

            connection.close()

    threads = [threading.Thread(target=work, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert len(context.used_asset_ids) == 8


@pytest.mark.django_db(transaction=True)
def test_threads_that_live_on_hold_no_connection(disk: Buckets, context: ProcessingContext, owner: User) -> None:
    """Nodes' threads are more than there are connections (the pool of a test has 4): each call gives its own back."""
    from django.db import connection

    asset, everybody, seen = put(owner, "k", b"1"), threading.Barrier(9), list[bool]()

    def work(number: int) -> None:
        node = Named(number)
        context.find_asset(asset.pk.hex)
        assert context.cached(node, lambda: connection.connection is None)
        seen.append(connection.connection is None)
        everybody.wait(60)

    threads = [threading.Thread(target=work, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    everybody.wait(60)
    assert seen == [True] * 8
    for thread in threads:
        thread.join(60)


class Named:
    """A node that is like no other."""

    def __init__(self, number: int) -> None:
        self.number = number

    def get_node_type(self) -> str:
        return "test.Named"

    def model_dump(self) -> dict[str, Any]:
        return {"number": self.number, "run": uuid4().hex}


def test_every_twin_has_its_method() -> None:
    names = [name for name in dir(ProcessingContext) if not name.startswith("_")]
    methods = {name for name in names if callable(getattr(ProcessingContext, name))}
    own = {"for_node", "to_request", "from_request"}
    plain = {name for name in methods if f"a{name}" in methods}
    assert (
        methods - plain - {f"a{name}" for name in plain} - own - {"reference_to", "memory_value", "keep_in_memory"}
        == set()
    )


@pytest.mark.parametrize("user", ["x", "", "-1", "1; drop", "0123456789abcdef0123456789abcdef"])
def test_context_of_no_user_is_refused(user: str) -> None:
    with pytest.raises(ValueError, match=r"not found"):
        ProcessingContext(user=user)


def test_context_of_an_absent_user_finds_and_makes_nothing(memory: Buckets, owner: User) -> None:
    context = ProcessingContext(user=owner.pk + 1000)
    with pytest.raises(ValueError, match=r"User .* not found"):
        context.create_asset("x", "text/plain", b"x")
    assert context.list_assets() == []


def test_digest_of_a_large_asset_is_what_was_stored(buckets: Buckets, context: ProcessingContext) -> None:
    data = os.urandom(6 << 20)
    asset = context.create_asset("big", "application/octet-stream", io.BytesIO(data))
    assert asset.object is not None
    assert asset.object.sha256 == hashlib.sha256(received(context, asset)).hexdigest()


def test_reference_that_is_not_found_is_told_without_its_signed_url(
    memory: Buckets, context: ProcessingContext
) -> None:
    gone = AssetRef(uri="https://b/k?X-Amz-Signature=canary", asset_id="0" * 32)
    with pytest.raises(ValueError, match=f"^Asset {'0' * 32} not found$"):
        context.asset_to_bytes(gone)
    with pytest.raises(ValueError, match="not found") as refused:
        context.find_asset(gone)  # type: ignore[arg-type]
    assert "canary" not in str(refused.value)
