"""The supervisor with real processes: it serves, restarts what dies, and nothing outlives it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from granian import _granian
from granian.server.mp import MPServer

from nodetool_site import supervisor, web
from storagecache.environment import Environment
from tests.server.processes import alive, answers, descendants, free_port, kill, listens, running, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="watches the processes through /proc")

# The real web server beside a worker that only waits: what the worker does is tested elsewhere.
SERVICE = """
import os, sys
from nodetool_site import supervisor
wait = "import sys, time; from nodetool_site.lifeline import die_with; die_with(int(sys.argv[1])); time.sleep(600)"
worker = supervisor.Program("worker", (sys.executable, "-c", wait, str(os.getpid())))
web = supervisor.programs()[0]
supervisor.programs = lambda: (web, worker)
sys.exit(supervisor.guarded(supervisor.serve))
"""


@contextmanager
def service(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    port = free_port()
    with running(folder, port, "-c", SERVICE) as process:
        until(lambda: answers(port))
        yield process, port


def named(processes: list[int], text: str) -> list[int]:
    return [p for p in processes if text in Path(f"/proc/{p}/cmdline").read_bytes().decode()]


def test_supervisor_sigterm_beside_open_connection_ends_all_with_status_0(tmp_path: Path) -> None:
    with service(tmp_path) as (process, port), socket.create_connection(("127.0.0.1", port)) as idle:
        idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        idle.recv(1)
        members = descendants(process.pid)
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
        assert not any(map(alive, members))
        assert not listens(port)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_supervisor_terminal_signal_ends_all(tmp_path: Path, number: signal.Signals) -> None:
    with service(tmp_path) as (process, _):
        members = descendants(process.pid)
        process.send_signal(number)
        assert process.wait(15) == 0
        assert not any(map(alive, members))


def test_supervisor_killed_takes_children_with_it_and_frees_port(tmp_path: Path) -> None:
    with service(tmp_path) as (process, port):
        members = descendants(process.pid)
        assert len(members) == 4  # web, its two processes, worker
        process.kill()
        until(lambda: not any(map(alive, members)))
        assert not listens(port)


def test_web_processes_alone_are_told_how_to_allocate_and_the_environment_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((name, chosen),) = supervisor.WEB_VARIABLES.items()
    library = Path(_granian.__file__).read_bytes()
    assert name.encode() in library, "granian's allocator has another name now"
    with service(tmp_path) as (process, _):
        told = {p for p in descendants(process.pid) if f"{name}={chosen}".encode() in _environment(p)}
        assert told == set(named(descendants(process.pid), "nodetool_site.web"))
    monkeypatch.setenv(name, "narenas:7")
    kept = tmp_path / "kept"
    code = f"import os; open({str(kept)!r}, 'w').write(os.environ[{name!r}])"
    child = supervisor.Child(supervisor.Program("web", (sys.executable, "-c", code), supervisor.WEB_VARIABLES))
    child.start()
    assert child.process is not None
    assert child.process.wait(15) == 0
    assert kept.read_text() == "narenas:7"


def _environment(process: int) -> list[bytes]:
    return Path(f"/proc/{process}/environ").read_bytes().split(b"\0")


def test_supervisor_children_share_its_process_group(tmp_path: Path) -> None:
    with service(tmp_path) as (process, _):
        groups = {os.getpgid(member) for member in descendants(process.pid)}
        assert groups == {os.getpgid(process.pid)}


def test_supervisor_web_main_killed_serves_again_and_leaves_no_old_process(tmp_path: Path) -> None:
    with service(tmp_path) as (process, port):
        before = named(descendants(process.pid), "nodetool_site.web")
        main = next(p for p in before if descendants(p))
        kill(main)
        until(lambda: not any(map(alive, before)))
        until(lambda: answers(port))


def test_supervisor_worker_killed_is_started_anew(tmp_path: Path) -> None:
    with service(tmp_path) as (process, _):
        (before,) = named(descendants(process.pid), "time.sleep(600)")
        kill(before)
        until(lambda: set(named(descendants(process.pid), "time.sleep(600)")) - {before})


def test_supervisor_web_process_killed_is_replaced(tmp_path: Path) -> None:
    with service(tmp_path) as (process, port):
        main = next(p for p in named(descendants(process.pid), "nodetool_site.web") if descendants(p))
        before = descendants(main)
        kill(before[0])
        until(lambda: len(descendants(main)) == 2 and set(descendants(main)) != set(before))
        until(lambda: answers(port))


def test_supervisor_web_process_killed_again_and_again_leaves_the_others_in_peace(tmp_path: Path) -> None:
    with service(tmp_path) as (process, port):
        main = next(p for p in named(descendants(process.pid), "nodetool_site.web") if descendants(p))
        steady, other = descendants(main)
        for _ in range(4):
            kill(other)
            until(lambda: len(descendants(main)) == 2 and other not in descendants(main))  # noqa: B023
            (other,) = set(descendants(main)) - {steady}
        until(lambda: answers(port))
        assert alive(steady)


def test_supervisor_web_processes_killed_at_once_are_all_replaced(tmp_path: Path) -> None:
    with service(tmp_path) as (process, port):
        main = next(p for p in named(descendants(process.pid), "nodetool_site.web") if descendants(p))
        for _ in range(3):
            before = descendants(main)
            for web_process in before:
                kill(web_process)
            until(lambda: len(set(descendants(main)) - set(before)) == 2)  # noqa: B023
        until(lambda: answers(port))


def test_web_process_whose_end_is_told_twice_is_replaced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    replaced: list[list[int]] = []

    def replace(self: web.WebServer, workers: list[int], *_: object) -> None:
        replaced.append(workers)
        self.respawned_wrks.update(dict.fromkeys(workers, 1.0))

    monkeypatch.setattr(MPServer, "_respawn_workers", replace)
    made = web.server(Environment.current())
    ends = (-signal.SIGKILL, None, 1)
    made.wrks = [SimpleNamespace(inner=SimpleNamespace(exitcode=end)) for end in ends]
    made._respawn_workers([0, 1, 0, 2], None, None)  # 1 lives: it took the place of one whose end is told late
    assert replaced == [[0, 2]]
    assert list(made.respawned_wrks) == [2]  # of this one granian judges how soon it fails again


def test_supervisor_child_killed_more_often_than_it_may_fail_is_started_anew(tmp_path: Path) -> None:
    with service(tmp_path) as (process, _):
        for _ in range(supervisor.MAX_QUICK_FAILURES + 1):
            (before,) = named(descendants(process.pid), "time.sleep(600)")
            kill(before)
            until(lambda: set(named(descendants(process.pid), "time.sleep(600)")) - {before})  # noqa: B023


def test_supervisor_port_in_use_says_so_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with running(tmp_path, port, "-m", "nodetool_site.supervisor") as process:
            _, text = process.communicate(timeout=20)
    assert process.returncode == 1
    assert f"PORT={port}" in text.splitlines()[-1]
    assert "Traceback" not in text


def test_supervisor_foreign_host_names_host(tmp_path: Path) -> None:
    with pytest.raises(supervisor.StartError, match=r"HOST=192\.0\.2\.1"):
        supervisor.check_port("192.0.2.1", free_port())


def test_supervisor_program_that_keeps_failing_ends_with_status_1(tmp_path: Path) -> None:
    code = (
        "import sys; from nodetool_site import supervisor as s;"
        "p = s.Program('web', (sys.executable, '-c', 'raise SystemExit(3)'));"
        "sys.exit(s.guarded(s.Supervisor((p,)).run))"
    )
    with running(tmp_path, free_port(), "-c", code) as process:
        _, text = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "web ended 5 times right after its start" in text
    assert "Traceback" not in text


def test_prepare_that_fails_serves_nothing_and_says_so() -> None:
    program = supervisor.Program("prepare", (sys.executable, "-c", "raise SystemExit(2)"))
    with pytest.raises(supervisor.StartError, match="prepare failed"):
        supervisor.prepare(program)


def test_supervisor_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
    code = (
        "import sys; from nodetool_site import supervisor as s;"
        f"p = s.Program('deaf', (sys.executable, '-c', {deaf!r}));"
        "s.Supervisor((p,), stop_seconds=0.2).run()"
    )
    with running(tmp_path, free_port(), "-c", code) as process:
        until(lambda: any(_ignores_sigterm(member) for member in descendants(process.pid)))
        members = descendants(process.pid)
        process.terminate()
        assert process.wait(15) == 0
        assert not any(map(alive, members))


def _ignores_sigterm(process: int) -> bool:
    status = Path(f"/proc/{process}/status").read_text()
    mask = next(line.split()[1] for line in status.splitlines() if line.startswith("SigIgn"))
    return bool(int(mask, 16) >> (signal.SIGTERM - 1) & 1)


def test_open_files_limit_low_soft_limit_rises_to_hard(tmp_path: Path) -> None:
    code = (
        "import resource as r; from nodetool_site import supervisor as s;"
        "_, hard = r.getrlimit(r.RLIMIT_NOFILE); r.setrlimit(r.RLIMIT_NOFILE, (256, hard));"
        "s.raise_open_files_limit(); assert r.getrlimit(r.RLIMIT_NOFILE) == (hard, hard)"
    )
    with running(tmp_path, free_port(), "-c", code) as process:
        assert process.wait(20) == 0


@pytest.mark.parametrize(("failures", "seconds"), [(1, 0.2), (2, 0.4), (4, 1.6), (9, 5.0)])
def test_restart_delay_of_failures_doubles_up_to_the_longest(failures: int, seconds: float) -> None:
    assert supervisor.restart_delay(failures) == pytest.approx(seconds)


@pytest.mark.parametrize(("kind", "count"), [("memory", 1), ("filesystem", 2)])
def test_web_processes_with_memory_storage_is_one(tmp_path: Path, kind: str, count: int) -> None:
    process = {"ASSET_STORAGE": kind, "NODETOOL_CONFIG_DIR": str(tmp_path)}
    assert web.processes(Environment.load(process, under_pytest=False)) == count
