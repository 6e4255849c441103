"""`python -m bench.verify`: verify_assets over a library on disk, beside writers: its time, its memory, its findings.

Rows are inserted in bulk and files are hard links to a few tiny ones, so that a million objects are made in a minute.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from bench.commands import run_command

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
        if options.kill:
            _kill_in_the_middle()
        run = run_command("verify_assets")
        report = run.report
        stop.set()
        for writer in writers:
            writer.join()
    print(
        f"{report['objects']} objects, {options.writers} writers ({sum(written)} uploads meanwhile): {run.seconds:.1f} s, "
        f"{run.processor:.1f} s of processor, peak {run.peak / 1024:.0f} MB, {report['status']}, {report['total']} findings"
        + (", resumed" if report["resumed"] else "")
    )
    return int(report["total"] > 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.verify", description=__doc__)
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--kill", action="store_true", help="kill a first run behind its first step; the next resumes")
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


def _kill_in_the_middle() -> None:
    """Start the command and kill it as soon as it has recorded how far it came."""
    from django.db import connection

    from assets.models import IntegrityRun

    process = subprocess.Popen(
        [sys.executable, "manage.py", "verify_assets"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while not IntegrityRun.objects.exclude(after="").exists() and process.poll() is None:
        connection.close()
        time.sleep(0.05)
    process.kill()
    process.wait()
    print(f"killed behind {IntegrityRun.objects.get().objects_seen} objects", flush=True)
    connection.close()


if __name__ == "__main__":
    raise SystemExit(main())
