"""What a web process does before its first request."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.server.processes import PROJECT, free_port, variables

ASK = """
import gc, io, json, sys
from nodetool_site import wsgi
wsgi.begin()
left, frozen, loaded = len(gc.get_objects()), gc.get_freeze_count(), set(sys.modules)
wsgi.application({"REQUEST_METHOD": "GET", "PATH_INFO": "/api/assets/packages", "SERVER_NAME": "127.0.0.1",
    "SERVER_PORT": "7777", "REMOTE_ADDR": "127.0.0.1", "wsgi.input": io.BytesIO(), "wsgi.errors": sys.stderr,
    "wsgi.url_scheme": "http"}, lambda status, headers, error=None: None)
late = [name for name in set(sys.modules) - loaded if name.partition(".")[0] in ("assets", "nodetool_site", "ninja")]
json.dump({"left": left, "frozen": frozen, "late": late}, sys.stdout)
"""


def test_first_request_finds_all_loaded_and_nothing_old_to_collect(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ASK]
    told = subprocess.run(
        command, cwd=PROJECT, env=variables(tmp_path, free_port()), check=True, capture_output=True, text=True
    )
    found = json.loads(told.stdout)
    assert found["late"] == []
    assert found["frozen"] > 50_000  # objects that no collection looks at again
    assert found["left"] < 5_000  # that one does
