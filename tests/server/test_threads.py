"""Threads on demand: the latest used is used again, no more than allowed, and none that idles for long."""

from __future__ import annotations

import logging
import threading

import pytest

from nodetool_site.threads import ThreadStack
from tests.server.processes import until


def test_one_after_the_other_uses_one_thread() -> None:
    stack, seen = ThreadStack(8), []
    for number in range(20):
        done = threading.Event()
        stack.run(lambda done=done: (seen.append(threading.get_ident()), done.set()))
        assert done.wait(20)
        until(lambda: len(stack._idle) == 1)
        assert len(seen) == number + 1
    assert len(set(seen)) == stack.count == 1


def test_latest_used_thread_is_used_again() -> None:
    stack, gates = ThreadStack(8), [threading.Event() for _ in range(3)]
    names: dict[int, int] = {}

    def hold(number: int) -> None:
        names[number] = threading.get_ident()
        gates[number].wait(20)

    for number in range(3):
        stack.run(lambda number=number: hold(number))
    until(lambda: len(names) == 3)
    for number in (0, 2, 1):
        gates[number].set()
        until(lambda number=number: len(stack._idle) == (0, 2, 1).index(number) + 1)
    seen = []
    stack.run(lambda: seen.append(threading.get_ident()))
    until(lambda: seen)
    assert seen == [names[1]]


def test_work_beyond_the_most_waits_its_turn() -> None:
    stack, gate, done = ThreadStack(2), threading.Event(), []
    for number in range(10):
        stack.run(lambda number=number: (gate.wait(20), done.append(number)))
    assert stack.count == 2
    gate.set()
    until(lambda: len(done) == 10)
    assert sorted(done) == list(range(10))
    assert stack.count == 2


def test_idle_thread_ends_and_work_finds_a_new_one() -> None:
    stack, seen = ThreadStack(2, idle=0.01), []
    stack.run(lambda: seen.append(1))
    until(lambda: stack.count == 0)
    stack.run(lambda: seen.append(2))
    until(lambda: seen == [1, 2])


def test_many_callers_and_ending_threads_lose_no_work() -> None:
    stack, done = ThreadStack(4, idle=0.0001), []

    def caller() -> None:
        for _ in range(200):
            stack.run(lambda: done.append(1))

    callers = [threading.Thread(target=caller) for _ in range(4)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join()
    until(lambda: len(done) == 800)
    assert stack.count <= 4


@pytest.mark.parametrize("error", [ValueError, SystemExit, BaseException])  # a panic of granian's is the last
def test_failing_work_is_logged_and_ends_no_thread(
    caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    stack, seen = ThreadStack(1), []

    def fail() -> None:
        raise error("broken")

    with caplog.at_level(logging.ERROR):
        stack.run(fail)
        stack.run(lambda: seen.append(1))
        until(lambda: seen)
    assert "broken" in caplog.text


def test_work_for_which_no_thread_may_start_is_done_by_the_caller(caplog: pytest.LogCaptureFixture) -> None:
    stack, seen = ThreadStack(1), []
    size = threading.stack_size(1 << 46)  # bytes, which no machine has
    try:
        for _ in range(3):
            stack.run(lambda: seen.append(threading.get_ident()))
    finally:
        threading.stack_size(size)
    assert seen == [threading.get_ident()] * 3
    assert stack.count == 0
    assert "no thread could be started" in caplog.text
    stack.run(lambda: seen.append(0))
    until(lambda: seen[-1] == 0)
