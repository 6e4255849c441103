"""`python -m bench.verify`: verify_assets over a library on disk, beside writers: its time, its memory, its findings.

Rows are inserted in bulk and files are hard links to a few tiny ones, so that a million objects are made in a minute.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

LINKS = 30_000  # of one file; ext4 allows 65,000
DATA = b"tiny"


def main() -> int:
    """Make a library, verify it in a process of its own beside writers, print a line."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder) as folder:
        os.environ |= {"NODETOOL_CONFIG_DIR": folder, "ENV": "development", "ASSET_STORAGE": "filesystem"}
        os.environ["DJANGO_SETTINGS_MODULE"] = "nodetool_site.settings"
        _fill(Path(folder), options.objects)
        stop = threading.Event()
        written = [0] * options.writers
        writers = [threading.Thread(target=_write, args=(stop, written, n)) for n in range(options.writers)]
        for writer in writers:
            writer.start()
        seconds, peak, report = _verify()
        stop.set()
        for writer in writers:
            writer.join()
    print(
        f"{report['objects']} objects, {options.writers} writers ({sum(written)} uploads meanwhile): {seconds:.1f} s, "
        f"peak {peak / 1024:.0f} MB, {report['status']}, {report['total']} findings"
    )
    return int(report["total"] > 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.verify", description=__doc__)
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--folder", help="where the data goes; default: the system's folder for temporary files")
    return parser.parse_args()


def _fill(folder: Path, count: int) -> None:
    import django

    django.setup()
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.utils import timezone

    from assets.ids import new_id
    from assets.models import StoredObject
    from storagecache.keys import new_object_key

    call_command("migrate", verbosity=0)
    User.objects.create_user("owner")
    now, digest, source = timezone.now(), hashlib.sha256(DATA).hexdigest(), folder / "source"
    for number in range(256):
        (folder / "assets" / f"{number:02x}").mkdir(parents=True)
    for start in range(0, count, LINKS):
        source = folder / f"source-{start}"
        source.write_bytes(DATA)
        ids = [new_id() for _ in range(min(LINKS, count - start))]
        rows = [
            StoredObject(
                id=i, storage="assets", bucket="assets", key=new_object_key(i, "bin"), size=len(DATA), sha256=digest,
                content_type="application/octet-stream", state="ready", state_changed_at=now, referenced_at=now,
                created_at=now,
            )
            for i in ids
        ]  # fmt: skip
        StoredObject.objects.bulk_create(rows, 1000)
        for row in rows:
            os.link(source, folder / "assets" / row.key)


def _write(stop: threading.Event, written: list[int], number: int) -> None:
    from django.contrib.auth.models import User
    from django.db import connection

    from assets.services import create_asset, delete_assets

    owner = User.objects.get()
    while not stop.is_set():
        asset = create_asset(owner=owner, name="a", content=io.BytesIO(b"%d %d" % (number, written[number])))
        if written[number] % 2:
            delete_assets([asset.pk])
        written[number] += 1
    connection.close()


def _verify() -> tuple[float, int, dict[str, object]]:
    """Run the command; give seconds, peak memory in KB and its report."""
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "manage.py", "verify_assets", "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    report = json.loads(process.stdout.read())
    usage = os.wait4(process.pid, 0)[2]
    return time.monotonic() - started, usage.ru_maxrss, report


if __name__ == "__main__":
    raise SystemExit(main())
