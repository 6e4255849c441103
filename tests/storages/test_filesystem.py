"""The storage on disk: the contract, what is its own, and a fault at each step of a save."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.core.files.base import ContentFile, File

from storagecache.capabilities import FolderStaging, LocalFiles, StagedContent
from storagecache.errors import (
    BackendUnavailableError,
    InvalidKeyError,
    ObjectExistsError,
    ObjectNotFoundError,
    StorageFullError,
)
from storagecache.storages.durable import STAGED_PREFIX, discard, open_staging, write_all
from storagecache.storages.filesystem import FilesystemObjectStorage
from tests.contracts.storage import MIB, TEN, BoundedMemoryContract, StorageContract, bytes_of, stored
from tests.storages.sources import PatternSource, digest_of, new_name

SystemCall = Callable[..., object]


class StagedFile(File):
    """Bytes that lie in a file already, as an upload's do."""

    def __init__(self, folder: str, data: bytes, *, named: bool = False) -> None:
        self.fd, self.staged_path = open_staging(folder)
        if named and self.staged_path is None:
            discard(self.fd, None)
            path = Path(folder) / "staged-by-name"
            self.fd, self.staged_path = os.open(path, os.O_RDWR | os.O_CREAT, 0o600), str(path)
        write_all(self.fd, data)
        super().__init__(os.fdopen(self.fd, "rb", closefd=False), "staged")

    def fileno(self) -> int:
        return self.fd

    def discard(self) -> None:
        self.close()
        discard(self.fd, self.staged_path)


@pytest.fixture
def storage(tmp_path: Path) -> FilesystemObjectStorage:
    return FilesystemObjectStorage(location=tmp_path / "assets")


def files_of(storage: FilesystemObjectStorage) -> list[str]:
    """Name every file on the disk under the storage, staged ones too."""
    return [name for _folder, _folders, names in os.walk(storage.location) for name in names]


def failing(call: SystemCall, error: int, *, when: int, calls: list[int]) -> SystemCall:
    """Make a system call fail the `when`-th time, and note each."""

    def wrapper(*args: object, **options: object) -> object:
        calls.append(len(calls) + 1)
        if len(calls) == when:
            raise OSError(error, os.strerror(error))
        return call(*args, **options)

    return wrapper


class TestFilesystemObjectStorage(BoundedMemoryContract, StorageContract):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> FilesystemObjectStorage:
        return FilesystemObjectStorage(location=tmp_path / "assets")


def test_filesystem_offers_paths_and_staging(storage: FilesystemObjectStorage) -> None:
    assert isinstance(storage, LocalFiles)
    assert isinstance(storage, FolderStaging)
    assert storage.bucket == "assets"
    name = stored(storage)
    assert Path(storage.path(name)).read_bytes() == TEN
    with pytest.raises(InvalidKeyError):
        storage.path("../secret")


def test_open_stream_of_a_whole_file_is_the_raw_file_for_sendfile(storage: FilesystemObjectStorage) -> None:
    with storage.open_stream(stored(storage), 3) as stream:
        assert os.fstat(stream.fileno()).st_size == 10
        assert stream.tell() == 3


@pytest.mark.parametrize("named", [False, True], ids=["anonymous", "named"])
def test_save_of_a_staged_file_links_it(storage: FilesystemObjectStorage, named: bool) -> None:
    staged = StagedFile(storage.staging_folder(), TEN, named=named)
    assert isinstance(staged, StagedContent)
    inode = os.fstat(staged.fd).st_ino
    name = storage.save(new_name(), staged)
    with pytest.raises(ObjectExistsError):
        storage.save(name, staged)
    staged.discard()
    assert bytes_of(storage, name) == TEN
    assert os.stat(storage.path(name)).st_ino == inode
    assert len(files_of(storage)) == 1


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="no second filesystem at /dev/shm")
def test_save_of_a_file_staged_on_another_filesystem_copies_it(storage: FilesystemObjectStorage) -> None:
    staged = StagedFile("/dev/shm", TEN)
    name = storage.save(new_name(), staged)
    staged.discard()
    assert bytes_of(storage, name) == TEN


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="no second filesystem at /dev/shm")
def test_save_with_the_staging_folder_on_another_filesystem_says_so(tmp_path: Path) -> None:
    storage = FilesystemObjectStorage(location=tmp_path / "assets", staging_folder="/dev/shm")
    with pytest.raises(BackendUnavailableError, match="STAGING_FOLDER"):
        stored(storage)


def test_save_without_anonymous_files_leaves_only_the_object(
    storage: FilesystemObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "O_TMPFILE")
    name = stored(storage)
    assert bytes_of(storage, name) == TEN
    with pytest.raises(ObjectExistsError):
        stored(storage, b"other", name)
    assert len(files_of(storage)) == 1


def test_permissions_are_set_whatever_the_umask(tmp_path: Path) -> None:
    storage = FilesystemObjectStorage(location=tmp_path / "a", file_permissions=0o440, folder_permissions=0o750)
    before = os.umask(0o077)
    try:
        path = Path(storage.path(stored(storage)))
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o7777 == 0o440
    assert path.parent.stat().st_mode & 0o7777 == 0o750
    assert Path(storage.location).stat().st_mode & 0o7777 == 0o750
    assert Path(storage.staging_folder()).stat().st_mode & 0o7777 == 0o700


def test_default_object_is_read_only(storage: FilesystemObjectStorage) -> None:
    assert os.stat(storage.path(stored(storage))).st_mode & 0o7777 == 0o444


def test_root_whose_parent_is_gone_is_an_error_and_never_a_missing_object(tmp_path: Path) -> None:
    storage = FilesystemObjectStorage(location=tmp_path / "unmounted" / "assets")
    for call in (
        lambda: stored(storage),
        lambda: storage.open_stream(new_name()),
        lambda: storage.exists(new_name()),
        lambda: storage.delete(new_name()),
        lambda: list(storage.list_objects()),
    ):
        with pytest.raises(BackendUnavailableError, match="Mount or make"):
            call()
    assert [failure.reason for failure in storage.delete_many([new_name()])] != []


def test_folder_removed_behind_our_back_is_made_again(storage: FilesystemObjectStorage) -> None:
    storage.delete(stored(storage, name=new_name(folder="7f")))
    os.rmdir(Path(storage.location) / "7f")
    name = stored(storage, name=new_name(folder="7f"))
    assert bytes_of(storage, name) == TEN


def test_list_passes_over_hidden_names_and_links(storage: FilesystemObjectStorage, tmp_path: Path) -> None:
    name = stored(storage)
    storage.staging_folder()
    root = Path(storage.location)
    (root / ".hidden").write_text("x")
    (root / "loop").symlink_to(root)
    (root / "link.bin").symlink_to(storage.path(name))
    assert [info.key for info in storage.list_objects()] == [name]


def test_list_is_in_the_order_of_s3_where_folders_and_files_mix(storage: FilesystemObjectStorage) -> None:
    keys = ["a-b", "a.x", "a/b", "a/b-c", "a0", "ab"]
    for key in keys:
        stored(storage, b"", key)
    assert [info.key for info in storage.list_objects()] == keys
    assert [info.key for info in storage.list_objects(start_after="a.x")] == keys[2:]


def test_short_write_stores_the_whole(storage: FilesystemObjectStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[: max(1, len(data) // 3)]))
    name = storage.save(new_name(), File(PatternSource(3 * MIB)))
    assert digest_of(storage.open_stream(name)) == digest_of(PatternSource(3 * MIB))


@pytest.mark.parametrize("when", [1, 2, 3])
def test_failing_fsync_fails_the_save_once_and_leaves_nothing(
    storage: FilesystemObjectStorage, monkeypatch: pytest.MonkeyPatch, when: int
) -> None:
    storage.staging_folder()  # makes the root; then a save syncs the new folder's parent, the file and the folder
    calls: list[int] = []
    monkeypatch.setattr(os, "fsync", failing(os.fsync, errno.EIO, when=when, calls=calls))
    name = new_name()
    with pytest.raises(BackendUnavailableError, match="Check the disk"):
        stored(storage, name=name)
    assert len(calls) == when
    assert files_of(storage) == []
    monkeypatch.undo()
    assert bytes_of(storage, stored(storage, name=name)) == TEN


@pytest.mark.parametrize(
    ("call", "error", "expected"),
    [
        ("write", errno.ENOSPC, StorageFullError),
        ("write", errno.EDQUOT, StorageFullError),
        ("write", errno.EIO, BackendUnavailableError),
        ("link", errno.ENOSPC, StorageFullError),
        ("link", errno.EACCES, BackendUnavailableError),
        ("link", errno.EROFS, BackendUnavailableError),
        ("open", errno.EMFILE, BackendUnavailableError),
        ("mkdir", errno.ENOSPC, StorageFullError),
    ],
)
def test_failing_system_call_is_translated_and_leaves_nothing(
    storage: FilesystemObjectStorage,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    error: int,
    expected: type[Exception],
) -> None:
    storage.staging_folder()
    monkeypatch.setattr(os, call, failing(getattr(os, call), error, when=1, calls=[]))
    with pytest.raises(expected) as caught:
        stored(storage)
    assert isinstance(caught.value.__cause__, OSError)
    monkeypatch.undo()
    assert files_of(storage) == []


def test_delete_many_reports_what_is_still_there(
    storage: FilesystemObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    doomed = [stored(storage) for _ in range(3)]
    monkeypatch.setattr(os, "unlink", failing(os.unlink, errno.EACCES, when=2, calls=[]))
    (failure,) = storage.delete_many(doomed)
    monkeypatch.undo()
    assert failure.key == doomed[1]
    assert "Let the user of the service write" in failure.reason
    assert [info.key for info in storage.list_objects()] == [doomed[1]]


def test_delete_many_syncs_each_folder_once(storage: FilesystemObjectStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    doomed = [stored(storage, name=new_name(folder=folder)) for folder in ("7f", "80") for _ in range(5)]
    calls: list[int] = []
    monkeypatch.setattr(os, "fsync", failing(os.fsync, errno.EIO, when=99, calls=calls))
    assert storage.delete_many(doomed) == []
    assert len(calls) == 2


_SAVE_AND_DIE = """
import io, os, signal, sys, itertools
location, name, when = sys.argv[1], sys.argv[2], int(sys.argv[3])
from django.conf import settings
settings.configure()
from storagecache.storages.filesystem import FilesystemObjectStorage
counter = itertools.count(1)
def dying(call):
    def wrapper(*args, **options):
        if next(counter) == when:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **options)
    return wrapper
for verb in ("mkdir", "write", "fchmod", "fsync", "link"):
    setattr(os, verb, dying(getattr(os, verb)))
FilesystemObjectStorage(location=location).save(name, io.BytesIO(b"0123456789" * 300_000))
"""


@pytest.mark.faults
def test_kill_before_each_step_leaves_the_whole_object_or_nothing(storage: FilesystemObjectStorage) -> None:
    storage.staging_folder()
    for when in itertools.count(1):
        name = new_name(folder=f"{when:02x}")
        command = [sys.executable, "-c", _SAVE_AND_DIE, storage.location, name, str(when)]
        ended = subprocess.run(command, check=False)
        assert ended.returncode in (0, -signal.SIGKILL)
        if ended.returncode == 0:
            break
        held = [info.size for info in storage.list_objects(start_after=f"{when:02x}/")]
        assert held in ([], [3_000_000])
        assert len(files_of(storage)) == len(list(storage.list_objects()))  # nothing staged is left
    assert when > 7


@pytest.fixture(params=["size=4m", "nr_inodes=6"], ids=["no-space", "no-inodes"])
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """Give a filesystem that is soon full."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", request.param, "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.faults
def test_full_disk_refuses_a_save_and_keeps_what_it_has(small_disk: Path) -> None:
    storage = FilesystemObjectStorage(location=small_disk / "assets")
    kept: list[str] = []

    def fill() -> None:
        for _number in range(20):
            kept.append(storage.save(new_name(folder="7f"), File(PatternSource(MIB))))

    with pytest.raises(StorageFullError, match="Free space or inodes"):
        fill()
    assert kept
    assert [info.key for info in storage.list_objects()] == sorted(kept)
    assert sorted(files_of(storage)) == sorted(name.split("/")[1] for name in kept)
    storage.delete(kept.pop())
    assert storage.exists(stored(storage, name=new_name(folder="7f")))


@pytest.mark.faults
def test_read_only_disk_is_unavailable(small_disk: Path) -> None:
    storage = FilesystemObjectStorage(location=small_disk / "assets")
    name = stored(storage)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(BackendUnavailableError, match="Mount the filesystem"):
        stored(storage)
    with pytest.raises(BackendUnavailableError, match="Mount the filesystem"):
        storage.delete(name)
    assert bytes_of(storage, name) == TEN


def test_save_of_empty_content_makes_an_empty_file(storage: FilesystemObjectStorage) -> None:
    name = storage.save(new_name(), ContentFile(b""))
    assert storage.size(name) == 0
    with pytest.raises(ObjectNotFoundError):
        storage.size(new_name())


def test_move_that_was_cut_between_its_two_names_is_finished_either_way(tmp_path: Path) -> None:
    storage = FilesystemObjectStorage(location=tmp_path / "b")
    for finish in (storage.set_aside, storage.put_back):
        name = storage.save("ab/one" if finish == storage.set_aside else "ab/two", ContentFile(b"x"))
        aside = tmp_path / "b" / ".quarantine" / "run1" / name
        aside.parent.mkdir(parents=True, exist_ok=True)
        os.link(storage.path(name), aside)
        finish(name, "run1")
        assert (storage.exists(name), aside.exists()) == (finish == storage.put_back, finish == storage.set_aside)


@pytest.mark.parametrize("write", ["write_identity('mark')", "overwrite('a', [b'x'])"])
def test_draft_of_a_killed_process_has_a_name_that_a_purge_removes(tmp_path: Path, write: str) -> None:
    code = (
        "import os, signal, sys; from storagecache.storages.filesystem import FilesystemObjectStorage as S;"
        "os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL); S(location=sys.argv[1])." + write
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "assets")], check=False)
    assert done.returncode == -signal.SIGKILL
    (draft,) = (tmp_path / "assets" / ".staging").iterdir()
    assert draft.name.startswith(STAGED_PREFIX)


def test_identity_is_hidden_replaced_and_gone_with_the_disk(tmp_path: Path) -> None:
    storage = FilesystemObjectStorage(location=tmp_path / "b")
    assert (storage.read_identity(), storage.is_untouched()) == ("", True)
    storage.write_identity("first")
    storage.write_identity("second")
    assert (storage.read_identity(), storage.is_untouched(), list(storage.list_objects())) == ("second", True, [])
    storage.delete(storage.save("ab/one", ContentFile(b"x")))
    assert not storage.is_untouched()
    (tmp_path / "b").rename(tmp_path / "away")
    assert (storage.read_identity(), storage.is_untouched()) == ("", True)
