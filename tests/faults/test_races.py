"""Readers beside writers on the running service: never a mixed body, always the ETag that fits; one winner a round."""

from __future__ import annotations

import json
import os
import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from tests.faults.backends import backend_variables
from tests.faults.stand import Stand, digest_of
from tests.server.wire import Wire, ask, request

pytestmark = [pytest.mark.faults, pytest.mark.timeout(7200)]

NIGHTLY = os.environ.get("NIGHTLY") == "1"
REPLACEMENTS = int(os.environ.get("FAULT_REPLACEMENTS", "1000" if NIGHTLY else "12"))
READS_EACH = 100  # for each replacement
READERS = 8
MEGABYTE = 1 << 20
RANGE = 256 << 10  # bytes of a read of a part
TARGET = "/storage/assets/k"


@dataclass(slots=True)
class Versions:
    """Bodies of 1 to 8 MB, slices of one buffer of which no two places are alike; known by their ETag."""

    buffer: bytes = field(default_factory=lambda: random.Random(1).randbytes(12 * MEGABYTE))
    known: dict[str, memoryview] = field(default_factory=dict)

    def make(self, number: int) -> tuple[memoryview, str]:
        """Make the body of a number, and let readers know it before it is written."""
        size = random.Random(number).randrange(MEGABYTE, 8 * MEGABYTE + 1)
        start = 4099 * number % (4 * MEGABYTE)
        body = memoryview(self.buffer)[start : start + size]
        etag = f'"{digest_of(body)}"'
        self.known[etag] = body
        return body, etag


@dataclass(slots=True)
class Race:
    """The readers of one key, and how many reads there were; a replacement waits for its share of them."""

    port: int
    versions: Versions
    reads: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    turn: threading.Condition = field(default_factory=threading.Condition)

    def read(self, seed: int) -> None:
        """Read whole bodies and parts until there were enough, and hold each against its ETag."""
        chance, wire, buffer = random.Random(seed), Wire(self.port), bytearray(8 * MEGABYTE)
        while self._next():
            kind, first = chance.choice(("whole", "part")), chance.randrange(MEGABYTE - RANGE)
            headers = () if kind == "whole" else (f"Range: bytes={first}-{first + RANGE - 1}",)
            wire.send(request("GET", TARGET, *headers))
            status, answer = wire.head_of_answer()
            length = int(answer["content-length"])
            with memoryview(buffer) as view:
                wire.fill(view[:length])
                body = self.versions.known[answer["etag"]]
                assert status == (200 if kind == "whole" else 206)
                assert view[:length] == (body if kind == "whole" else body[first : first + RANGE]), "a mixed body"
            self.kinds[kind] += 1
        wire.close()

    def _next(self) -> bool:
        with self.turn:
            self.reads += 1
            self.turn.notify_all()
            return self.reads <= READS_EACH * REPLACEMENTS

    def wait_for(self, reads: int) -> None:
        """Wait until there were so many reads."""
        with self.turn:
            assert self.turn.wait_for(lambda: self.reads >= reads, timeout=600)


@pytest.fixture(params=["sqlite", "s3"])
def stand(request: pytest.FixtureRequest, stands: Callable[..., Stand]) -> Stand:
    """Give a service; S3 in its small size only."""
    if request.param == "s3" and NIGHTLY:
        pytest.skip("the full size is for the disk: SeaweedFS would be measured, not we")
    return stands(**backend_variables(request.param, request))


def test_reads_beside_replacements_are_never_mixed(stand: Stand) -> None:
    versions, port = Versions(), stand.service.port
    body, _ = versions.make(0)
    made = ask(port, "PUT", TARGET, body=bytes(body))
    content = f"/api/assets/{json.loads(made.body)['id']}/content"
    race = Race(port, versions)
    with ThreadPoolExecutor(READERS) as pool:
        readers = [pool.submit(race.read, seed) for seed in range(READERS)]
        for number in range(1, REPLACEMENTS + 1):
            race.wait_for(READS_EACH * (number - 1))
            body, etag = versions.make(number)
            target = TARGET if number % 2 else content
            while (answer := ask(port, "PUT", target, body=bytes(body))).status == 503:  # S3 is slow: nothing changed
                assert answer.headers["retry-after"]
            assert answer.status == 200, answer
            assert ask(port, "HEAD", TARGET).etag == etag
        for reader in readers:
            reader.result()
    assert race.kinds.total() == READS_EACH * REPLACEMENTS
    print(f"\n{REPLACEMENTS} replacements, reads: {dict(race.kinds)}, mixed: 0")  # noqa: T201


def test_writers_with_if_match_have_one_winner_a_round(stands: Callable[..., Stand]) -> None:
    writers, rounds = 50, 20
    port = stands().service.port
    etag = ask(port, "PUT", TARGET, body=b"start").etag
    barrier = threading.Barrier(writers)

    def write(number: int, round_: int, etag: str) -> tuple[int, bytes]:
        body = b"%d %d" % (round_, number)
        barrier.wait(60)
        return ask(port, "PUT", TARGET, f"If-Match: {etag}", body=body).status, body

    with ThreadPoolExecutor(writers) as pool:
        for round_ in range(rounds):
            answers = [future.result() for future in [pool.submit(write, n, round_, etag) for n in range(writers)]]
            assert Counter(status for status, _ in answers) == {200: 1, 412: writers - 1}
            (winner,) = [body for status, body in answers if status == 200]
            current = ask(port, "GET", TARGET)
            assert current.body == winner
            assert current.etag == f'"{digest_of(winner)}"'
            etag = current.etag
