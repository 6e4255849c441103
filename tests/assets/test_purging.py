"""Purge: what it takes, when, at what cost, and what it must never touch."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.utils import timezone

from assets.ids import new_id
from assets.models import Asset, StoredObject
from assets.services import delete_at, find_asset_at, open_asset, purge
from assets.services.purging import abort_abandoned
from storagecache.capabilities import DeleteFailure
from storagecache.environment import Environment
from storagecache.errors import BackendTimeoutError, BackendUnavailableError, StorageError
from storagecache.keys import new_object_key
from storagecache.storages.memory import MemoryObjectStorage
from tests.assets.conftest import (
    ALIASES,
    Buckets,
    assert_equal_sides,
    assert_whole,
    make_buckets,
    put,
    read,
    statements,
)
from tests.assets.test_models import make_object
from tests.assets.test_uploads import trips
from tests.roles import ChangeEnvironment

ZERO = timedelta(0)
GRACE = timedelta(hours=2)
State = StoredObject.State


class CountingStorage(MemoryObjectStorage):
    """Memory that counts its deletions, and refuses some: a bucket with a policy."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.deletions: list[list[str]] = []
        self.aborted: list[str] = []
        self.refused: set[str] = set()
        self.down = False
        self.knows_aborts = True

    def delete_many(self, names: Iterable[str]) -> list[DeleteFailure]:
        chosen = list(names)
        self.deletions.append(chosen)
        if self.down:
            raise BackendUnavailableError("down")
        failures = super().delete_many([name for name in chosen if name not in self.refused])
        return failures + [DeleteFailure(name, "refused") for name in chosen if name in self.refused]

    def abort_uploads(self, name: str) -> int:
        if not self.knows_aborts:
            raise BackendUnavailableError("NotImplemented")
        self.aborted.append(name)
        return 0


@pytest.fixture
def counting(settings: Any) -> CountingStorage:
    """Give the bucket `assets`, counted."""
    backend = f"{__name__}.CountingStorage"
    made = {alias: {"BACKEND": backend, "OPTIONS": {"bucket": alias}} for alias in ALIASES}
    settings.STORAGES = settings.STORAGES | made
    storage = storages["assets"]
    assert isinstance(storage, CountingStorage)
    return storage


def lay_object(data: bytes = b"x", *, age: timedelta = ZERO, alias: str = "assets", **fields: Any) -> StoredObject:
    """Make an object with bytes and a row whose times are `age` ago."""
    storage, then = storages[alias], timezone.now() - age
    key = new_object_key(new_id())
    storage.save(key, ContentFile(data))
    times = {"state_changed_at": then, "referenced_at": then, "created_at": then}
    return make_object(storage=alias, bucket=storage.bucket, key=key, size=len(data), **{**times, **fields})


def age_references(asset: Asset, age: timedelta) -> None:
    """Let the last reference to an asset's object be taken or dropped `age` ago."""
    StoredObject.objects.filter(pk=asset.object_id).update(referenced_at=timezone.now() - age)


def test_purge_of_unreferenced_objects_runs_from_the_drop_not_the_creation(buckets: Buckets, owner: User) -> None:
    old = put(owner, "k", b"old")
    age_references(old, timedelta(days=30))
    put(owner, "k", b"new")
    assert purge(grace=GRACE).objects == 0
    with open_asset(old) as reader:
        assert reader.read() == b"old"
    age_references(old, GRACE)
    assert purge(grace=GRACE).objects == 1
    assert_equal_sides(buckets)


def test_purge_of_a_deleted_asset_waits_for_the_grace_time(buckets: Buckets, owner: User) -> None:
    asset = put(owner, "k", b"12345")
    age_references(asset, timedelta(days=30))
    delete_at(owner.pk, "assets", "k")
    assert purge(grace=GRACE).objects == 0
    age_references(asset, GRACE)
    report = purge(grace=GRACE)
    assert (report.objects, report.bytes, report.failures) == (1, 5, ())
    assert buckets.keys() == set()


def test_purge_never_takes_referenced_objects_whatever_their_age(buckets: Buckets, owner: User) -> None:
    one, two = put(owner, "1", b"same"), put(owner, "2", b"same")
    age_references(one, timedelta(days=999))
    delete_at(owner.pk, "assets", "1")
    for grace in (GRACE, ZERO):
        assert purge(grace=grace).objects == 0
    assert read(two) == b"same"


def test_purge_takes_expired_temp_at_once(buckets: Buckets, owner: User) -> None:
    put(owner, "gone", b"123", bucket="temp", expires_in=0)
    put(owner, "kept", b"123", bucket="temp", expires_in=60)
    report = purge(grace=GRACE)
    assert (report.objects, report.bytes, report.expired) == (1, 3, 1)
    assert not Asset.objects.filter(key="gone").exists()
    assert_equal_sides(buckets)


def test_purge_with_zero_grace_leaves_temp_that_has_not_expired(buckets: Buckets, owner: User) -> None:
    asset = put(owner, "k", b"1", bucket="temp", expires_in=1000)
    age_references(asset, timedelta(days=9))
    assert purge(grace=ZERO).objects == 0
    assert read(find_asset_at("temp", "k")) == b"1"


def test_purge_deletes_abandoned_objects_twice_a_grace_time_apart(counting: CountingStorage, owner: User) -> None:
    left = lay_object(age=GRACE)
    assert purge(grace=GRACE).objects == 0
    assert counting.deletions == [[left.key]]
    counting.save(left.key, ContentFile(b"a stalled write that landed late"))
    assert purge(grace=GRACE).objects == 0
    assert len(counting.deletions) == 1
    StoredObject.objects.update(deleted_at=timezone.now() - GRACE)
    assert purge(grace=GRACE).objects == 1
    assert counting.deletions == [[left.key], [left.key]]
    assert counting.aborted == [left.key]
    assert not StoredObject.objects.exists()
    assert list(counting.list_objects()) == []


def test_purge_with_zero_grace_deletes_abandoned_objects_twice_in_one_call(
    counting: CountingStorage, owner: User
) -> None:
    left = lay_object()
    assert purge(grace=ZERO).objects == 1
    assert counting.deletions == [[left.key], [left.key]]
    assert not StoredObject.objects.exists()


def test_purge_leaves_uploads_younger_than_the_grace_time(buckets: Buckets, owner: User) -> None:
    lay_object(age=GRACE - timedelta(minutes=1))
    assert purge(grace=GRACE).objects == 0
    assert StoredObject.objects.get().state == State.PENDING
    assert len(buckets.keys()) == 1


def test_purge_goes_on_with_what_a_killed_purge_marked(buckets: Buckets, owner: User) -> None:
    lay_object(state=State.DELETING, deletes_left=1)
    assert purge(grace=GRACE).objects == 1
    assert_equal_sides(buckets)


def test_purge_of_a_refused_object_leaves_its_row_and_tells(counting: CountingStorage, owner: User) -> None:
    kept, gone = (lay_object(age=GRACE, state=State.READY, deletes_left=1) for _ in range(2))
    counting.refused.add(kept.key)
    report = purge(grace=GRACE, batch=1)
    assert (report.objects, report.failures) == (1, (f"{kept.key}: refused",))
    assert [row.pk for row in StoredObject.objects.all()] == [kept.pk]
    assert not counting.exists(gone.key)
    counting.refused.clear()
    assert purge(grace=GRACE).objects == 1


@pytest.mark.parametrize("grace", [GRACE, ZERO])
def test_purge_of_a_bucket_that_is_down_ends_and_tells(
    counting: CountingStorage, owner: User, grace: timedelta
) -> None:
    lost = [lay_object(age=GRACE, state=State.READY, deletes_left=1) for _ in range(5)]
    fine = lay_object(age=GRACE, state=State.READY, deletes_left=1, alias="temp")
    counting.down = True
    report = purge(grace=grace, batch=2)
    assert (report.objects, len(report.failures)) == (1, 5)
    assert not storages["temp"].exists(fine.key)
    assert StoredObject.objects.count() == len(lost)
    assert len(counting.deletions) <= 3


def test_purge_where_aborting_is_refused_still_takes_the_others(counting: CountingStorage, owner: User) -> None:
    counting.knows_aborts = False
    unfinished = [lay_object(age=GRACE) for _ in range(3)]
    finished = lay_object(age=GRACE, state=State.READY, deletes_left=1)
    report = purge(grace=GRACE)
    assert (report.objects, len(report.failures)) == (1, 3)
    assert counting.deletions == [[finished.key]]
    assert StoredObject.objects.count() == len(unfinished)


@pytest.mark.parametrize("recorded", [{"bucket": "elsewhere"}, {"storage": "nowhere"}])
def test_purge_of_a_bucket_not_configured_now_deletes_nothing(
    counting: CountingStorage, owner: User, recorded: dict[str, str]
) -> None:
    stranded = lay_object(age=GRACE, state=State.READY, deletes_left=1)
    StoredObject.objects.filter(pk=stranded.pk).update(**recorded)
    report = purge(grace=GRACE)
    assert (report.objects, len(report.failures), counting.deletions) == (0, 1, [])
    assert counting.exists(stranded.key)
    assert StoredObject.objects.exists()


def test_open_asset_in_a_bucket_not_configured_now_is_unavailable(counting: CountingStorage, owner: User) -> None:
    asset = put(owner, "k", b"1")
    StoredObject.objects.filter(pk=asset.object_id).update(bucket="elsewhere")
    with pytest.raises(BackendUnavailableError, match="elsewhere"):
        open_asset(find_asset_at("assets", "k"))


def test_purge_with_a_limit_takes_no_more_objects(counting: CountingStorage, owner: User) -> None:
    for _ in range(5):
        lay_object(age=GRACE, state=State.READY, deletes_left=1)
    for number in range(5):
        put(owner, str(number), b"1", bucket="temp", expires_in=0)
    left = [purge(grace=GRACE, limit=limit).objects for limit in (0, 1, 3, 100)]
    assert left == [0, 1, 3, 6]


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"batch": -1}, {"limit": -1}, {"grace": timedelta(seconds=-1)}])
def test_purge_with_senseless_bounds_is_refused(wrong: dict[str, Any], owner: User) -> None:
    with pytest.raises(ValueError, match="or more"):
        purge(**wrong)


def test_purge_dry_run_counts_what_a_purge_takes_and_changes_nothing(counting: CountingStorage, owner: User) -> None:
    lay_object(b"12", age=GRACE, state=State.READY, deletes_left=1)
    lay_object(b"345", state=State.DELETING, deletes_left=1)
    put(owner, "temp", b"6789", bucket="temp", expires_in=0)
    put(owner, "kept", b"0")
    rows = list(StoredObject.objects.order_by("pk").values())
    counted = purge(grace=GRACE, dry_run=True)
    assert (list(StoredObject.objects.order_by("pk").values()), counting.deletions) == (rows, [])
    assert purge(grace=GRACE, dry_run=True, limit=2).objects == 2
    taken = purge(grace=GRACE)
    assert (counted.objects, counted.bytes, counted.expired) == (taken.objects, taken.bytes, taken.expired) == (3, 9, 1)


def test_purge_tells_its_progress_batch_by_batch(counting: CountingStorage, owner: User) -> None:
    for _ in range(5):
        lay_object(age=GRACE, state=State.READY, deletes_left=1)
    seen: list[int] = []
    purge(grace=GRACE, batch=2, progress=seen.append)
    assert seen == [2, 2, 1]
    assert [len(names) for names in counting.deletions] == [2, 2, 1]


def test_purge_costs_the_same_for_few_and_many_objects_of_a_batch(counting: CountingStorage, owner: User) -> None:
    costs = []
    for number in (3, 45):
        for index in range(number):
            put(owner, f"{number}-{index}", b"t", bucket="temp", expires_in=0)
            lay_object(age=GRACE, state=State.READY, deletes_left=1)
        counting.deletions.clear()
        with statements() as seen:
            assert purge(grace=GRACE).objects == 2 * number
        costs.append(trips(seen))
        assert len(counting.deletions) == 1
    assert costs[0] == costs[1]
    assert len(costs[0]) <= 30


def test_purge_of_many_objects_holds_one_batch_at_a_time(counting: CountingStorage, owner: User) -> None:
    _lay_rows(10_000, timezone.now() - GRACE)
    held: list[int] = []

    def count_live(gone: int) -> None:
        counting.deletions.clear()
        held.append(sum(isinstance(item, StoredObject) for item in gc.get_objects()))

    gc.collect()
    assert purge(grace=GRACE, batch=500, progress=count_live).objects == 10_000
    assert len(held) == 20
    assert max(held) <= 2 * 500  # one batch settled while the next is not yet read, and what waits for the collector


def _lay_rows(number: int, then: datetime) -> None:
    rows = (
        StoredObject(
            storage="assets", bucket="assets", key=new_object_key(new_id()), size=1, sha256="0" * 64, state=State.READY,
            state_changed_at=then, referenced_at=then, created_at=then, deletes_left=1,
        )
        for _ in range(number)
    )  # fmt: skip
    StoredObject.objects.bulk_create(rows, batch_size=500)


def test_purge_sweeps_old_staged_files_and_nothing_else(disk: Buckets, owner: User, tmp_path: Path) -> None:
    folder = Path(storages["assets"].staging_folder())
    old, young, foreign = folder / "staged-old", folder / "staged-young", folder / "family-photos.tar"
    for path in (old, young, foreign):
        path.write_bytes(b"x")
    for path in (old, foreign):
        os.utime(path, (time.time() - 7201,) * 2)
    (folder / "staged-link").symlink_to(foreign)
    assert purge(grace=GRACE).staged_files == 1
    assert {path.name for path in folder.iterdir()} == {"staged-young", "family-photos.tar", "staged-link"}


def test_purge_with_an_unreadable_staging_folder_goes_on_and_tells(
    settings: Any, owner: User, tmp_path: Path, memory: Buckets
) -> None:
    (tmp_path / "file").write_text("not a folder")
    backend = "storagecache.storages.filesystem.FilesystemObjectStorage"
    options = {"location": str(tmp_path / "unmounted" / "temp")}
    settings.STORAGES = settings.STORAGES | {"temp": {"BACKEND": backend, "OPTIONS": options}}
    lay_object(age=GRACE, state=State.READY, deletes_left=1)
    report = purge(grace=GRACE)
    assert report.objects == 1
    assert len(report.failures) == 1
    assert "staging folder of temp" in report.failures[0]


def test_purge_by_default_waits_for_the_configured_grace_time(memory: Buckets, owner: User) -> None:
    grace = timedelta(seconds=Environment.current().grace_time)
    lay_object(age=grace - timedelta(minutes=1), state=State.READY, deletes_left=1)
    lay_object(age=grace, state=State.READY, deletes_left=1)
    assert purge().objects == 1


def test_purge_never_raises_for_one_bad_object(counting: CountingStorage, owner: User) -> None:
    lay_object(age=GRACE, state=State.READY, deletes_left=1)
    bad = lay_object(age=GRACE, state=State.READY, deletes_left=1)
    StoredObject.objects.filter(pk=bad.pk).update(key="../../etc/passwd")
    report = purge(grace=GRACE, batch=1)
    assert report.objects == 1
    assert len(report.failures) == 1


def test_reading_an_asset_whose_bytes_are_lost_is_an_error_of_ours(buckets: Buckets, owner: User) -> None:
    asset = put(owner, "k", b"1")
    assert asset.object is not None
    storages["assets"].delete(asset.object.key)
    with pytest.raises(StorageError):
        read(asset)
    delete_at(owner.pk, "assets", "k")
    assert_whole()


# --- bounds of temp ---------------------------------------------------------------------------


def put_old_temp(owner: User, key: str, data: bytes, *, age: timedelta = timedelta(hours=1)) -> Asset:
    """Put temp that was made a while ago."""
    asset = put(owner, key, data, bucket="temp")
    Asset.objects.filter(pk=asset.pk).update(created_at=timezone.now() - age)
    return asset


def test_purge_beyond_the_size_of_temp_takes_the_oldest(
    buckets: Buckets, owner: User, change_environment: ChangeEnvironment
) -> None:
    for number in range(5):
        put_old_temp(owner, f"t{number}", b"%d" % number * 100)
    put(owner, "kept", b"x" * 1000)
    change_environment(temp_max_bytes=250)
    dry = purge(grace=GRACE, dry_run=True)
    report = purge(grace=GRACE)
    assert (dry.objects, dry.bytes, dry.expired) == (report.objects, report.bytes, report.expired) == (3, 300, 3)
    assert set(Asset.objects.values_list("key", flat=True)) == {"t3", "t4", "kept"}
    assert_equal_sides(buckets)
    assert purge(grace=GRACE).expired == 0


def test_purge_beyond_the_size_of_temp_leaves_what_is_young(
    disk: Buckets, owner: User, change_environment: ChangeEnvironment
) -> None:
    put_old_temp(owner, "young", b"x" * 100, age=timedelta(minutes=9))
    change_environment(temp_max_bytes=1)
    assert purge(grace=GRACE, dry_run=True).objects == purge(grace=GRACE).objects == 0


def test_purge_on_a_full_disk_takes_the_oldest_temp_and_no_more(
    disk: Buckets, owner: User, change_environment: ChangeEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        put_old_temp(owner, f"t{number}", b"%d" % number * 100)
    free = SimpleNamespace(free=1000)
    monkeypatch.setattr("assets.services.purging.crowding.shutil.disk_usage", lambda folder: free)
    change_environment(temp_min_free_bytes=1150)
    assert purge(grace=GRACE).expired == 2
    free.free = 1200
    assert purge(grace=GRACE).expired == 0
    assert set(Asset.objects.values_list("key", flat=True)) == {"t2", "t3", "t4"}


def test_purge_of_crowded_temp_takes_many_in_small_sections(
    memory: Buckets, owner: User, change_environment: ChangeEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assets.services.purging.crowding.SECTION", 2)
    for number in range(7):
        put_old_temp(owner, f"t{number}", b"x" * 100)
    change_environment(temp_max_bytes=100)
    assert purge(grace=GRACE, limit=3).expired == 3
    assert purge(grace=GRACE).expired == 3
    assert Asset.objects.get().key == "t6"


def test_abort_abandoned_takes_old_uploads_of_ours_that_no_pending_row_names(
    owner: User, settings: Any, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    make_buckets("s3", tmp_path, request, settings)
    storage = storages["assets"]
    left, pending = new_object_key(new_id()), lay_object()
    names = [left, f"quarantine/x/{left}", "somebody/else.bin", pending.key]
    for name in names:
        storage.client.create_multipart_upload(Bucket=storage.bucket, Key=name)
    assert abort_abandoned(storage, timezone.now() - timedelta(hours=24)) == 0
    purge(grace=ZERO, limit=0)
    assert {upload.key for upload in storage.list_uploads()} == set(names)
    assert abort_abandoned(storage, timezone.now() + timedelta(hours=1)) == 2
    assert {upload.key for upload in storage.list_uploads()} == {"somebody/else.bin", pending.key}


def test_purge_of_many_objects_deletes_ahead_and_counts_each_once(
    memory: Buckets, owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(25):
        put(owner, f"t-{number}", b"%d" % number, bucket="temp", expires_in=0)
    steps: list[int] = []
    assert purge(batch=4, progress=steps.append).objects == 25
    assert steps == [4, 4, 4, 4, 4, 4, 1]
    assert_equal_sides(memory)


def test_purge_with_a_limit_leaves_the_rest(memory: Buckets, owner: User) -> None:
    for number in range(9):
        put(owner, f"t-{number}", b"%d" % number, bucket="temp", expires_in=0)
    assert [purge(batch=2, limit=limit).objects for limit in (5, 3, 5)] == [5, 3, 1]


def test_purge_asks_a_slow_server_for_fewer_at_a_time(
    memory: Buckets, owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(250):
        put(owner, f"t-{number}", b"%d" % number, bucket="temp", expires_in=0)
    storage = storages["temp"]
    delete, asked = storage.delete_many, []  # type: ignore[attr-defined]

    def slow(keys: list[str]) -> Any:
        asked.append(len(keys))
        if len(keys) > 30:
            raise BackendTimeoutError("too slow")
        return delete(keys)

    monkeypatch.setattr(storage, "delete_many", slow)
    report = purge()
    assert (report.objects, report.failures) == (250, ())
    assert asked == [250] + [25] * 10


def test_purge_of_a_server_that_never_answers_ends_with_failures(
    memory: Buckets, owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(120):
        put(owner, f"t-{number}", b"%d" % number, bucket="temp", expires_in=0)
    asked: list[int] = []

    def stalled(keys: list[str]) -> Any:
        asked.append(len(keys))
        raise BackendTimeoutError("no answer")

    monkeypatch.setattr(storages["temp"], "delete_many", stalled)
    report = purge()
    assert (report.objects, len(report.failures), asked) == (0, 100, [120, 12])
