"""Archives: what they hold, what they survive, and that nothing is held while they flow."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tracemalloc
from collections.abc import Collection
from pathlib import Path
from typing import Any
from uuid import UUID
from zipfile import ZIP_STORED, ZipFile

import pytest
from django.contrib.auth.models import User
from django.core.files.storage import storages
from django.db import connection
from django.utils import timezone

from assets.ids import new_id
from assets.models import Asset, StoredObject
from assets.services import archive, archive_stream, delete_assets, replace_content
from assets.services.archive import Archive, ArchiveError, plan_archive
from assets.services.archive_stream import ArchiveStream
from storagecache.errors import BackendUnavailableError, ObjectNotFoundError
from tests.assets.conftest import Buckets, make_folder, put, statements

Entries = dict[str, bytes]


def file(owner: User, name: str, data: bytes = b"data", parent: Asset | None = None) -> Asset:
    """Store a file of any name in a folder."""
    asset = put(owner, f"keys/{new_id().hex}", data)
    Asset.objects.filter(pk=asset.pk).update(name=name, parent=parent)
    asset.name, asset.parent = name, parent
    return asset


def fill(folder: Asset, model: Asset, count: int) -> None:
    """Put copies of an asset's row into a folder."""
    columns = [field.attname for field in Asset._meta.concrete_fields if not field.generated]
    rows = []
    for _ in range(count):
        row = Asset(**{column: getattr(model, column) for column in columns})
        row.pk, row.parent = new_id(), folder
        row.key = row.pk.hex
        rows.append(row)
    Asset.objects.bulk_create(rows, batch_size=500)


def plan(owner: User, *assets: Asset) -> Archive:
    return plan_archive(owner.pk, [asset.pk for asset in assets])


def unpack(stream: ArchiveStream) -> Entries:
    """Read an archive as a strict reader does; checks every CRC."""
    with ZipFile(io.BytesIO(b"".join(stream))) as opened:
        assert opened.testzip() is None
        assert {entry.compress_type for entry in opened.infolist()} <= {ZIP_STORED}
        assert len(set(opened.namelist())) == len(opened.namelist())
        return {name: opened.read(name) for name in opened.namelist()}


def contents(owner: User, *assets: Asset) -> Entries:
    return unpack(ArchiveStream(plan(owner, *assets)))


def test_archive_holds_files_and_whole_folders(buckets: Buckets, owner: User) -> None:
    top = make_folder(owner, "top")
    inner = make_folder(owner, "inner", top)
    make_folder(owner, "empty", inner)
    file(owner, "a.txt", b"in top", top)
    file(owner, "a.txt", b"in inner", inner)
    file(owner, "nothing", b"", inner)
    big = bytes(range(256)) * 3000  # more than a block
    loose = file(owner, "a.txt", big)
    assert contents(owner, loose, top) == {
        "top/": b"", "top/inner/": b"", "top/inner/empty/": b"", "top/a.txt": b"in top",
        "top/inner/a.txt": b"in inner", "top/inner/nothing": b"", "a.txt": big,
    }  # fmt: skip


def test_archive_is_read_by_info_zip(disk: Buckets, owner: User, tmp_path: Path) -> None:
    if shutil.which("unzip") is None:
        pytest.skip("needs the Debian package unzip")
    top = make_folder(owner, "Ordner ä")
    file(owner, "ü.txt", b"x" * 600_000, top)
    path = tmp_path / "made.zip"
    path.write_bytes(b"".join(ArchiveStream(plan(owner, top))))
    done = subprocess.run(["unzip", "-t", str(path)], capture_output=True, check=False)
    assert (done.returncode, b"No errors" in done.stdout) == (0, True), done.stdout + done.stderr


def test_archive_entries_tell_when_they_changed(memory: Buckets, owner: User) -> None:
    asset = file(owner, "a")
    when = timezone.now().replace(year=2001, month=2, day=3, hour=4, minute=5, second=6)
    for changed_at, expected in ((when, (2001, 2, 3, 4, 5, 6)), (when.replace(year=1970), (1980, 2, 3, 4, 5, 6))):
        Asset.objects.filter(pk=asset.pk).update(content_changed_at=changed_at)
        with ZipFile(io.BytesIO(b"".join(ArchiveStream(plan(owner, asset))))) as opened:
            assert opened.getinfo("a").date_time == expected


@pytest.mark.parametrize(
    "name", ["../../evil.txt", "/absolute", "C:\\evil", "..", "a\x00b", "NUL", "x" * 1000, "\x1b[2J", ""]
)
def test_archive_of_hostile_names_stays_inside_its_folder(memory: Buckets, owner: User, name: str) -> None:
    if "\x00" in name and connection.vendor == "postgresql":
        pytest.skip("PostgreSQL has no NUL")
    evil = make_folder(owner, name)
    file(owner, name, b"x", evil)
    folders, path = contents(owner, evil)
    parts = path.split("/")
    assert len(parts) == 2
    assert folders == parts[0] + "/"
    assert not any(part in {"", ".", ".."} or "\\" in part or ":" in part or not part.isprintable() for part in parts)


def test_archive_gives_equal_names_numbers_and_keeps_its_own(memory: Buckets, owner: User) -> None:
    top = make_folder(owner, "Same")
    assets = [top, make_folder(owner, "same"), file(owner, "SAME"), file(owner, "_errors.txt", b"mine")]
    file(owner, "a.png", b"1", top)
    file(owner, "A.png", b"2", top)
    assert list(contents(owner, *assets)) == [
        "SAME (3)", "_errors (2).txt", "Same/", "Same/a.png", "Same/A (2).png", "same (2)/",
    ]  # fmt: skip


def test_archive_of_what_is_named_twice_or_lies_in_another_holds_it_once(memory: Buckets, owner: User) -> None:
    top = make_folder(owner, "top")
    inner = make_folder(owner, "inner", top)
    leaf = file(owner, "leaf", b"x", inner)
    assert set(contents(owner, leaf, inner, top, top, leaf)) == {"top/", "top/inner/", "top/inner/leaf"}


def test_archive_leaves_out_trash_expired_and_foreign_content(memory: Buckets, owner: User, stranger: User) -> None:
    top, now = make_folder(owner, "top"), timezone.now()
    trashed, expired = file(owner, "trashed", parent=top), file(owner, "expired", parent=top)
    file(stranger, "foreign", parent=top)
    Asset.objects.filter(pk=trashed.pk).update(trashed_at=now)
    Asset.objects.filter(pk=expired.pk).update(expires_at=now)
    assert set(contents(owner, top)) == {"top/"}


@pytest.mark.parametrize("state", ["absent", "foreign", "trashed", "expired"])
def test_plan_of_what_is_not_there_is_refused(memory: Buckets, owner: User, stranger: User, state: str) -> None:
    mine, gone = file(owner, "mine"), file(stranger if state == "foreign" else owner, "gone")
    changes: dict[str, dict[str, Any]] = {
        "trashed": {"trashed_at": timezone.now()},
        "expired": {"expires_at": timezone.now()},
    }
    if state == "absent":
        delete_assets([gone.pk])
    elif state in changes:
        Asset.objects.filter(pk=gone.pk).update(**changes[state])
    with pytest.raises(ObjectNotFoundError, match=gone.pk.hex):
        plan(owner, mine, gone)


def test_plan_of_too_many_entries_is_refused(memory: Buckets, owner: User, monkeypatch: pytest.MonkeyPatch) -> None:
    top = make_folder(owner, "top")
    for number in range(4):
        file(owner, f"{number}", parent=top)
    monkeypatch.setattr(archive, "MAX_ENTRIES", 5)
    assert len(contents(owner, top)) == 5
    file(owner, "one more", parent=top)
    with pytest.raises(ArchiveError, match="5"):
        plan(owner, top)


def test_plan_of_a_ring_of_folders_ends(memory: Buckets, owner: User) -> None:
    top = make_folder(owner, "top")
    first = make_folder(owner, "first", top)
    second = make_folder(owner, "second", first)
    Asset.objects.filter(pk=first.pk).update(parent=second)
    assert set(contents(owner, first, top)) <= {"top/", "first/", "first/second/"}


def test_archive_of_a_deep_tree_keeps_paths_short_and_says_so(memory: Buckets, owner: User) -> None:
    top = inner = make_folder(owner, "d" * 100)
    for number in range(45):
        inner = make_folder(owner, "d" * 98 + f"{number:02d}", inner)
    file(owner, "leaf", b"x", inner)
    found = contents(owner, top)
    assert max(len(name) for name in found) <= 2048 + 255
    assert sum(name.endswith("/leaf") for name in found) == 1
    assert b"too long" in found["_errors.txt"]


def lose(assets: Collection[Asset]) -> None:
    """Delete the bytes of assets behind the catalog's back."""
    for asset in Asset.objects.filter(pk__in=[found.pk for found in assets]).select_related("object"):
        assert asset.object is not None
        storages[asset.object.storage].delete(asset.object.key)


def test_archive_of_a_lost_object_holds_the_rest_and_names_it(buckets: Buckets, owner: User) -> None:
    top = make_folder(owner, "top")
    lost, kept = file(owner, "lost", b"lost", top), file(owner, "kept", b"kept", top)
    lose([lost])
    found = contents(owner, lost, kept, top)
    assert set(found) == {"top/", "top/kept", "_errors.txt"}
    assert b"top/lost: unreadable" in found["_errors.txt"]


def test_archive_of_a_cut_object_ends_its_entry_and_names_it(memory: Buckets, owner: User) -> None:
    cut, kept = file(owner, "cut", b"0123456789"), file(owner, "kept", b"kept")
    assert cut.object is not None
    storage: Any = storages["assets"]
    storage.delete(cut.object.key)
    storage.save(cut.object.key, io.BytesIO(b"0123"))
    found = contents(owner, cut, kept)
    assert (found["cut"], found["kept"]) == (b"0123", b"kept")
    assert b"cut: 6 of 10 bytes are missing" in found["_errors.txt"]


class BrokenStream(io.BytesIO):
    """Breaks off after its first block."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Give one block, then fail as a bucket does."""
        if self.tell():
            raise BackendUnavailableError("the bucket\nwent away")
        return super().read(size)


def test_archive_of_an_object_that_breaks_off_goes_on(
    memory: Buckets, owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = archive_stream.BLOCK + 5
    broken, kept = file(owner, "broken", b"x" * size), file(owner, "kept", b"kept")
    real = archive_stream.open_object
    streams: list[BrokenStream] = []

    def open_object(placed: Any, start: int, length: int | None) -> Any:
        stream = real(placed, start, length)
        if length == size:
            with stream:
                streams.append(BrokenStream(stream.read()))
            return streams[-1]
        return stream

    monkeypatch.setattr(archive_stream, "open_object", open_object)
    found = contents(owner, broken, kept)
    assert (len(found["broken"]), found["kept"]) == (archive_stream.BLOCK, b"kept")
    assert b"broken: unreadable: the bucket went away\n" in found["_errors.txt"]
    assert streams[0].closed


def test_archive_of_a_bucket_that_is_down_gives_up_soon(
    memory: Buckets, owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    assets = [file(owner, f"{number:02d}") for number in range(20)]
    tried = []

    def refuse(*_args: Any) -> Any:
        tried.append(1)
        raise BackendUnavailableError("down")

    monkeypatch.setattr(archive_stream, "open_object", refuse)
    found = contents(owner, *assets)
    assert (len(tried), set(found)) == (10, {"_errors.txt"})
    assert found["_errors.txt"].count(b"unreadable") == 20


def test_archive_gives_new_bytes_of_what_was_replaced_and_collected_meanwhile(memory: Buckets, owner: User) -> None:
    assets = [file(owner, f"{number}", b"old" + bytes([number])) for number in range(3)]
    stream = ArchiveStream(plan(owner, *assets))
    first = next(stream)
    lose([assets[2]])
    replace_content(assets[2], io.BytesIO(b"new"))
    with ZipFile(io.BytesIO(first + b"".join(stream))) as opened:
        assert (opened.read("2"), "_errors.txt" in opened.namelist()) == (b"new", False)


def test_archive_names_what_was_deleted_between_plan_and_reading(memory: Buckets, owner: User) -> None:
    top = make_folder(owner, "top")
    gone = file(owner, "gone", parent=top)
    planned = plan(owner, top)
    delete_assets([gone.pk])
    found = unpack(ArchiveStream(planned))
    assert f"top/{gone.pk.hex}: deleted".encode() in found["_errors.txt"]


def test_archive_holds_no_connection_while_its_bytes_flow(disk: Buckets, owner: User) -> None:
    assets = [file(owner, f"{number}") for number in range(3)]
    stream = ArchiveStream(plan(owner, *assets))
    held = [connection.connection is not None for _ in stream]
    assert held
    assert not any(held)


@pytest.mark.parametrize("is_deep", [False, True])
def test_archive_costs_two_statements_for_any_depth_and_one_for_a_page(
    memory: Buckets, owner: User, monkeypatch: pytest.MonkeyPatch, is_deep: bool
) -> None:
    monkeypatch.setattr(archive_stream, "_PAGE", 10)
    top = inner = make_folder(owner, "top")
    for number in range(4):
        inner = make_folder(owner, f"{number}", inner if is_deep else top)
        for other in range(5):
            file(owner, f"{other}", parent=inner)
    with statements() as planning:
        planned = plan(owner, top)
    with statements() as streaming:
        assert len(unpack(ArchiveStream(planned))) == 25
    selects = [sum("SELECT" in sql for sql in found) for found in (planning, streaming)]
    assert selects == [1 + 1, 3]  # chosen, what they hold; 26 entries (the top among them) by ten


def test_plan_is_read_by_the_folders_that_hold_things_and_not_by_their_owner(memory: Buckets, owner: User) -> None:
    top = make_folder(owner, "top")
    make_folder(owner, "inner", top)
    with statements() as planning:
        plan(owner, top)
    (sql,) = [found for found in planning if "RECURSIVE" in found]
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}", [top.pk.hex, "2026-01-01", owner.pk])
            steps = " ".join(str(row[3]) for row in cursor.fetchall())
        assert "parent_id=?" in steps
        assert "owner_id=?" not in steps


def test_archive_closed_early_closes_what_it_reads(disk: Buckets, owner: User, monkeypatch: pytest.MonkeyPatch) -> None:
    asset = file(owner, "a", b"x" * 3 * archive_stream.BLOCK)
    real, opened = archive_stream.open_object, []

    def open_object(*args: Any) -> Any:
        opened.append(real(*args))
        return opened[-1]

    monkeypatch.setattr(archive_stream, "open_object", open_object)
    for count in range(5):
        stream = ArchiveStream(plan(owner, asset))
        for _ in range(count):
            next(stream)
        stream.close()
        stream.close()
    assert len(opened) == 4
    assert all(source.closed for source in opened)


def test_archive_of_a_big_object_takes_constant_memory(disk: Buckets, owner: User) -> None:
    asset = file(owner, "a", bytes(32 << 20))
    stream = ArchiveStream(plan(owner, asset))
    tracemalloc.start()
    size = sum(len(block) for block in stream)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size > 32 << 20
    assert peak < 4 << 20


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_archive_of_more_than_four_gib_is_zip64(disk: Buckets, owner: User, tmp_path: Path) -> None:
    """Both files have holes instead of zeros, so that nothing is stored; an entry lies behind the first 4 GiB."""
    size = (4 << 30) + 5
    big, behind = file(owner, "big", b"x"), file(owner, "last", b"behind")
    assert big.object is not None
    place = Path(storages["assets"].path(big.object.key))
    place.chmod(0o644)
    os.truncate(place, size)
    StoredObject.objects.filter(pk=big.object_id).update(size=size)
    stream = ArchiveStream(plan(owner, big, behind))
    tracemalloc.start()
    with (tmp_path / "a.zip").open("wb") as target:
        for block in stream:
            target.seek(len(block), os.SEEK_CUR) if not block.strip(b"\0") else target.write(block)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20
    with ZipFile(tmp_path / "a.zip") as opened:
        assert [(entry.filename, entry.file_size) for entry in opened.infolist()] == [("big", size), ("last", 6)]
        assert opened.infolist()[1].header_offset > size
        assert opened.testzip() is None
        assert opened.read("last") == b"behind"


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_archive_of_more_than_65535_entries_is_zip64(memory: Buckets, owner: User) -> None:
    top = make_folder(owner, "top")
    fill(top, file(owner, "a", parent=top), 70_000)
    with ZipFile(io.BytesIO(b"".join(ArchiveStream(plan(owner, top))))) as opened:
        assert len(set(opened.namelist())) == 70_002
        assert opened.read(opened.namelist()[-1]) == b"data"


def test_plan_keeps_few_bytes_for_each_file(memory: Buckets, owner: User) -> None:
    top = make_folder(owner, "top")
    model = file(owner, "a", parent=top)
    fill(top, model, 5000)
    planned = plan(owner, top)
    assert len(planned.folders[top.pk].files) == 5001 * 16
    assert isinstance(next(iter(planned.folders)), UUID)
