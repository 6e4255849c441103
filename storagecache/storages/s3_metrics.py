"""What is counted of every call to S3: how long it took with all its tries, how it failed, how often it was retried."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, Final

from storagecache.metrics import S3_ERRORS, S3_RETRIES, S3_SECONDS

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_BEGUN: Final = "nodetool_begun"
_CODE: Final = re.compile(r"[A-Za-z0-9.]{1,60}", re.ASCII)
_EXPECTED: Final = frozenset({"404", "NoSuchKey", "412", "PreconditionFailed", "NoSuchUpload", "InvalidRange", "416"})


def watch(client: S3Client) -> None:
    """Count the calls of a client. What we ask to learn (is it there? is it taken?) fails without being an error."""
    events = client.meta.events
    events.register("before-call.s3", _begin)
    events.register("after-call.s3", _end)
    events.register("after-call-error.s3", _fail)


def _begin(context: dict[str, Any], **_rest: object) -> None:
    context[_BEGUN] = time.perf_counter()


def _end(parsed: dict[str, Any], context: dict[str, Any], event_name: str, **_rest: object) -> None:
    call = _measured(context, event_name)
    code = str(parsed.get("Error", {}).get("Code", ""))
    if code and code not in _EXPECTED:
        S3_ERRORS.labels(call, code if _CODE.fullmatch(code) else "other").inc()


def _fail(exception: Exception, context: dict[str, Any], event_name: str, **_rest: object) -> None:
    S3_ERRORS.labels(_measured(context, event_name), type(exception).__name__).inc()


def _measured(context: dict[str, Any], event_name: str) -> str:
    call = event_name.rpartition(".")[2]
    retries = context.get("retries", {}).get("attempt", 1) - 1  # botocore counts the tries there
    if retries > 0:
        S3_RETRIES.labels(call).inc(retries)
    S3_SECONDS.labels(call).observe(time.perf_counter() - context.get(_BEGUN, time.perf_counter()))
    return call
