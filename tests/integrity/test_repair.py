"""Repair sets aside what nobody knows and nothing else; the five known disasters lose no live file."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.db import DatabaseError, connection
from django.utils import timezone
from PIL import Image

from assets.ids import new_id
from assets.integrity import quarantine
from assets.integrity.identity import UnsureError, adopt
from assets.integrity.places import UnknownBucketError, find_places
from assets.integrity.repair import apply, repair
from assets.integrity.runs import RunKind, verify
from assets.models import Account, Asset, IntegrityFinding, IntegrityRun, QuarantinedObject, StoredObject
from assets.services import create_asset, open_asset, purge
from assets.services.previews import make_next
from storagecache.environment import Environment
from storagecache.errors import StorageError
from storagecache.keys import new_object_key
from tests.integrity.conftest import in_memory, on_disk, remove_bytes, upload
from tests.roles import ChangeEnvironment

State = QuarantinedObject.State


@pytest.fixture
def library(buckets: str, owner: User) -> list[Asset]:
    """Give 24 assets in the buckets of each kind: two strays among them are below the default share."""
    return [upload(owner, b"asset %d" % number) for number in range(24)]


@pytest.fixture
def disk(settings: Any, tmp_path: Path, owner: User) -> list[Asset]:
    """Give 24 assets on disk."""
    settings.STORAGES = {**settings.STORAGES, **on_disk(tmp_path)}
    return [upload(owner, b"asset %d" % number) for number in range(24)]


def stray(key: str = "ab/stray", content: bytes = b"stray") -> str:
    return storages["assets"].save(key, ContentFile(content))


def content_of(key: str) -> bytes:
    with storages["assets"].open(key) as stream:
        return stream.read()


def assert_all_read(assets: list[Asset]) -> None:
    for asset in assets:
        asset.refresh_from_db()
        with open_asset(asset) as stream:
            data = stream.read()
        assert asset.object is not None
        assert hashlib.sha256(data).hexdigest() == asset.object.sha256


def make_row(key: str) -> None:
    """Make the row of an object that is there, as a restored catalog would."""
    now, storage = timezone.now(), storages["assets"]
    StoredObject.objects.create(
        storage="assets", bucket=storage.bucket, key=key, size=5, sha256=hashlib.sha256(b"stray").hexdigest(),  # type: ignore[attr-defined]
        content_type="x/y", state="ready", state_changed_at=now, referenced_at=now, created_at=now,
    )  # fmt: skip


# --- what a repair does -------------------------------------------------------------------------


def test_repair_sets_strays_aside_and_undo_puts_them_back(library: list[Asset]) -> None:
    keys = [stray("ab/one", b"1"), stray("zz/two", b"22")]
    run, report = repair()
    assert (run.status, report.set_aside, report.deleted) == ("findings", 2, 0)
    assert not any(storages["assets"].exists(key) for key in keys)
    assert_all_read(library)
    assert verify()[0].status == "clean"
    undone = quarantine.undo(run.pk)
    assert (undone.returned, undone.deleted, undone.failures) == (2, 0, ())
    assert [content_of(key) for key in keys] == [b"1", b"22"]
    assert set(QuarantinedObject.objects.values_list("state", flat=True)) == {State.RETURNED}
    assert IntegrityRun.objects.get(pk=run.pk).undone_at is not None


def test_undo_restores_all_of_many_objects_byte_for_byte(
    disk: list[Asset], monkeypatch: pytest.MonkeyPatch, change_environment: ChangeEnvironment
) -> None:
    change_environment(repair_max_percent=100)
    monkeypatch.setattr(quarantine, "BATCH", 7)
    written = {stray(f"{number % 16:02x}/{number}", b"%d" % number): b"%d" % number for number in range(100)}
    run, report = repair()
    assert (report.set_aside, [key for key in written if storages["assets"].exists(key)]) == (100, [])
    undone = quarantine.undo(run.pk)
    assert (undone.returned, undone.deleted, undone.failures) == (100, 0, ())
    assert {key: content_of(key) for key in written} == written
    assert_all_read(disk)


def test_repair_never_touches_rows_that_lost_their_object(library: list[Asset]) -> None:
    remove_bytes(library[3])
    run, report = repair()
    assert (run.counts, report.set_aside) == ({"row_without_object": 1}, 0)
    assert StoredObject.objects.count() == Asset.objects.count() == 24


def test_repair_leaves_names_that_no_service_makes(disk: list[Asset], tmp_path: Path) -> None:
    foreign = tmp_path / "assets" / "Holiday Photo.JPG"
    foreign.write_bytes(b"mine")
    run, report = repair()
    assert (run.counts, report.set_aside, foreign.read_bytes()) == ({"object_without_row": 1}, 0, b"mine")


def test_repair_counts_wrong_counters_anew(library: list[Asset], owner: User) -> None:
    right = Account.objects.get().used_bytes
    Account.objects.update(used_bytes=right + 7)
    run, report = repair()
    assert (run.counts, report.counters) == ({"counter_differs": 1}, 1)
    assert Account.objects.get().used_bytes == right


def picture(owner: User) -> StoredObject:
    """Upload a picture and give its object, of which small pictures are made."""
    image = io.BytesIO()
    Image.new("RGB", (640, 400), "navy").save(image, "PNG")
    asset = create_asset(owner=owner, name="a.png", content=io.BytesIO(image.getvalue()))
    assert asset.object is not None
    assert asset.object.renditions.count() == 3
    return asset.object


def test_repair_makes_thumbnails_again_whose_bytes_are_lost(library: list[Asset], owner: User) -> None:
    source = picture(owner)
    lost = source.renditions.get(size=256).object
    storages["assets"].delete(lost.key)
    run, report = repair()
    assert (run.counts, report.thumbnails) == ({"thumbnail_missing": 1}, 1)
    assert IntegrityFinding.objects.get(run=run).key == lost.key
    assert make_next()
    purge(grace=timedelta(0))
    assert verify()[0].status == "clean"
    assert source.renditions.count() == 3


@pytest.mark.parametrize("sizes", [[128], [128, 256, 512]])
def test_repair_makes_thumbnails_again_that_nothing_records(
    library: list[Asset], owner: User, sizes: list[int]
) -> None:
    source = picture(owner)
    source.renditions.filter(size__in=sizes).delete()
    run, report = repair()
    assert (run.counts, report.thumbnails) == ({"thumbnail_missing": 1}, 1)
    assert IntegrityFinding.objects.get(run=run).row_id == source.pk.hex
    assert make_next()
    purge(grace=timedelta(0))
    assert verify()[0].status == "clean"


def test_quarantine_ends_after_its_time_and_not_before(library: list[Asset]) -> None:
    key = stray()
    run, _ = repair()
    ttl = timedelta(seconds=Environment.current().quarantine_ttl)
    assert quarantine.delete_due(timezone.now() + ttl - timedelta(minutes=1)) == 0
    assert list(storages["assets"].list_aside(run.pk.hex)) == [key]  # type: ignore[attr-defined]
    assert quarantine.delete_due(timezone.now() + ttl) == 1
    assert list(storages["assets"].list_aside(run.pk.hex)) == []  # type: ignore[attr-defined]
    assert (quarantine.undo(run.pk).deleted, storages["assets"].exists(key)) == (1, False)


def test_quarantined_object_whose_row_returns_goes_back_instead_of_away(library: list[Asset]) -> None:
    key = stray()
    repair()
    make_row(key)
    assert quarantine.delete_due(timezone.now() + timedelta(days=365)) == 0
    assert content_of(key) == b"stray"
    assert verify()[0].status == "clean"


def test_repair_puts_back_what_has_a_row_again(library: list[Asset]) -> None:
    key = stray()
    repair()
    make_row(key)
    _, report = repair()
    assert (report.returned, storages["assets"].exists(key)) == (1, True)


def test_repair_by_default_moves_at_most_a_tenth(disk: list[Asset]) -> None:
    for number in range(2):
        stray(f"ab/{number}")
    assert repair()[1].set_aside == 2  # of 26
    for number in range(2, 5):
        stray(f"ab/{number}")
    with pytest.raises(UnsureError, match=r"3 of 27 .* more than 10 %"):
        repair()
    assert all(storages["assets"].exists(f"ab/{number}") for number in range(2, 5))


# --- refusals -----------------------------------------------------------------------------------


def test_repair_with_an_empty_catalog_is_refused(disk: list[Asset], tmp_path: Path) -> None:
    Asset.objects.all().delete()
    StoredObject.objects.all().delete()
    with pytest.raises(UnsureError, match="knows no object"):
        repair()
    assert len([p for p in (tmp_path / "assets").glob("??/*") if p.is_file()]) == 24


def test_repair_with_a_catalog_older_than_the_newest_object_is_refused(library: list[Asset]) -> None:
    newest = library[-1]
    assert newest.object is not None
    Asset.objects.filter(pk=newest.pk).delete()
    StoredObject.objects.filter(pk=newest.object_id).delete()  # as a restored backup forgets it
    with pytest.raises(UnsureError, match="newer than everything"):
        repair()
    assert storages["assets"].exists(newest.object.key)


def test_repair_with_a_catalog_that_went_back_is_refused_until_it_is_adopted(disk: list[Asset], tmp_path: Path) -> None:
    from assets.models import BucketRecord

    verify()
    verify()
    BucketRecord.objects.update(generation=1)  # as in the backup
    key = stray()
    with pytest.raises(UnsureError, match="older than what"):
        repair()
    assert verify()[0].status == "findings"  # a report is still given
    assert storages["assets"].exists(key)
    for place in find_places():
        adopt(place)
    assert repair()[1].set_aside == 1


def test_repair_with_unreadable_objects_is_refused(disk: list[Asset]) -> None:
    key = stray()
    run, _ = verify(kind=RunKind.REPAIR)
    IntegrityRun.objects.filter(pk=run.pk).update(status="unsure")
    run.refresh_from_db()
    with pytest.raises(UnsureError, match="could not be read"):
        apply(run)
    assert storages["assets"].exists(key)


def test_repair_of_an_unknown_bucket_is_refused(settings: Any, owner: User) -> None:
    settings.STORAGES = {**settings.STORAGES, **in_memory()}
    upload(owner, b"asset")
    moved = in_memory()
    moved["assets"]["OPTIONS"]["bucket"] = "elsewhere"
    settings.STORAGES = {**settings.STORAGES, **moved}
    with pytest.raises(UnknownBucketError):
        repair()


# --- the five known disasters -------------------------------------------------------------------


def test_disaster_a_stale_report_applied_later_moves_nothing_that_is_known_by_then(library: list[Asset]) -> None:
    known, still = stray("ab/known"), stray("ab/still")
    run, _ = verify(kind=RunKind.REPAIR)
    make_row(known)
    report = apply(run)
    assert (report.set_aside, storages["assets"].exists(known), storages["assets"].exists(still)) == (1, True, False)
    assert_all_read(library)


def test_disaster_a_row_that_comes_while_its_object_moves_gets_it_back(
    library: list[Asset], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = stray()
    storage = storages["assets"]
    move = storage.set_aside  # type: ignore[attr-defined]

    def move_late(name: str, label: str) -> None:
        make_row(name)
        move(name, label)

    monkeypatch.setattr(storage, "set_aside", move_late)
    assert repair()[1].set_aside == 0
    assert storage.exists(key)


@pytest.mark.parametrize("number", [0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 35, 40])
def test_disaster_the_database_failing_in_mid_repair_loses_nothing(disk: list[Asset], number: int) -> None:
    key = stray()
    seen: list[str] = []

    def fail(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        seen.append(sql)
        if len(seen) > number:  # it does not come back
            raise DatabaseError("gone")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(fail):
        try:
            repair()
        except (DatabaseError, StorageError):
            assert len(seen) > number
    assert_all_read(disk)
    run = IntegrityRun.objects.order_by("-pk").first()
    if run is not None:
        quarantine.undo(run.pk)
    assert content_of(key) == b"stray"


def test_disaster_a_changed_key_layout_is_refused(disk: list[Asset], tmp_path: Path) -> None:
    folder = tmp_path / "assets"
    moved = folder / "v2"
    moved.mkdir()
    for child in list(folder.iterdir()):
        if child.is_dir() and child != moved:
            shutil.move(child, moved / child.name)
    with pytest.raises(UnsureError, match="more than 10 %"):
        repair()
    assert len([p for p in moved.glob("??/*") if p.is_file()]) == 24
    assert StoredObject.objects.count() == 24


def test_disaster_a_scan_racing_with_uploads_moves_none_of_them(library: list[Asset], owner: User) -> None:
    made: list[Asset] = []

    def upload_more(_count: int) -> None:
        if len(made) < 30:
            made.append(upload(owner, b"meanwhile %d" % len(made)))

    run, report = repair(progress=upload_more)
    assert (run.counts, report.set_aside, len(made) >= 24) == ({}, 0, True)
    assert_all_read(library + made)


@pytest.mark.parametrize("verified_before", [True, False])
@pytest.mark.parametrize("made_anew", [True, False])
def test_disaster_an_unmounted_disk_is_recognised(
    disk: list[Asset], tmp_path: Path, verified_before: bool, made_anew: bool
) -> None:
    if verified_before:
        verify()
    (tmp_path / "assets").rename(tmp_path / "away")
    if made_anew:
        (tmp_path / "assets").mkdir()
    for act in (verify, repair):
        with pytest.raises(UnsureError):
            act()
    assert StoredObject.objects.filter(state="ready").count() == 24
    shutil.rmtree(tmp_path / "assets", ignore_errors=True)
    (tmp_path / "away").rename(tmp_path / "assets")
    assert verify()[0].status == "clean"
    assert_all_read(disk)


def test_disaster_another_disk_with_new_uploads_is_recognised(disk: list[Asset], tmp_path: Path, owner: User) -> None:
    verify()
    (tmp_path / "assets").rename(tmp_path / "away")
    upload(owner, b"on the wrong disk")
    with pytest.raises(UnsureError, match="not the one"):
        repair()


def test_identity_of_a_bucket_is_written_once_and_grows(disk: list[Asset], tmp_path: Path) -> None:
    verify()
    first = json.loads((tmp_path / "assets" / ".identity").read_text())
    verify()
    second = json.loads((tmp_path / "assets" / ".identity").read_text())
    assert (first["identity"], first["generation"] + 1) == (second["identity"], second["generation"])


# --- 500 faults ---------------------------------------------------------------------------------


@pytest.fixture
def many(disk: list[Asset], owner: User) -> list[Asset]:
    return disk + [upload(owner, b"%d more" % number) for number in range(476)]


def test_verify_500_planted_faults_finds_500_and_nothing_else(many: list[Asset]) -> None:
    from collections import Counter

    from assets.integrity.verify import Verification

    expected: set[tuple[str, str]] = set()
    long_ago = timezone.now() - timedelta(days=3)
    for number, asset in enumerate(many[:400]):
        stored = asset.object
        assert stored is not None
        path = Path(storages["assets"].path(stored.key))
        kind = ("row_without_object", "wrong_size", "wrong_digest", "asset_not_ready")[number % 4]
        if kind == "row_without_object":
            path.unlink()
        elif kind == "asset_not_ready":
            StoredObject.objects.filter(pk=stored.pk).update(state="deleting")
        else:
            path.chmod(0o644)
            path.write_bytes(b"x" * (stored.size + (kind == "wrong_size")))
        expected.add((kind, stored.key))
    expected |= {("object_without_row", stray(f"ab/{number}")) for number in range(60)}
    for _ in range(39):
        key = new_object_key(new_id())
        make_row(key)
        StoredObject.objects.filter(key=key).update(state="pending", state_changed_at=long_ago)
        expected.add(("stuck", key))
    Account.objects.update(used_bytes=1)
    expected.add(("counter_differs", f"quota of user {Account.objects.get().pk}"))
    found = [(finding.kind.value, finding.key) for finding in Verification(deep=True).findings()]
    assert (len(found), set(found)) == (500, expected), Counter(kind for kind, _ in set(found) ^ expected)
