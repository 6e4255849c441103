"""S3: whether it is used, and its buckets. What is tried in a bucket is in `bucket`, which imports boto3."""

from __future__ import annotations

from collections.abc import Iterator

from storagecache import config
from storagecache.doctor.registry import Outcome, ok, part
from storagecache.environment import Environment


@part("s3", seconds=60)
def try_s3(environment: Environment) -> Iterator[Outcome]:
    """Try the asset bucket and, where it has one, the temp bucket."""
    if environment.storage_kind != "s3":
        yield ok("S3 is used", f"no: the storage is {environment.storage_kind}")
        return
    from storagecache.doctor.bucket import BucketTrial  # boto3 takes 97 MB

    seen: set[str] = set()
    for alias in ("assets", "temp"):
        options = config.s3_storage(environment, alias)["OPTIONS"]
        if options["bucket"] not in seen:
            seen.add(options["bucket"])
            yield from BucketTrial(environment, alias, options).run()
