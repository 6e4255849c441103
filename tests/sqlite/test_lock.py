"""The lock of writers: one at a time among threads and processes, free as soon as its holder is gone."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from storagecache.errors import BackendUnavailableError
from storagecache.sqlite.lock import WriteLock

HOLDER = """
import sys
from storagecache.sqlite.lock import WriteLock
with WriteLock(sys.argv[1]).hold():
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(path: Path) -> subprocess.Popen[bytes]:
    """Start a process that holds the lock until it is told otherwise."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


def test_hold_inside_hold_is_allowed(tmp_path: Path) -> None:
    lock = WriteLock(str(tmp_path / "lock"))
    with lock.hold(), lock.hold(wait=0):
        pass
    with lock.hold(wait=0):
        pass


def test_hold_after_an_error_is_free_again(tmp_path: Path) -> None:
    lock = WriteLock(str(tmp_path / "lock"))
    with pytest.raises(ZeroDivisionError), lock.hold(), lock.hold():
        1 / 0  # noqa: B018
    with WriteLock(str(tmp_path / "lock")).hold(wait=0):
        pass


def test_hold_in_another_thread_is_refused_in_time(tmp_path: Path) -> None:
    lock = WriteLock(str(tmp_path / "lock"))
    refused: list[BackendUnavailableError] = []

    def ask() -> None:
        with pytest.raises(BackendUnavailableError) as caught, lock.hold(wait=0.01):
            pass
        refused.append(caught.value)

    with lock.hold():
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
    assert refused[0].retry_after


def test_hold_in_another_process_is_refused_in_time(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with holder(path) as process:
        with pytest.raises(BackendUnavailableError), WriteLock(str(path)).hold(wait=0.01):
            pass
        process.communicate()
    with WriteLock(str(path)).hold(wait=0):
        pass


def test_hold_by_a_killed_process_is_freed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with holder(path) as process:
        process.kill()
        process.communicate()
    with WriteLock(str(path)).hold(wait=0):
        pass


def test_many_threads_are_in_one_at_a_time(tmp_path: Path) -> None:
    lock, count, overlaps = WriteLock(str(tmp_path / "lock")), 0, 0

    def work() -> None:
        nonlocal count, overlaps
        for _ in range(50):
            with lock.hold():
                count += 1
                overlaps += count != 1
                count -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert overlaps == 0


def test_lock_whose_file_cannot_be_opened_is_an_error_of_ours(tmp_path: Path) -> None:
    lock = WriteLock(str(tmp_path / "missing" / "lock"))
    with pytest.raises(BackendUnavailableError, match="Cannot take the turn to write"), lock.hold():
        raise AssertionError
    (tmp_path / "missing").mkdir()
    with lock.hold():
        pass
