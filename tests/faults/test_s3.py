"""The running service before an S3 server that fails, throttles, stalls, resets or is cut in the middle.

A refused write changes nothing and is answered in good time; a read is whole or visibly cut; when S3 is itself again
so is the service, and one purge and one comparison find nothing left.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import pytest

from tests.faults.backends import s3_variables
from tests.faults.proxy import Fault, FaultProxy, before
from tests.faults.stand import Stand, body_of, standing
from tests.server.wire import Answer, CutError
from tests.servers import SeaweedServer

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

NIGHTLY = os.environ.get("NIGHTLY") == "1"
SOME = [(Fault.ERROR, 0), (Fault.RESET, 1), (Fault.CUT_REQUEST, 2), (Fault.LOST_ANSWER, 0), (Fault.LOST_ANSWER, 4)]
AT_STEPS = [(fault, step) for fault in Fault for step in range(6)] if NIGHTLY else SOME
PARTS = 17 << 20  # three parts
SIZES = {"one-call": 70_000, "parts": PARTS}
PATIENCE = 20  # seconds; a generous bound of what is refused within 6


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory: pytest.TempPathFactory, seaweedfs: SeaweedServer) -> Iterator[tuple[Stand, FaultProxy]]:
    """Give a service before a proxy before S3."""
    with before(seaweedfs) as proxy:
        extra = s3_variables(seaweedfs, endpoint_url=proxy.url)
        with standing(tmp_path_factory.mktemp("s3") / "service", extra) as stand:
            stand.place("k", body_of("first", 70_000))
            yield stand, proxy


def _in_time(call: Callable[[], Answer | None]) -> Answer:
    began = time.monotonic()
    answer = call()
    assert time.monotonic() - began < PATIENCE
    assert answer is not None, "the service died"
    return answer


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name.lower())
def test_write_over_a_failing_s3_changes_nothing_or_all(
    spoiled: tuple[Stand, FaultProxy], fault: Fault, size: int
) -> None:
    stand, proxy = spoiled
    for key in ("k", f"new-{fault.name}-{size}"):
        proxy.spoil(fault)
        answer = _in_time(lambda: stand.put(key, body_of(f"{fault} {size} {key}", size)))  # noqa: B023
        proxy.mend()
        if fault is not Fault.CUT_ANSWER or answer.status == 503:  # cut behind its status, an answer still says it
            assert answer.status == 503, answer.body
            assert "retry-after" in answer.headers
        else:
            assert answer.status in (200, 201), answer.body
        stand.recover()
        stand.read(list(stand.ledger)[-3:])
    stand.look()


@pytest.mark.parametrize(("fault", "step"), AT_STEPS, ids=lambda value: getattr(value, "name", value))
def test_write_in_parts_survives_a_fault_at_any_call(
    spoiled: tuple[Stand, FaultProxy], fault: Fault, step: int
) -> None:
    stand, proxy = spoiled
    proxy.spoil(fault, first=step, times=1)
    answer = _in_time(lambda: stand.put("parts", body_of(f"{fault} {step}", PARTS)))
    proxy.mend()
    assert answer.status in (200, 201, 503), answer.body
    stand.recover()
    if "parts" in stand.ledger:
        stand.read(["parts"])
    stand.look()


@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name.lower())
def test_read_over_a_failing_s3_is_whole_or_visibly_cut(spoiled: tuple[Stand, FaultProxy], fault: Fault) -> None:
    stand, proxy = spoiled
    stand.place("small", body_of(f"{fault} small", 70_000))
    stand.place("large", body_of(f"{fault} large", 2 << 20))
    for key in ("small", "large"):
        proxy.spoil(fault)
        try:
            answer = stand.service.ask("GET", f"/storage/assets/{key}")
        except CutError:
            answer = None  # a client sees that
        proxy.mend()
        if answer is not None and answer.status == 200:
            assert answer.body == stand.ledger[key]
        elif answer is not None:
            assert answer.status == 503, answer
        stand.recover()
        stand.read(["small"])
    stand.look()


@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name.lower())
def test_delete_and_purge_over_a_failing_s3_go_on_when_it_is_back(
    spoiled: tuple[Stand, FaultProxy], fault: Fault
) -> None:
    stand, proxy = spoiled
    stand.place("dying", body_of(f"dying {fault}", 70_000))
    stand.judge.ask("expire")
    proxy.spoil(fault)
    answer = _in_time(lambda: stand.delete("dying"))
    status = stand.command("purge_temp", "--older-than", "0s", "--json")
    proxy.mend()
    assert answer.status == 204
    assert status == 1  # it says that something is left
    stand.recover()
    stand.look()


def test_s3_that_dies_and_comes_back_is_used_again(spoiled: tuple[Stand, FaultProxy], seaweedfs: SeaweedServer) -> None:
    stand, _ = spoiled
    with seaweedfs.server.down():
        answer = _in_time(lambda: stand.put("k", body_of("while it is down", 70_000)))
        assert answer.status == 503
        assert stand.service.ask("GET", "/healthz").status == 200
        assert stand.service.ask("HEAD", "/storage/assets/k").status == 200
    stand.recover()
    stand.look()
