"""A real service under faults: driven over HTTP, remembered write by write, judged behind each fault.

The ledger holds what was acknowledged. A write without an answer may have happened or not, wholly: which of both, the
first look behind it tells, and from then on it is held to that.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.judge import Judge
from tests.faults.steps import MARK, Steps
from tests.faults.zygote import Zygote
from tests.server.processes import until, variables
from tests.server.service import Service, serving
from tests.server.wire import Answer, CutError

RECOVERY = 30.0  # seconds; a generous bound for a loaded machine: what it took is measured, and told
SAMPLE = 12  # keys read back behind each fault; the digests of all are compared with the catalog's
KEPT = 24  # keys


def body_of(name: str, size: int) -> bytes:
    """Make bytes that no other name has."""
    return random.Random(name).randbytes(size)


def digest_of(body: bytes | memoryview) -> str:
    """Give the hex sha256."""
    return hashlib.sha256(body).hexdigest()


@dataclass(slots=True)
class Stand:
    """One service on backends of one kind."""

    folder: Path
    extra: Mapping[str, str]
    steps: Steps
    ledger: dict[str, bytes] = field(default_factory=dict)  # by key, in the order of the writes
    recoveries: list[float] = field(default_factory=list)  # seconds until the service was itself again
    _service: Service | None = None
    _judge: Judge | None = None
    _zygote: Zygote | None = None
    _running: ExitStack = field(default_factory=ExitStack)

    # --- the service --------------------------------------------------------------------------

    @property
    def service(self) -> Service:
        """The service that runs now."""
        assert self._service is not None
        return self._service

    @property
    def judge(self) -> Judge:
        """The judge of its catalog and buckets."""
        if self._judge is None:
            self._judge = Judge(self._variables())
        return self._judge

    def start(self) -> None:
        """Start it, on the data that it left."""
        self._running.close()
        extra = {**self.extra, **self.steps.variables()}
        self._service = self._running.enter_context(serving(self.folder, **extra))

    def stop(self) -> None:
        """End everything."""
        self._running.close()
        for process in (self._judge, self._zygote):
            if process is not None:
                process.close()

    def recover(self) -> None:
        """See that the service is itself again by itself, or by a start when all of it died."""
        began = time.monotonic()
        while not self._writes_and_reads():
            assert time.monotonic() - began < RECOVERY, f"not itself again: {self.log()}"
            if self.service.process.poll() is not None:
                self.start()
            time.sleep(0.02)  # a poll of a process that starts
        self.recoveries.append(time.monotonic() - began)

    def log(self) -> str:
        """Give the end of the service's log."""
        return (self.folder / "log").read_text()[-3000:]

    def command(self, *arguments: str) -> int:
        """Run a management command in a process and a group of its own; gives its exit status."""
        if self._zygote is None:
            self._zygote = Zygote(self._variables() | self.steps.variables())
        return self._zygote.run(*arguments)

    def _variables(self) -> dict[str, str]:
        return variables(self.folder, 1) | dict(self.extra)

    def _writes_and_reads(self) -> bool:
        body = os.urandom(16)
        with contextlib.suppress(OSError, CutError):
            if self.service.ask("PUT", "/storage/assets/probe", body=body).status in (200, 201):
                self.ledger["probe"] = body
                return self.service.ask("GET", "/storage/assets/probe").body == body
        return False

    # --- what clients do ----------------------------------------------------------------------

    def send(self, method: str, target: str, *headers: str, body: bytes | None = None) -> Answer | None:
        """Make one request whose steps count; None when the service died over it."""
        try:
            return self.service.ask(method, target, MARK, *headers, body=body)
        except (OSError, CutError):
            return None

    def put(self, key: str, body: bytes) -> Answer | None:
        """Create or replace, and remember what it came to."""
        old = self.ledger.pop(key, None)
        answer = self.send("PUT", f"/storage/assets/{key}", body=body)
        return self.note(key, old, body, answer)

    def place(self, key: str, body: bytes) -> None:
        """Put until it is acknowledged: a machine under load may make S3 too slow for a try."""
        for _ in range(20):
            answer = self.put(key, body)
            if answer is not None and answer.status in (200, 201):
                return
        raise AssertionError(f"{key} is refused again and again: {answer}")

    def delete(self, key: str) -> Answer | None:
        """Delete for good, and remember what it came to."""
        old = self.ledger.pop(key)
        return self.note(key, old, None, self.send("DELETE", f"/storage/assets/{key}"))

    def post(self, name: str, body: bytes) -> Answer | None:
        """Post a form of the API; its key is the service's choice, so one without an answer is found by its name."""
        form = _form(name, body)
        answer = self.send("POST", "/api/assets", "Content-Type: multipart/form-data; boundary=b", body=form)
        if answer is not None and answer.status == 200:
            self.ledger[json.loads(answer.body)["key"]] = body
        else:
            found = {key: digest for key, (named, digest) in self.judge.ask("assets").items() if named == name}
            assert set(found.values()) <= {digest_of(body)}
            self.ledger |= dict.fromkeys(found, body)
        return answer

    def note(self, key: str, old: bytes | None, new: bytes | None, answer: Answer | None) -> Answer | None:
        """Put into the ledger what a write left: by its answer, else by what is there, which must be one of both."""
        if answer is None:
            self.recover()
            chosen = self._one_of(key, old, new)
        else:
            chosen = new if answer.status < 300 else old
        if chosen is not None:
            self.ledger[key] = chosen
        return answer

    def _one_of(self, key: str, old: bytes | None, new: bytes | None) -> bytes | None:
        answer = self.service.ask("GET", f"/storage/assets/{key}")
        found = answer.body if answer.status == 200 else None
        assert found in (old, new), f"{key}: {answer.status}, neither the old bytes nor the new ones"
        return found

    # --- looking ------------------------------------------------------------------------------

    def look(self, seed: int = 0) -> None:
        """Read acknowledged writes back, and find catalog and buckets whole, then without a leftover."""
        chosen = list(self.ledger)[-4:] + random.Random(seed).sample(list(self.ledger), min(SAMPLE, len(self.ledger)))
        self.read(chosen)
        self.judge.ask("settle")
        there = {key: digest for key, (_, digest) in self.judge.ask("assets").items()}
        assert there == {key: digest_of(body) for key, body in self.ledger.items()}

    def read(self, keys: list[str]) -> None:
        """Read these keys, whole and with their ETag."""
        with self.service.connected() as wire:
            for key in keys:
                answer = wire.ask("GET", f"/storage/assets/{key}")
                assert answer.status == 200, f"{key}: {answer.status}"
                assert answer.body == self.ledger[key], f"{key} has other bytes"
                assert answer.etag == f'"{digest_of(self.ledger[key])}"'

    def read_all(self) -> None:
        """Read everything that was ever acknowledged and not deleted."""
        self.read(list(self.ledger))

    def trim(self) -> None:
        """Delete the oldest keys beyond what is kept."""
        for key in list(self.ledger)[:-KEPT]:
            answer = self.service.ask("DELETE", f"/storage/assets/{key}")
            assert answer.status == 204, answer
            del self.ledger[key]

    def await_previews(self) -> None:
        """Wait until nothing is to be looked into."""
        self.judge.ask("lapse_leases")
        until(lambda: not self.judge.ask("previews_wanted"))


@contextmanager
def standing(folder: Path, extra: Mapping[str, str]) -> Iterator[Stand]:
    """Run a service under faults; all of it ends with the block."""
    folder.mkdir(parents=True, exist_ok=True)
    stand = Stand(folder, {"REPAIR_MAX_PERCENT": "50", **extra}, Steps(folder / "steps"))
    try:
        stand.start()
        yield stand
    finally:
        stand.stop()


def _form(name: str, body: bytes) -> bytes:
    """Write a multipart form of one file."""
    fields = json.dumps({"name": name, "content_type": "application/octet-stream"})
    head = (
        f'--b\r\nContent-Disposition: form-data; name="json"\r\n\r\n{fields}\r\n'
        f'--b\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return head.encode() + body + b"\r\n--b--\r\n"
