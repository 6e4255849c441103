"""The `cache` area: what expires leaves, what is too much leaves, tokens stay."""

from __future__ import annotations

import fcntl
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from storagecache.node_cache import MISS
from storagecache.node_cache.area import CacheArea, blob_name, drop_expired, on_disk, trim
from storagecache.node_cache.cache import NodeCache
from storagecache.node_cache.disk_budget import LEDGER
from storagecache.node_cache.frames import mac_key
from storagecache.node_cache.tiers import FileTier
from storagecache.storages.filesystem import FilesystemObjectStorage
from storagecache.storages.memory import MemoryObjectStorage
from tests.node_cache.conftest import MakeCache
from tests.node_cache.parts import NOW, SECRET, Clock
from tests.servers import SeaweedServer

HOUR = 3600


def names(area: CacheArea) -> list[str]:
    return [area.short(info) for info in area.listing()]


def test_blob_name_begins_with_an_hour_behind_its_expiry() -> None:
    assert blob_name(NOW, 1)[:10] == (datetime.fromtimestamp(NOW + 1, UTC) + timedelta(hours=1)).strftime("%Y%m%d%H")
    assert blob_name(NOW, None)[:10] == blob_name(NOW, 30 * 24 * HOUR)[:10]


def test_drop_expired_takes_hours_that_are_over(file_cache: MakeCache, area: CacheArea, clock: Clock) -> None:
    cache = file_cache(max_bytes=0)
    cache.set("short", b"x" * 2_000_000, ttl=60)
    cache.set("long", b"y" * 2_000_000, ttl=10 * HOUR)
    at = datetime.fromtimestamp(NOW, UTC)
    assert drop_expired(area.storage, at) == (0, 0)
    files, size = drop_expired(area.storage, at + timedelta(hours=3))
    assert files == 1
    assert size > 2_000_000
    assert drop_expired(area.storage, at + timedelta(hours=3)) == (0, 0)
    assert cache.get("long") == b"y" * 2_000_000
    assert cache.get("short", MISS) is MISS


def test_drop_expired_keeps_to_its_limit(area: CacheArea) -> None:
    for _ in range(5):
        area.replace(blob_name(0, 1), [b"x"])
    now = datetime.fromtimestamp(NOW, UTC)
    assert drop_expired(area.storage, now, 2) == (2, 2)
    assert drop_expired(area.storage, now) == (3, 3)


def test_drop_expired_takes_small_values_that_are_over_and_keeps_tokens(
    file_cache: MakeCache, area: CacheArea, clock: Clock
) -> None:
    clock.now = datetime.now(UTC).timestamp()
    cache = file_cache(max_bytes=0)
    cache.set("k", 1, ttl=60)
    cache.set("kept", 1, ttl=None)
    cache.close()
    before = names(area)
    dropped = drop_expired(area.storage, datetime.now(UTC) + timedelta(hours=2))
    assert dropped[0] == 1
    gone = set(before) - set(names(area))
    assert {name[:2] for name in gone} == {"v/"}
    assert cache.get("kept") == 1
    drop_expired(area.storage, datetime.now(UTC) + timedelta(days=40))
    assert {name[:2] for name in names(area)} == {"e/", "g/", "u/", "v/"}


def test_trim_keeps_the_bound_and_the_tokens(file_cache: MakeCache, area: CacheArea) -> None:
    cache = file_cache(max_bytes=0)
    for number in range(8):
        cache.set(str(number), b"x" * 2_000_000, ttl=HOUR * (number + 1))
    trim(area.storage, 7_000_000)
    assert sum(info.size for info in area.listing()) <= 7_000_000
    assert cache.get("0", MISS) is MISS
    assert cache.get("7") == b"x" * 2_000_000
    assert cache.stats()["misses"] == 1


@pytest.mark.parametrize("size", [3_000, 400_000, 2_000_000])
def test_area_stays_in_its_bound_whoever_writes(file_cache: MakeCache, area: CacheArea, size: int) -> None:
    """In whole blocks of the disk, after each value, with writers that know nothing of each other."""
    writers = [file_cache(max_bytes=0, max_disk_bytes=16 * max(size, 32_768)) for _ in range(4)]
    for number in range(48):
        assert writers[number % 4].set(str(number), os.urandom(size)) is True
        assert sum(on_disk(info.size) for info in area.listing()) <= 16 * max(size, 32_768)
    assert len(writers[0].get("47")) == size


def test_area_stays_in_its_bound_while_threads_write(file_cache: MakeCache, area: CacheArea) -> None:
    cache = file_cache(max_bytes=0, max_disk_bytes=4_000_000)
    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(cache.set, str(number), os.urandom(300_000)) for number in range(40)]
        while not all(job.done() for job in done):
            assert sum(on_disk(info.size) for info in area.listing()) <= 4_000_000
    assert all(job.result() for job in done)


def test_value_beyond_the_bound_is_not_stored_and_drops_nothing(file_cache: MakeCache, area: CacheArea) -> None:
    cache = file_cache(max_bytes=0, max_disk_bytes=4_000_000)
    assert cache.set("k", 1) is True
    assert cache.set("big", os.urandom(4_000_000)) is False
    assert cache.stats()["l3"]["too_large"] == 1
    assert cache.get("k") == 1


@pytest.mark.parametrize("text", [b"", b"no number", b"9" * 100])
def test_damaged_ledger_is_made_anew(file_cache: MakeCache, area: CacheArea, text: bytes) -> None:
    cache = file_cache(max_bytes=0, max_disk_bytes=4_000_000)
    cache.set("k", os.urandom(500_000))
    path = area.local_path(LEDGER)
    assert path is not None
    Path(path).write_bytes(text)
    assert cache.set("k2", os.urandom(500_000)) is True
    assert 1_000_000 <= int(Path(path).read_bytes()) <= 1_100_000


def test_ledger_that_a_stopped_process_holds_costs_the_entry_alone(file_cache: MakeCache, area: CacheArea) -> None:
    cache = file_cache(max_bytes=0)
    cache.set("k", 1)
    path = area.local_path(LEDGER)
    assert path is not None
    with open(path, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert file_cache(max_bytes=0).set("other", 2) is False
        assert cache.get("k") == 1
    assert file_cache(max_bytes=0).set("other", 2) is True


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a filesystem")
@pytest.mark.faults
def test_full_disk_is_read_on(tmp_path: Path, clock: Clock) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(small)], check=False)
    if mounted.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        area = CacheArea(FilesystemObjectStorage(location=small / "cache"))
        cache = NodeCache(tier=FileTier(area, clock), area=area, secret=mac_key(SECRET), max_bytes=0, clock=clock)
        assert cache.set("k", 1) is True
        (small / "filler").write_bytes(bytes(os.statvfs(small).f_bavail * 4096))
        assert cache.set("new", b"x" * 50_000) is False
        assert cache.get("k") == 1
        assert cache.get_or_compute("other", lambda: [2]) == [2]
        (small / "filler").unlink()
        cache.close()
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_lost_tokens_make_everything_new(file_cache: MakeCache, area: CacheArea) -> None:
    here, there = file_cache(), file_cache()
    here.set("k", 1)
    here.clear(user="1")
    assert here.get("k") == 1
    area.delete([name for name in names(area) if name[0] in "eg"])
    assert here.get("k", MISS) is MISS
    assert there.get("k", MISS) is MISS
    assert here.set("k", 2) is True
    assert there.get("k") == 2


def test_folder_that_vanishes_is_a_miss(file_cache: MakeCache, tmp_path: Path) -> None:
    cache = file_cache()
    cache.set("k", 1)
    (tmp_path / "cache").rename(tmp_path / "gone")
    assert cache.get("k", MISS) is MISS
    assert cache.set("k", 2) is True
    assert cache.get("k") == 2


@pytest.fixture(params=["disk", "memory", "s3"])
def place(request: pytest.FixtureRequest, area: CacheArea) -> CacheArea:
    """Give the area on each kind of storage."""
    if request.param == "disk":
        return area
    if request.param == "memory":
        return CacheArea(MemoryObjectStorage())
    from storagecache.storages.s3 import S3ObjectStorage  # boto3 takes a second: only for those who need it

    server: SeaweedServer = request.getfixturevalue("seaweedfs")
    return CacheArea(S3ObjectStorage(**server.options(server.new_bucket()), object_prefix="cache/"))


def test_area_replaces_and_creates(place: CacheArea) -> None:
    assert place.read("v/ab/abc") is None
    place.replace("v/ab/abc", [b"one ", memoryview(b"piece")])
    place.replace("v/ab/abc", [b"two"])
    assert place.read("v/ab/abc") == b"two"
    assert place.create("v/ab/abc", b"x") is False
    assert place.create("g/ab/abc", b"x") is True
    assert list(place.names("v/")) == ["v/ab/abc"]
    place.delete(["v/ab/abc", "v/ab/none"])
    assert place.read("v/ab/abc") is None


def test_cache_works_on_every_storage(place: CacheArea, clock: Clock) -> None:
    def make() -> NodeCache:
        return NodeCache(tier=FileTier(place, clock), area=place, secret=mac_key(SECRET), max_bytes=0, clock=clock)

    here, there = make(), make()
    assert here.set("small", [1]) is True
    assert here.set("big", b"x" * 1_200_000) is True
    assert there.get("small") == [1]
    assert there.get("big") == b"x" * 1_200_000
    here.clear()
    assert there.get("small", MISS) is MISS
    here.close()
    assert there.stats_of_all()[0] >= 1
    there.close()
    assert drop_expired(place.storage, datetime.fromtimestamp(NOW, UTC) + timedelta(days=2))[0] >= 1
