"""Two things at once: one is stopped before each of its SQL statements in turn, the other runs there or until it waits.

No schedule may tear an asset from its bytes, whatever of the two wins. Everything here is real: threads, connections,
locks of the database; the only instrument is Django's `execute_wrapper`.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.storage import storages
from django.db import connection
from django.utils import timezone

from assets.models import Account, Asset, StoredObject
from assets.services import (
    AssetDetails,
    create_asset,
    delete_assets,
    delete_at,
    find_asset_at,
    purge,
    replace_content,
)
from assets.services.objects import make_ready, store_object, take_reference
from assets.services.quota import charge
from assets.services.sections import release_connection, write_section
from assets.staging import stage_stream
from storagecache.errors import (
    BackendUnavailableError,
    ObjectExistsError,
    ObjectNotFoundError,
    PreconditionFailedError,
)
from tests.assets.conftest import (
    BLOCKED,
    Background,
    Buckets,
    assert_equal_sides,
    assert_whole,
    at_once,
    before_statement,
    interleaved,
    put,
    read,
    statements,
)

ZERO = timedelta(0)


@dataclass(slots=True)
class Scene:
    """One owner with the key `k` (bytes `old`), and the key `gone` (bytes `loose`) which each purge deletes first."""

    owner: User
    asset: Asset
    gone: Asset

    def put_new(self) -> Any:
        return put(self.owner, "k", b"new")

    def put_other(self) -> Any:
        return put(self.owner, "k", b"other")

    def put_twin(self) -> Any:
        """Store the bytes whose only object is collectable: share it, or store anew."""
        return put(self.owner, "twin", b"loose")

    def put_if_absent(self) -> Any:
        return put(self.owner, "k", b"absent", check=_must_be_absent)

    def put_if_unchanged(self) -> Any:
        return put(self.owner, "k", b"matched", check=_must_be_old)

    def create_fresh(self) -> Any:
        return put(self.owner, "fresh", b"one")

    def create_fresh_too(self) -> Any:
        return put(self.owner, "fresh", b"two")

    def create_if_absent(self) -> Any:
        return put(self.owner, "fresh", b"three", check=_must_be_absent)

    def create_only(self) -> Any:
        return create_asset(owner=self.owner, name="n", content=io.BytesIO(b"four"), key="fresh")

    def derive_copy(self) -> Any:
        details = AssetDetails(sources=(self.asset.pk,))
        return create_asset(owner=self.owner, name="copy", content=io.BytesIO(b"old"), details=details)

    def replace(self) -> Any:
        return replace_content(self.asset, io.BytesIO(b"replaced"))

    def delete(self) -> Any:
        return delete_at(self.owner.pk, "assets", "k")

    def delete_by_id(self) -> Any:
        return delete_assets([self.asset.pk], owner_id=self.owner.pk)

    def purge(self) -> Any:
        return self._purge(ZERO)

    def purge_later(self) -> Any:
        return self._purge(timedelta(minutes=1))

    def _purge(self, grace: timedelta) -> Any:
        """Delete `gone` and collect its bytes, which `put_twin` may have found by then."""
        delete_assets([self.gone.pk])
        yesterday = timezone.now() - timedelta(days=1)
        StoredObject.objects.filter(pk=self.gone.object_id).update(referenced_at=yesterday)
        return purge(grace=grace)


ALLOWED = (BackendUnavailableError, ObjectExistsError, ObjectNotFoundError, PreconditionFailedError)
PAIRS = [
    (Scene.purge, Scene.put_twin), (Scene.put_twin, Scene.purge), (Scene.purge_later, Scene.put_twin),
    (Scene.put_twin, Scene.purge_later), (Scene.purge, Scene.purge), (Scene.purge, Scene.put_new),
    (Scene.put_new, Scene.purge), (Scene.create_fresh, Scene.create_fresh_too),
    (Scene.create_fresh, Scene.create_if_absent), (Scene.create_if_absent, Scene.create_fresh),
    (Scene.create_only, Scene.create_fresh), (Scene.create_fresh, Scene.create_only),
    (Scene.put_new, Scene.put_other), (Scene.put_new, Scene.put_if_absent), (Scene.put_if_absent, Scene.put_new),
    (Scene.put_if_unchanged, Scene.put_new), (Scene.put_new, Scene.put_if_unchanged), (Scene.put_new, Scene.delete),
    (Scene.delete, Scene.put_new), (Scene.replace, Scene.delete), (Scene.delete_by_id, Scene.replace),
    (Scene.delete, Scene.delete_by_id), (Scene.derive_copy, Scene.delete), (Scene.delete, Scene.derive_copy),
    (Scene.delete, Scene.purge), (Scene.purge, Scene.delete),
]  # fmt: skip


def _must_be_absent(current: Asset | None) -> None:
    if current is not None:
        raise PreconditionFailedError("It is there.")


def _must_be_old(current: Asset | None) -> None:
    assert current is None or current.object is not None, "an asset without its object"
    if current is None or current.object is None or current.object.sha256 != hashlib.sha256(b"old").hexdigest():
        raise PreconditionFailedError("It is another one.")


def _set(owner: User) -> Scene:
    asset = put(owner, "k", b"old")
    return Scene(owner, asset, put(owner, "gone", b"loose"))


def _clear(buckets: Buckets) -> None:
    Account.objects.all().delete()
    Asset.objects.all().delete()
    StoredObject.objects.all().delete()
    for alias in ("assets", "temp"):
        storages[alias].delete_many([info.key for info in storages[alias].list_objects()])


def _schedules(owner: User, buckets: Buckets, first: Callable[[Scene], Any]) -> Iterator[int]:
    """Yield the number of each statement of `first`, and one behind the last."""
    scene = _set(owner)
    with statements() as seen, contextlib.suppress(*ALLOWED):
        first(scene)
    total = len(seen)
    _clear(buckets)
    yield from range(total + 1)


@pytest.mark.parametrize(
    ("first", "second"), PAIRS, ids=[f"{first.__name__}-{second.__name__}" for first, second in PAIRS]
)
def test_two_at_once_in_any_order_leave_every_asset_whole(
    memory: Buckets, owner: User, first: Callable[[Scene], Any], second: Callable[[Scene], Any]
) -> None:
    for number in _schedules(owner, memory, first):
        scene = _set(owner)
        results = interleaved(number, partial(first, scene), partial(second, scene), ALLOWED)
        assert_whole()
        _assert_sensible(results, {first.__name__, second.__name__})
        purge(grace=ZERO)
        assert_whole()
        assert_equal_sides(memory)
        _clear(memory)


def _assert_sensible(results: list[Any], names: set[str]) -> None:
    """Assert what holds for some pairs in every order."""
    failed = [result for result in results if isinstance(result, Exception)]
    assert len(failed) < 2
    if names == {"create_fresh", "create_fresh_too"}:
        assert not failed
        assert Asset.objects.get(key="fresh").revision == 2
    if names == {"put_new", "put_other"}:
        assert not failed
        assert Asset.objects.get(key="k").revision == 3
    if names & {"put_if_absent"}:
        assert [type(error) for error in failed] == [PreconditionFailedError]
    if names == {"put_if_unchanged", "put_new"}:
        # Either it came first, and was replaced; or it was refused. Never the loser's bytes.
        assert read(find_asset_at("assets", "k")) == b"new"
    if names == {"put_new", "delete"}:
        assert not [error for error in failed if not isinstance(error, ObjectNotFoundError)]
    if names <= {"purge", "put_new", "put_twin", "purge_later"} and "put_twin" in names:
        assert read(find_asset_at("assets", "twin")) == b"loose"


def test_collection_of_an_object_that_gets_a_reference_meanwhile_leaves_it(memory: Buckets, owner: User) -> None:
    """A purge has read its candidates; then an upload shares one of them; then the purge marks."""
    for number in itertools.count():
        one = put(owner, f"one-{number}", b"shared")
        assert one.object is not None
        delete_at(owner.pk, "assets", f"one-{number}")
        StoredObject.objects.update(referenced_at=timezone.now() - timedelta(days=1))
        taker = Background(lambda stored=one.object, key=f"two-{number}": _share(owner, stored, key))
        with before_statement(number, lambda taker=taker: taker.start().wait(BLOCKED)) as seen:
            purge(grace=ZERO)
        if number >= len(seen):
            break
        assert taker.wait()
        assert_whole()
        _clear(memory)
    assert number > 5


def _share(owner: User, stored: StoredObject, key: str) -> None:
    """Refer to an object as an upload does that found its twin; nothing happens when it is being collected."""
    now = timezone.now()
    try:
        with write_section():
            take_reference(stored)
            # As old as if the clock of another machine were late: the grace time must not be what saves it.
            StoredObject.objects.filter(pk=stored.pk).update(referenced_at=now - timedelta(days=1))
            Asset.objects.create(
                owner=owner, key=key, object=stored, name=key, content_type="x/x", size=stored.size, created_at=now,
                updated_at=now, content_changed_at=now,
            )  # fmt: skip
            charge(owner.pk, stored.size)
    except BackendUnavailableError:
        return


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one writer: nobody waits for a row")
def test_put_that_waited_for_a_replace_judges_the_new_object(memory: Buckets, owner: User) -> None:
    """PostgreSQL re-reads a row that it waited for, but not the rows joined to it."""
    asset = put(owner, "k", b"old")
    judged: list[int] = []

    def judge(current: Asset | None) -> None:
        assert current is not None
        assert current.object is not None
        judged.append(current.object.size)

    with write_section():
        Asset.objects.select_for_update().get(pk=asset.pk)
        waiting = Background(lambda: put(owner, "k", b"newer", check=judge)).start()
        _wait_for_a_blocked_connection()
        Asset.objects.filter(pk=asset.pk).update(object=_stored(owner, b"switched meanwhile"))
    assert waiting.outcome().size == 5
    assert judged == [3, 18]


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one writer: nobody waits for a row")
def test_delete_that_waited_for_a_replace_deletes(memory: Buckets, owner: User) -> None:
    asset = put(owner, "k", b"old")
    with write_section():
        Asset.objects.select_for_update().get(pk=asset.pk)
        waiting = Background(lambda: delete_at(owner.pk, "assets", "k")).start()
        _wait_for_a_blocked_connection()
        Asset.objects.filter(pk=asset.pk).update(object=_stored(owner, b"switched meanwhile"))
    waiting.outcome()
    assert not Asset.objects.exists()


def _stored(owner: User, data: bytes) -> StoredObject:
    now = timezone.now()
    return StoredObject.objects.create(
        storage="assets", bucket=storages["assets"].bucket, key="laid", size=len(data), sha256="0" * 64,
        state="ready", state_changed_at=now, referenced_at=now, created_at=now,
    )  # fmt: skip


def _wait_for_a_blocked_connection() -> None:
    """Wait until another connection to this database waits for a lock."""
    sql = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    for _ in range(3000):
        with connection.cursor() as cursor:
            cursor.execute(sql)
            row = cursor.fetchone()
        if row and row[0]:
            return
        Background(lambda: None).start().wait(0.01)
    pytest.fail("nobody waited")


def test_replaces_that_swap_a_pair_of_twins_do_not_deadlock(memory: Buckets, owner: User) -> None:
    put(owner, "a", b"1"), put(owner, "b", b"2"), put(owner, "keep-1", b"1"), put(owner, "keep-2", b"2")
    for turn in range(10):
        one, two = (b"1", b"2") if turn % 2 else (b"2", b"1")
        ended = at_once(lambda one=one: put(owner, "a", one), lambda two=two: put(owner, "b", two))
        for task in ended:
            task.outcome()
        assert (read(find_asset_at("assets", "a")), read(find_asset_at("assets", "b"))) == (one, two)
    assert_whole()


def test_many_creates_of_one_key_make_one_asset(buckets: Buckets, owner: User) -> None:
    tasks = at_once(*(lambda n=n: put(owner, "k", bytes([n]) * 5000) for n in range(8)))
    assets = [task.outcome() for task in tasks]
    assert len({asset.pk for asset in assets}) == 1
    assert sorted(asset.revision for asset in assets) == list(range(1, 9))
    assert_whole()
    purge(grace=ZERO)
    assert_equal_sides(buckets)


def test_many_creates_if_absent_of_one_key_have_one_winner(buckets: Buckets, owner: User) -> None:
    tasks = at_once(*(lambda n=n: put(owner, "k", bytes([n]), check=_must_be_absent) for n in range(8)))
    errors = [task.error for task in tasks if task.error]
    assert [type(error) for error in errors] == [PreconditionFailedError] * 7
    assert_whole()


def test_purges_beside_uploads_lose_nothing(buckets: Buckets, owner: User) -> None:
    """Zero grace is harsher than any purge that runs by itself: an upload may fail, but then cleanly."""

    def upload(thread: int) -> list[str]:
        kept = []
        for number in range(12):
            try:
                put(owner, f"{thread}-{number % 5}", b"%d" % (number % 3) * 1000)
            except BackendUnavailableError:
                continue
            kept.append(f"{thread}-{number % 5}")
        return kept

    def purge_often() -> None:
        for _ in range(15):
            report = purge(grace=ZERO)
            assert report.failures == ()

    tasks = at_once(*(lambda t=t: upload(t) for t in range(4)), purge_often, purge_often)
    keys = {key for task in tasks[:4] for key in task.outcome()}
    for task in tasks[4:]:
        task.outcome()
    assert {asset.key for asset in Asset.objects.all()} == keys
    assert_whole()
    purge(grace=ZERO)
    assert_equal_sides(buckets)


def test_two_purges_count_one_deletion_of_an_abandoned_object_once(disk: Buckets, owner: User) -> None:
    """The second deletion comes a grace time after the first, also when two purges do the first side by side."""
    for number in itertools.count():
        with stage_stream(io.BytesIO(b"left"), storages["assets"]) as staged:
            left = store_object(staged, "assets")
        hours_ago = timezone.now() - timedelta(hours=3)
        StoredObject.objects.filter(pk=left.pk).update(state_changed_at=hours_ago)
        other = Background(lambda: purge(grace=timedelta(hours=2)))
        with before_statement(number, lambda other=other: other.start().wait(BLOCKED)) as seen:
            purge(grace=timedelta(hours=2))
        if number >= len(seen):
            break
        assert other.outcome().objects == 0
        row = StoredObject.objects.get(pk=left.pk)
        assert (row.deletes_left, row.deleted_at is not None) == (1, True)
        StoredObject.objects.all().delete()


def test_upload_that_was_given_up_takes_its_late_bytes_away(buckets: Buckets, owner: User) -> None:
    """A purge without grace has forgotten the row before the bytes came: only the uploader knows of them."""
    with stage_stream(io.BytesIO(b"late"), storages["assets"]) as staged:
        left = store_object(staged, "assets")
    purge(grace=ZERO)
    with pytest.raises(BackendUnavailableError), write_section():
        make_ready(left)
    seen: list[str] = []

    def forget(current: Asset | None) -> None:
        if seen:
            Background(_forget_pending).start().outcome()
        seen.append("judged")

    if connection.vendor == "sqlite":
        return  # the section has the only turn to write
    with pytest.raises(BackendUnavailableError, match="given up"):
        put(owner, "k", b"late", check=forget)
    assert buckets.keys() == set()


def _forget_pending() -> None:
    StoredObject.objects.filter(state="pending").delete()
    release_connection()
