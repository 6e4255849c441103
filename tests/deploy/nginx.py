"""The documented nginx, run with other addresses and folders."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.servers import require

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


def written(folder: Path, *, port: int, backends: Sequence[int], assets: Path) -> list[str]:
    """Write deploy/nginx.conf for this machine; gives the command that runs it in the foreground."""
    folder.mkdir(parents=True, exist_ok=True)
    text = (DEPLOY / "nginx.conf").read_text()
    line = re.search(r"^\s*server web:7777 (.*)$", text, re.MULTILINE)
    assert line
    servers = "\n".join(f"        server 127.0.0.1:{backend} {line[1]}" for backend in backends)
    changes = {
        line[0]: servers,
        "listen 8080;": f"listen 127.0.0.1:{port};",
        "/run/nginx.pid": str(folder / "nginx.pid"),
        "/var/cache/nginx": str(folder),
        "/dev/stdout": str(folder / "access.log"),
        "alias /assets/": f"alias {assets}/",
    }
    for before, after in changes.items():
        assert before in text
        text = text.replace(before, after)
    (folder / "nginx.conf").write_text(text)
    shutil.copy(DEPLOY / "objects.conf", folder)
    program = require(shutil.which("nginx"), "the Debian package nginx")
    user = "user root; " if os.geteuid() == 0 else ""
    return [program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", f"{user}daemon off;"]


def checked(command: list[str]) -> str:
    """Let nginx judge its configuration; gives what it says of it.

    Raises:
        CalledProcessError: it refuses.
    """
    return subprocess.run([*command, "-t"], check=True, capture_output=True, text=True).stderr
