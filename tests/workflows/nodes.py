"""Nodes for the tests of jobs: imported by threads, by subprocesses and inside containers. Standard library only."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def copy_inputs(request: Any, job: Any) -> Any:
    """Leave each input, upside down, and tell what was seen."""
    job.log("copying")
    for entry in job.inputs:
        data = job.asset_path(entry["id"]).read_bytes()
        (job.outputs / f"copy-{entry['name']}").write_bytes(data[::-1])
    return {"request": request, "inputs": [entry["path"] for entry in job.inputs]}


def say(request: Any, job: Any) -> str:
    """Say something."""
    job.log(request)
    return str(request)


def fail(request: Any, job: Any) -> None:
    """Leave a file and fail."""
    (job.outputs / "half.txt").write_text("half")
    raise RuntimeError("the node broke")


def look_around(request: Any, job: Any) -> Any:
    """Tell the variables, the user and what can be listed."""
    names = ["/assets", "/inputs", "/workspace", "/scratch"]
    seen = {name: sorted(os.listdir(name)) for name in names if os.path.isdir(name)}
    return {"variables": dict(os.environ), "uid": os.getuid(), "seen": seen}


def spin(request: Any, job: Any) -> None:
    """Run until it is ended; tell the process id and that of a grandchild that has left the group."""
    forker = "import os, time\nos.setsid()\nif os.fork(): os._exit(0)\nprint(os.getpid(), flush=True)\ntime.sleep(600)"
    if request == "family":
        child = subprocess.Popen([sys.executable, "-c", forker], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        job.log(json.dumps([os.getpid(), int(child.stdout.readline())]))
    else:
        job.log(json.dumps([os.getpid()]))
    signal.signal(signal.SIGTERM, signal.SIG_IGN) if request == "family" else None
    while not job.is_cancelled():
        time.sleep(0.01)


def read_secret(request: Any, job: Any) -> Any:
    """Tell a secret, aloud and by its digest's length."""
    path = os.environ.get("PASSWORD_FILE")
    value = Path(path).read_text() if path else os.environ["PASSWORD"]
    job.log(f"it is {value}!")
    return len(value)


def tell_secret(request: Any, job: Any) -> Any:
    """Tell the length of a secret by the job's own way, and each of its lines aloud."""
    value = job.secret("PASSWORD")
    for line in value.splitlines():
        job.log(f"<{line}>")
    return len(value)


def add_up(request: Any, job: Any) -> int:
    """Add the numbers in the inputs."""
    return sum(int(job.asset_path(entry["id"]).read_bytes()) for entry in job.inputs)


def tell_variables(request: Any, job: Any) -> Any:
    """Tell the variables that the job was given by hand."""
    return job.variables


def use_context(request: Any, job: Any) -> Any:
    """Read the input and leave an output through a ProcessingContext, by the manifest alone."""
    import django
    from django.apps import apps

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "nodetool_site.settings")
    if not apps.ready:
        django.setup()
    from assets.workflows import ProcessingContext

    context = ProcessingContext.from_request(job.context)
    source = context.find_asset_by_filename("in.txt")
    data = context.asset_to_bytes(source.pk.hex)
    context.create_asset("a/ü.txt", "text/plain", data.upper())
    bound = [context.user_id, context.workflow_id, context.job_id, context.node_id]
    return {"bound": bound, "same": context.asset_path(source).read_bytes() == data}


def return_much(request: Any, job: Any) -> str:
    """Return more than a result may have."""
    return "x" * (1 << 20)


def try_to_break_out(request: Any, job: Any) -> Any:
    """Try what a container forbids; tell what succeeded."""
    import socket

    def attempt(action: Any) -> bool:
        try:
            action()
        except OSError:
            return False
        return True

    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    return {
        "root": attempt(lambda: Path("/new").write_text("x")),
        "assets": attempt(lambda: Path("/assets/new").write_text("x")),
        "manifest": attempt(lambda: (job.workspace / ".assets/manifest.json").write_text("[]")),
        "control": attempt(lambda: (job.workspace / ".assets").rename(job.workspace / "other")),
        "network": attempt(lambda: socket.create_connection(("192.0.2.1", 80), timeout=1)),
        "interfaces": sorted(os.listdir("/sys/class/net")) if os.path.isdir("/sys/class/net") else [],
        "capabilities": status["CapEff"].strip(),
        "no_new_privileges": status["NoNewPrivs"].strip(),
        "scratch": attempt(lambda: (job.scratch / "x").write_text("x")),
        "tmp": attempt(lambda: Path("/tmp/x").write_text("x")),
    }


def eat_memory(request: Any, job: Any) -> None:
    """Take a gigabyte."""
    data = []
    for _ in range(1024):
        data.append(bytearray(os.urandom(1 << 10)) * 1024)
