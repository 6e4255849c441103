"""What is kept of looks, and what happens when two look at once or one dies: on each kind of bucket, on each engine."""

from __future__ import annotations

import functools
import hashlib
import io
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.storage import storages
from django.utils import timezone
from PIL import Image

from assets.integrity.verify import Verification
from assets.models import Asset, Rendition, StoredObject
from assets.services import create_asset, delete_assets, open_object, purge, put_content, replace_content
from assets.services.previews import MAX_TRIES, ask_for_all, make_next, picture_of
from tests.assets.conftest import Background, Buckets, assert_equal_sides, at_once, before_statement, put, statements
from tests.media.files import MP4, PNG, WAV, encoded, flat

pytestmark = pytest.mark.django_db(transaction=True)
NONE = timedelta(0)
BROKEN = PNG[:200]


class Death(BaseException):
    """The process dies here."""


def row(asset: Asset) -> StoredObject:
    """Read the object of an asset anew."""
    return StoredObject.objects.get(pk=asset.object_id)


def fresh(asset: Asset) -> Asset:
    return Asset.objects.get(pk=asset.pk)


def figures(asset: Asset) -> tuple[int | None, int | None, float | None]:
    return asset.width, asset.height, asset.duration


def work() -> int:
    """Do all work that is due; tells how many looks that were."""
    count = 0
    while make_next():
        count += 1
    return count


def end_leases() -> None:
    """Let the time pass until claims of the dead end."""
    StoredObject.objects.exclude(preview_at=None).update(preview_at=timezone.now() - timedelta(seconds=1))


# --- what is kept ---------------------------------------------------------------------------------


@pytest.mark.parametrize("alias", ["assets", "temp"])
def test_picture_film_and_sound_are_kept_on_each_bucket(buckets: Buckets, owner: User, alias: str) -> None:
    image, film, sound = (put(owner, f"f{n}", data, bucket=alias) for n, data in enumerate((PNG, MP4, WAV)))
    assert [figures(asset) for asset in (image, film, sound)] == [
        (640, 400, None), (320, 180, 2.0), (None, None, 3.0),
    ]  # fmt: skip
    assert [figures(fresh(asset)) for asset in (image, film, sound)] == [figures(a) for a in (image, film, sound)]
    kinds = Rendition.objects.values_list("source", "kind", "size")
    assert set(kinds) == {(image.object_id, "thumbnail", size) for size in (128, 256, 512)} | {
        (film.object_id, "poster", size) for size in (128, 256, 512)
    }
    assert {row(asset).preview for asset in (image, film, sound)} == {"made"}
    assert [bool(row(asset).color) for asset in (image, film, sound)] == [True, True, False]
    assert {rendition.object.storage for rendition in Rendition.objects.select_related("object")} == {alias}
    assert_equal_sides(buckets)
    picture = picture_of(row(image).pk, 128)
    assert picture is not None
    with open_object(picture, 0, None) as stream, Image.open(io.BytesIO(stream.read())) as shown:
        assert (shown.format, shown.size) == ("WEBP", (128, 80))


def test_pictures_are_no_findings_of_verify(buckets: Buckets, owner: User) -> None:
    put(owner, "a.png", PNG)
    assert list(Verification(deep=True).findings()) == []


def test_claimed_figures_give_way_to_measured_ones(memory: Buckets, owner: User) -> None:
    from assets.services import AssetDetails

    details = AssetDetails(duration=999.0, width=1, height=1)
    asset = create_asset(owner=owner, name="a.mp4", content=io.BytesIO(MP4), details=details)
    assert figures(fresh(asset)) == figures(asset) == (320, 180, 2.0)
    text = create_asset(owner=owner, name="a.txt", content=io.BytesIO(b"text"), details=details)
    assert fresh(text).duration == 999.0


def test_shared_bytes_are_looked_into_once(memory: Buckets, owner: User) -> None:
    first, second = put(owner, "a.png", PNG), put(owner, "b.png", PNG)
    assert first.object_id == second.object_id
    assert figures(second) == figures(fresh(second)) == (640, 400, None)
    assert Rendition.objects.count() == 3


@pytest.mark.usefixtures("by_worker")
def test_asset_that_shares_bytes_during_the_look_is_measured(disk: Buckets, owner: User) -> None:
    """Whatever moment of the look it comes at: the look tells it, or it reads what the look has written."""
    number, more = 0, True
    while more:
        data = encoded(flat(size=(300 + number, 200)), "PNG")
        put(owner, f"first {number}", data)
        sharing = Background(functools.partial(put, owner, f"second {number}", data))
        with before_statement(number, lambda task=sharing: task.start().wait(0.2)) as seen:  # type: ignore[misc]
            make_next()
        more = number < len(seen)
        if more:
            sharing.outcome()
            assert figures(Asset.objects.get(key=f"second {number}")) == (300 + number, 200, None), number
        number += 1
    assert number > 5


def test_replaced_picture_is_measured_anew_and_its_pictures_go(buckets: Buckets, owner: User) -> None:
    asset = put(owner, "a.png", PNG)
    smaller = encoded(flat(size=(100, 50)), "PNG")
    replaced = replace_content(asset, io.BytesIO(smaller))
    assert figures(replaced) == figures(fresh(asset)) == (100, 50, None)
    text = replace_content(asset, io.BytesIO(b"text"), content_type="text/plain")
    assert figures(text) == figures(fresh(asset)) == (None, None, None)
    purge(grace=NONE)
    assert (StoredObject.objects.count(), Rendition.objects.count()) == (1, 0)
    assert_equal_sides(buckets)


def test_pictures_of_a_small_image_are_one_object(memory: Buckets, owner: User) -> None:
    put(owner, "a.png", encoded(flat(size=(40, 30)), "PNG"))
    assert (Rendition.objects.count(), Rendition.objects.values("object").distinct().count()) == (3, 1)
    delete_assets(Asset.objects.values_list("pk", flat=True))
    assert purge(grace=NONE).objects == 2


# --- purge ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("alias", ["assets", "temp"])
def test_purge_takes_pictures_with_their_source_and_counts_them(buckets: Buckets, owner: User, alias: str) -> None:
    asset = put(owner, "a.png", PNG, bucket=alias)
    assert purge(grace=NONE).objects == 0
    if alias == "temp":
        Asset.objects.filter(pk=asset.pk).update(expires_at=timezone.now())
    else:
        delete_assets([asset.pk])
    told = purge(grace=NONE, dry_run=True)
    done = purge(grace=NONE)
    assert (told.objects, told.bytes) == (done.objects, done.bytes)
    assert done.objects == 4
    assert (StoredObject.objects.count(), Rendition.objects.count(), buckets.keys()) == (0, 0, set())


def test_purge_within_the_grace_time_takes_no_picture(memory: Buckets, owner: User) -> None:
    asset = put(owner, "a.png", PNG)
    delete_assets([asset.pk])
    assert purge(grace=timedelta(hours=1)).objects == 0
    assert Rendition.objects.count() == 3


# --- the queue ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("by_worker")
def test_upload_of_media_costs_no_statement_more(disk: Buckets, owner: User) -> None:
    put(owner, "warm", b"x")
    with statements() as plain:
        put(owner, "a.bin", os_bytes(1))
    with statements() as media:
        put(owner, "a.png", PNG)
    assert len(media) == len(plain)


def os_bytes(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest() * 40


@pytest.mark.usefixtures("by_worker")
def test_wanted_waits_for_a_worker_and_is_taken_in_order(disk: Buckets, owner: User) -> None:
    assets = [put(owner, f"{n}.png", encoded(flat(size=(50 + n, 40)), "PNG")) for n in range(3)]
    assert [row(asset).preview for asset in assets] == ["wanted"] * 3
    assert make_next()
    assert [row(asset).preview for asset in assets] == ["made", "wanted", "wanted"]
    assert work() == 2
    assert make_next() is False


@pytest.mark.usefixtures("by_worker")
def test_idle_worker_asks_one_question_and_writes_nothing(disk: Buckets, owner: User) -> None:
    put(owner, "a.txt", b"text")
    with statements() as seen:
        make_next()
    assert [sql.split()[0] for sql in seen] == ["SELECT"]


@pytest.mark.usefixtures("by_worker")
def test_workers_at_once_look_once(disk: Buckets, owner: User) -> None:
    put(owner, "a.png", PNG)
    outcomes = [task.outcome() for task in at_once(make_next, make_next, make_next, make_next)]
    assert outcomes.count(True) == 1
    assert (Rendition.objects.count(), StoredObject.objects.count()) == (3, 4)


@pytest.mark.parametrize("data", [BROKEN, PNG[:8] + b"junk" * 50], ids=["cut", "junk"])
def test_broken_file_is_noted_and_not_tried_again(buckets: Buckets, owner: User, data: bytes) -> None:
    asset = put(owner, "a.png", data, content_type="image/png")
    stored = row(asset)
    assert (stored.preview, stored.color, stored.preview_tries) == ("none", "", 0)
    assert stored.preview_note
    assert make_next() is False
    assert_equal_sides(buckets)


@pytest.mark.usefixtures("by_worker")
def test_worker_that_dies_leaves_nothing_half_made_and_another_goes_on(disk: Buckets, owner: User) -> None:
    """Killed before each statement of a look in turn."""
    number, died = 0, True
    while died:
        asset = put(owner, f"{number}", encoded(flat(size=(600 + number, 100)), "PNG"))
        died = dies_before(number)
        made = Rendition.objects.filter(source=asset.object_id).count()
        assert made in (0, 3)
        end_leases()
        work()
        assert figures(fresh(asset)) == (600 + number, 100, None)
        assert (row(asset).preview, Rendition.objects.filter(source=asset.object_id).count()) == ("made", 3)
        number += 1
    assert number > 8
    purge(grace=NONE)
    assert_equal_sides(disk)
    assert StoredObject.objects.count() == number * 4


def dies_before(number: int) -> bool:
    """Look, and die before this statement; tells whether it came so far."""

    def die() -> None:
        raise Death

    try:
        with before_statement(number, die):
            make_next()
    except Death:
        return True
    return False


@pytest.mark.usefixtures("by_worker")
def test_file_that_ends_each_worker_is_given_up(disk: Buckets, owner: User) -> None:
    asset = put(owner, "a.png", PNG)
    for _ in range(MAX_TRIES):
        assert row(asset).preview == "wanted"
        StoredObject.objects.filter(pk=asset.object_id).update(preview_tries=row(asset).preview_tries + 1)
    work()
    assert (row(asset).preview, row(asset).preview_note) == ("none", "the look never ended")


@pytest.mark.usefixtures("by_worker")
def test_bucket_out_of_reach_puts_the_look_off(disk: Buckets, owner: User, settings: Any) -> None:
    asset, right = put(owner, "a.png", PNG), settings.STORAGES
    wrong = right["assets"] | {"OPTIONS": right["assets"]["OPTIONS"] | {"bucket": "another"}}
    settings.STORAGES = right | {"assets": wrong}
    assert work() == 1
    stored = row(asset)
    assert (stored.preview, stored.preview_tries) == ("wanted", 0)
    assert stored.preview_at is not None
    settings.STORAGES = right
    assert work() == 0
    end_leases()
    assert work() == 1
    assert row(asset).preview == "made"


@pytest.mark.usefixtures("by_worker")
def test_machine_without_room_puts_the_look_off(
    disk: Buckets, owner: User, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asset = put(owner, "a.png", PNG)
    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
        assert work() == 1
    stored = row(asset)
    assert (stored.preview, stored.preview_tries) == ("wanted", 0)
    end_leases()
    assert work() == 1
    assert row(asset).preview == "made"


@pytest.mark.usefixtures("by_worker")
def test_source_that_goes_during_the_look_leaves_nothing(disk: Buckets, owner: User) -> None:
    """Deleted and purged before each statement of a look in turn."""
    number, more = 0, True
    while more:
        asset = put(owner, "a.png", PNG)
        losing = Background(functools.partial(lose, asset))
        with before_statement(number, lambda task=losing: task.start().wait(0.2)) as seen:  # type: ignore[misc]
            make_next()
        more = number < len(seen)
        lose(asset)
        if more:
            losing.outcome()
        purge(grace=NONE)
        assert (StoredObject.objects.count(), Rendition.objects.count(), disk.keys()) == (0, 0, set()), number
        number += 1
    assert number > 5


def lose(asset: Asset) -> None:
    delete_assets([asset.pk])
    purge(grace=NONE)


# --- anew -----------------------------------------------------------------------------------------


def test_all_asked_anew_are_made_again_and_earlier_pictures_go(buckets: Buckets, owner: User) -> None:
    image = put(owner, "a.png", PNG)
    put(owner, "a.txt", b"text")
    before = set(Rendition.objects.values_list("object_id", flat=True))
    assert list(ask_for_all(missing=False)) == [1]
    assert work() == 1
    after = set(Rendition.objects.values_list("object_id", flat=True))
    assert (len(after), before & after) == (3, set())
    assert purge(grace=NONE).objects == 3
    assert row(image).preview == "made"
    assert_equal_sides(buckets)


def test_missing_asked_are_those_of_which_nothing_is_made(memory: Buckets, owner: User) -> None:
    put(owner, "a.png", PNG)
    bad, old = put(owner, "b.png", BROKEN, content_type="image/png"), put(owner, "c.wav", WAV)
    StoredObject.objects.filter(pk=old.object_id).update(preview="")
    assert list(ask_for_all(missing=True)) == [2]
    assert work() == 2
    assert (row(bad).preview, row(old).preview) == ("none", "made")


def test_long_film_elsewhere_is_fetched_at_its_ends_only(
    disk: Buckets, owner: User, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    from assets.media import source
    from storagecache.storages.memory import MemoryObjectStorage

    monkeypatch.setattr(source, "WHOLE", 4096)
    monkeypatch.setattr(source, "END", 1000)
    elsewhere = MemoryObjectStorage()
    key = "00/" + "0" * 30 + "00.mp4"
    data = os_bytes(1) * 10
    elsewhere.save(key, io.BytesIO(data))
    with source.local_file(elsewhere, key, size=len(data), kind="video", folder=str(tmp_path)) as copy:
        copy.seek(0)
        got = copy.read()
    assert len(got) == len(data)
    assert (got[:1000], got[-1000:]) == (data[:1000], data[-1000:])
    assert got[1000:-1000] == bytes(len(data) - 2000)
    assert list(tmp_path.iterdir()) == [path for path in tmp_path.iterdir() if path.is_dir()]


def test_nobody_meets_a_preview_in_the_quota(memory: Buckets, owner: User) -> None:
    put_content(owner=owner, bucket="assets", key="a.png", content=io.BytesIO(PNG))
    from assets.models import Account

    assert Account.objects.get(pk=owner.pk).used_bytes == len(PNG)
    assert storages["assets"] is not None
