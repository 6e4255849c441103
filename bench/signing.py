"""`python -m bench.signing`: how many URLs one core signs in a second, by our own signer and for S3. No server runs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from assets.models import Asset

SECONDS: Final = 2.0
ASSETS: Final = 1000
S3_OPTIONS: Final = {
    "bucket": "assets",
    "endpoint_url": "https://s3.example.org",
    "access_key": "AKIAIOSFODNN7EXAMPLE",
    "secret_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
}


def main() -> None:
    """Print a Markdown table."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "nodetool_site.settings")
    import django

    django.setup()
    disk, s3, botocore = _makers()
    print("| benchmark | unit | one core | target |\n|---|---|---|---|")
    for name, target, make in (
        ("sign-disk", 30_000, disk),
        ("sign-s3", 10_000, s3),
        ("botocore, for scale", 0, botocore),
    ):
        print(f"| {name} | URLs/s | {_rate(make):,.0f} | {target or '-'} |", flush=True)


def _makers() -> tuple[Callable[[], None], Callable[[], None], Callable[[], None]]:
    """Give what makes a thousand URLs each: ours, S3's by our signer, S3's by botocore."""
    from dataclasses import replace

    from assets.links import current_links
    from storagecache.storages.s3 import S3ObjectStorage

    assets = [_asset(number) for number in range(ASSETS)]
    storage = S3ObjectStorage(**S3_OPTIONS)  # type: ignore[arg-type]
    signers = {(alias, "assets"): storage for alias in ("assets", "temp")}

    def disk() -> None:
        links = replace(current_links(), signers={})
        for asset in assets:
            links.url(asset)

    def s3() -> None:
        links = replace(current_links(), signers=signers)
        for asset in assets:
            links.url(asset)

    def botocore() -> None:
        for asset in assets[:100]:
            for _ in range(ASSETS // 100):
                storage.client.generate_presigned_url("get_object", {"Bucket": "assets", "Key": asset.object.key})

    return disk, s3, botocore


def _asset(number: int) -> Asset:
    from assets.ids import new_id
    from assets.models import Asset, StoredObject
    from storagecache.keys import new_object_key

    now, object_id = datetime.now(UTC), new_id()
    stored = StoredObject(
        id=object_id, storage="assets", bucket="assets", key=new_object_key(object_id, "png"), size=number,
        sha256="0" * 64, content_type="image/png", created_at=now,
    )  # fmt: skip
    return Asset(
        owner_id=1, bucket="assets", key=f"{object_id.hex}.png", object=stored, name=f"picture {number}.png",
        content_type="image/png", content_changed_at=now, created_at=now,
    )  # fmt: skip


def _rate(make: Callable[[], None]) -> float:
    """Give URLs per second of this thread's processor time: other work on the machine does not count."""
    make()
    rounds, begin = 0, time.thread_time()
    while time.thread_time() - begin < SECONDS:
        make()
        rounds += 1
    return rounds * ASSETS / (time.thread_time() - begin)


if __name__ == "__main__":
    main()
