"""`python -m bench.purge`: what `purge_temp` takes to delete expired temp objects: its rate, and its memory.

On disk, and with `--s3` in SeaweedFS beside a bare loop of DeleteObjects calls over as many objects of the same size.
Rows are inserted in bulk with all that an upload leaves (search, quota, usage); the command runs in a process of its
own. A purge of a tenth before tells whether memory grows with the number.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from bench import servers
from bench.commands import run_command

DATA: Final = b"tiny"
PAGE: Final = 1000
WRITERS: Final = 16  # threads that fill a bucket


def main() -> int:
    """Fill, purge, print a line for each round; exit 1 when something stayed."""
    options = _options()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder)))
        os.environ |= {"NODETOOL_CONFIG_DIR": str(folder), "ENV": "development", "ASSET_STORAGE": "filesystem"}
        os.environ["DJANGO_SETTINGS_MODULE"] = "nodetool_site.settings"
        if options.s3:
            (folder / "s3").mkdir()
            os.environ |= stack.enter_context(servers.seaweedfs(folder / "s3"))
        _prepare()
        left = 0
        for count in (options.objects // 10, options.objects):
            _fill(count)
            bare = _bare_loop(count) if options.s3 else 0.0
            left += _round(count, bare)
    return int(left > 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.purge", description=__doc__)
    parser.add_argument("--objects", type=int, default=100_000)
    parser.add_argument("--s3", action="store_true", help="in SeaweedFS instead of on disk")
    parser.add_argument("--folder", help="where the data goes; default: the system's folder for temporary files")
    return parser.parse_args()


def _prepare() -> None:
    import django

    django.setup()
    from django.contrib.auth.models import User
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    User.objects.create_user("owner")


def _fill(count: int) -> None:
    """Make expired temp assets, and everything that belongs to them."""
    from django.contrib.auth.models import User
    from django.core.files.storage import storages

    from assets.services.indexing import rebuild
    from assets.services.quota import recount
    from assets.services.usage_upkeep import recount as recount_usage

    keys = []
    for start in range(0, count, PAGE):
        keys += _insert(min(PAGE, count - start))
    for _ in rebuild():
        pass
    owner = User.objects.get()
    recount(owner.pk)
    recount_usage(owner.pk)
    storage: Any = storages["temp"]
    if "S3_ENDPOINT_URL" in os.environ:
        client = _patient_client()
        _store(keys, lambda key: client.put_object(Bucket=storage.bucket, Key=key, Body=DATA))
        return
    _store(keys, lambda key: storage.save(key, io.BytesIO(DATA)))


def _insert(count: int) -> list[str]:
    from django.contrib.auth.models import User
    from django.core.files.storage import storages
    from django.utils import timezone

    from assets.ids import new_id
    from assets.models import Asset, StoredObject
    from storagecache.keys import new_object_key

    storage: Any = storages["temp"]
    owner, then = User.objects.get(), timezone.now() - timedelta(days=2)
    objects = [
        StoredObject(
            id=object_id, storage="temp", bucket=storage.bucket, size=len(DATA), state="ready", deletes_left=1,
            key=new_object_key(object_id, "bin", prefix=storage.object_prefix), sha256=hashlib.sha256(DATA).hexdigest(),
            content_type="application/octet-stream", state_changed_at=then, referenced_at=then, created_at=then,
        )
        for object_id in (new_id() for _ in range(count))
    ]  # fmt: skip
    StoredObject.objects.bulk_create(objects)
    Asset.objects.bulk_create(_asset(owner.pk, stored, then, new_id()) for stored in objects)
    return [stored.key for stored in objects]


def _asset(owner_id: int, stored: Any, then: Any, asset_id: UUID) -> Any:
    from assets.models import Asset

    return Asset(
        id=asset_id, owner_id=owner_id, bucket="temp", key=asset_id.hex, object=stored, name=f"{asset_id.hex}.bin",
        name_folded=f"{asset_id.hex}.bin", content_type=stored.content_type, size=stored.size, created_at=then,
        updated_at=then, content_changed_at=then, expires_at=then + timedelta(days=1),
    )  # fmt: skip


def _store(keys: list[str], save: Callable[[str], object]) -> None:
    with ThreadPoolExecutor(WRITERS) as threads:
        for _ in threads.map(save, keys):
            pass


def _bare_loop(count: int) -> float:
    """Give the seconds that bare DeleteObjects calls take for as many objects under names of their own."""
    from django.core.files.storage import storages

    storage: Any = storages["temp"]
    bucket = storage.bucket
    client = _patient_client()
    keys = [f"temp/{number % 256:02x}/{number:032x}.bin" for number in range(count)]
    _store(keys, lambda key: client.put_object(Bucket=bucket, Key=key, Body=DATA))
    started = time.monotonic()
    for start in range(0, count, PAGE):
        listed = [{"Key": key} for key in keys[start : start + PAGE]]
        client.delete_objects(Bucket=bucket, Delete={"Objects": listed, "Quiet": True})
    return time.monotonic() - started


def _patient_client() -> Any:
    """Make boto3's client as anybody would, but for a timeout that a busy machine does not meet."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3", endpoint_url=os.environ["S3_ENDPOINT_URL"], region_name="us-east-1",
        aws_access_key_id=os.environ["S3_ACCESS_KEY_ID"], aws_secret_access_key=os.environ["S3_SECRET_ACCESS_KEY"],
        config=Config(max_pool_connections=WRITERS, read_timeout=120),
    )  # fmt: skip


def _round(count: int, bare: float) -> int:
    """Purge in a process of its own and tell; returns how many objects stayed."""
    run = run_command("purge_temp")
    beside = f", bare loop {count / bare:,.0f}/s, ratio {bare / run.seconds:.2f}" if bare else ""
    print(
        f"{run.report['objects']} of {count} objects: {run.seconds:.1f} s, {count / run.seconds:,.0f}/s{beside}, "
        f"{run.processor:.1f} s of processor, peak {run.peak / 1024:.0f} MB, {len(run.report['failures'])} failures",
        flush=True,
    )
    return count - int(run.report["objects"])


if __name__ == "__main__":
    raise SystemExit(main())
