"""What becomes of transfers when the service is told to stop, and of the data behind it."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.server.processes import alive, answers, descendants, until
from tests.server.service import Service, serving
from tests.server.wire import CutError, Wire, request

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="watches the processes through /proc")

BODY = b"0123456789abcdef" * (1 << 16)  # 1 MiB
STOP_WITHIN = 15  # seconds; the promise is 5, and a loaded machine may be slower
RESTART_WITHIN = 15  # seconds; the promise is 3


def begun_upload(service: Service, key: str) -> Wire:
    """Send the first half of an upload, and see that it has arrived."""
    wire = Wire(service.port)
    wire.send(request("PUT", f"/storage/assets/{key}", f"Content-Length: {len(BODY)}") + BODY[: len(BODY) // 2])
    return wire


def told_to_stop(service: Service) -> None:
    """Send SIGTERM, and wait until no new connection is taken: from then on only what is in flight goes on."""
    members = descendants(service.process.pid)
    assert members
    service.process.send_signal(signal.SIGTERM)
    until(lambda: not answers(service.port))


def test_upload_in_flight_at_sigterm_is_finished(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        wire = begun_upload(service, "finished.bin")
        until(lambda: _is_being_read(service))
        service.process.send_signal(signal.SIGTERM)
        wire.send(BODY[len(BODY) // 2 :])
        assert wire.answer().status == 201
        wire.close()
        assert service.process.wait(STOP_WITHIN) == 0
    with serving(tmp_path) as service:
        assert service.ask("GET", "/storage/assets/finished.bin").body == BODY


def test_upload_that_stalls_at_sigterm_leaves_nothing_and_holds_nobody_up(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        service.ask("PUT", "/storage/assets/there.bin", body=b"older")
        wires = [begun_upload(service, "stalled.bin"), begun_upload(service, "there.bin")]
        until(lambda: _is_being_read(service))
        members = descendants(service.process.pid)
        told_to_stop(service)
        assert service.process.wait(STOP_WITHIN) == 0
        assert not any(map(alive, members))
        for wire in wires:
            with pytest.raises((CutError, OSError)):
                wire.answer()
            wire.close()
    with serving(tmp_path) as service:
        assert service.ask("GET", "/storage/assets/stalled.bin").status == 404
        assert service.ask("GET", "/storage/assets/there.bin").body == b"older"
        service.manage("purge_temp", "--older-than", "0s")
        found = json.loads(service.manage("verify_assets", "--deep", "--json"))
        assert found["status"] == "clean"


def test_download_in_flight_at_sigterm_is_whole_or_cut_never_short(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        service.ask("PUT", "/storage/assets/down.bin", body=BODY * 16)
        wire = Wire(service.port, receive_buffer=1 << 14)
        wire.send(request("GET", "/storage/assets/down.bin"))
        stopping = threading.Thread(target=service.process.send_signal, args=(signal.SIGTERM,))
        stopping.start()
        assert wire.answer().body == BODY * 16  # raises CutError when it was cut
        stopping.join()
        wire.close()
        assert service.process.wait(STOP_WITHIN) == 0


def test_restart_serves_again_soon_with_what_was_acknowledged(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        assert service.ask("PUT", "/storage/assets/kept.bin", body=BODY).status == 201
        started = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(STOP_WITHIN) == 0
    with serving(tmp_path) as service:
        assert service.ask("GET", "/storage/assets/kept.bin").body == BODY
        assert time.monotonic() - started < STOP_WITHIN + RESTART_WITHIN


def _is_being_read(service: Service) -> bool:
    """Tell whether an upload is staged: a file without a name that is open for writing and holds bytes."""
    for member in descendants(service.process.pid):
        for link in Path(f"/proc/{member}/fd").glob("*"):
            try:
                target = str(link.readlink())
                if str(service.folder) in target and "deleted" in target and link.stat().st_size:
                    return True
            except OSError:
                continue
    return False
