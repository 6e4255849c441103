"""Objects in an S3 bucket, of AWS or of any server that speaks its protocol. Importing this imports boto3 (97 MB).

Every trip to the server is made here, and costs what its docstring says. How the server is reached, and what its
errors mean, is in `s3_connection`; bodies as files are in `s3_reading`.
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Final, Literal, TypedDict

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import BotoCoreError, ClientError
from django.core.files.base import File
from storages.backends.s3 import S3Storage

from storagecache.breaker import Breaker
from storagecache.capabilities import DeleteFailure, ObjectInfo, UnfinishedUpload, UploadObserver
from storagecache.errors import (
    BackendTimeoutError,
    BackendUnavailableError,
    ObjectExistsError,
    ObjectNotFoundError,
    StorageError,
)
from storagecache.keys import validate_storage_name
from storagecache.presign import GetOverrides, presign_get
from storagecache.storages.base import ObjectStorage
from storagecache.storages.s3_connection import (
    NO_ANSWER,
    AddressingStyle,
    ChecksumRule,
    S3Connection,
    bucket_address,
    client_of,
    code_of,
    credentials_of,
    is_bare_404,
    s3_error,
    status_of,
)
from storagecache.storages.s3_reading import buffered, seekable
from storagecache.storages.streams import read_full, rewind

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import (
        CompletedPartTypeDef,
        GetObjectOutputTypeDef,
        HeadObjectOutputTypeDef,
        ListObjectsV2OutputTypeDef,
    )

DELETES_PER_CALL: Final = 1000  # DeleteObjects, AWS API reference
MAX_PARTS: Final = 10_000  # of a multipart upload, AWS "Amazon S3 multipart upload limits"
MIN_PART_BYTES: Final = 5 * 1024 * 1024  # same page; the last part may be smaller

_QUARANTINE: Final = "quarantine/"  # no key of ours begins like this
_COPY_BYTES: Final = 64 * 1024 * 1024  # copied in one call, so that none outlasts the read timeout
_LAST_CHARACTER: Final = "\U0010ffff"
_PATIENCE: Final = 3  # calls in a row that timed out, before others are refused without asking
logger = logging.getLogger(__name__)


class _Condition(TypedDict, total=False):
    IfNoneMatch: Literal["*"]


class S3ObjectStorage(ObjectStorage, S3Storage):  # type: ignore[misc]  # django-storages has no types
    """A bucket of S3; also `UrlSigner` and `UploadAborter`. Memory: one part per save, nothing per read.

    django-storages gives the settings and the credentials; its transfers do not fit (reads fetch the whole object,
    uploads take a short read for the end, a client per thread), so each verb here is one plain call.
    """

    bucket: str = ""  # hides the property of that name
    quarantine_prefix = _QUARANTINE

    def __init__(
        self,
        *,
        bucket: str,
        object_prefix: str = "",
        endpoint_url: str | None = None,
        public_endpoint_url: str | None = None,
        region_name: str = "us-east-1",
        access_key: str | None = None,
        secret_key: str | None = None,
        addressing_style: AddressingStyle | None = None,
        connect_timeout: float = 2,
        read_timeout: float = 5,
        max_attempts: int = 1,
        max_pool_connections: int = 64,
        request_checksum_calculation: ChecksumRule = "when_required",
        response_checksum_validation: ChecksumRule = "when_required",
        conditional_writes: bool = True,
        part_bytes: int = 8 * 1024 * 1024,
    ) -> None:
        """Name the bucket and how it is reached; no call is made.

        Without keys boto3's own chain finds them. `public_endpoint_url` is the address that presigned URLs name and
        are valid for. `conditional_writes=False` is for servers without If-None-Match: a save then asks first,
        with one more call and a race. Addressing is by default `path` with an endpoint, else boto3's choice.
        """
        style: AddressingStyle = addressing_style or ("path" if endpoint_url else "auto")
        super().__init__(
            bucket_name=bucket,
            endpoint_url=endpoint_url,
            region_name=region_name,
            access_key=access_key or None,
            secret_key=secret_key or None,
            addressing_style=style,
            signature_version="s3v4",
            file_overwrite=False,
        )
        self.bucket = bucket
        self.object_prefix = object_prefix
        self._conditional_writes = conditional_writes
        self._part_bytes = max(part_bytes, MIN_PART_BYTES)
        self._breaker = Breaker(time.monotonic, tolerance=_PATIENCE)
        self._connection = S3Connection(
            endpoint_url=endpoint_url,
            region_name=region_name,
            access_key=self.access_key,
            secret_key=self.secret_key,
            security_token=self.security_token,
            profile=self.session_profile,
            addressing_style=style,
            verify=self.verify,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            max_attempts=max_attempts,
            max_pool_connections=max_pool_connections,
            request_checksum_calculation=request_checksum_calculation,
            response_checksum_validation=response_checksum_validation,
        )
        self._public_connection = self._connection.at(public_endpoint_url) if public_endpoint_url else self._connection

    @property
    def has_public_endpoint(self) -> bool:
        """Whether presigned URLs name another address than the one that is called."""
        return self._public_connection is not self._connection

    @property
    def client(self) -> S3Client:
        """Give boto3's client, shared by the threads of this process."""
        return client_of(self._connection)

    def presigned_url(
        self,
        name: str,
        *,
        expires_in: int,
        signed_at: int | None = None,
        content_type: str = "",
        disposition: str = "",
        cache_control: str = "",
    ) -> str:
        """Sign a GET of the object (see `UrlSigner`), at the public endpoint if there is one."""
        key = validate_storage_name(name)
        with self._translated(f"Cannot sign {self.bucket}/{name}"):
            return presign_get(
                bucket_address(self._public_connection, self.bucket),
                key,
                credentials=credentials_of(self._connection),
                region=self._connection.region_name,
                signed_at=int(time.time()) if signed_at is None else signed_at,
                expires_in=expires_in,
                overrides=GetOverrides(cache_control, disposition, content_type),
            )

    def abort_uploads(self, name: str) -> int:
        """Abort every unfinished multipart upload of this key (see `UploadAborter`): one call, and one for each."""
        key = validate_storage_name(name)
        uploads = self._unfinished_uploads(key)
        for upload_id in uploads:
            self._abort(key, upload_id)
        return len(uploads)

    def list_uploads(self) -> Iterator[UnfinishedUpload]:
        """Yield every unfinished multipart upload (see `UploadLister`): one call for each 1,000."""
        with self._errors("list the uploads of", "*"):
            for page in self.client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket):
                for upload in page.get("Uploads", []):
                    yield UnfinishedUpload(upload["Key"], upload["UploadId"], upload["Initiated"].astimezone(UTC))

    def abort_upload(self, upload: UnfinishedUpload) -> None:
        """Abort it: one call."""
        self._abort(upload.key, upload.upload_id)

    def _save(self, name: str, content: IO[Any]) -> str:
        rewind(content)
        if not self._conditional_writes and self._exists(name):
            raise self._taken(name)
        part_bytes = self._part_bytes_for(content)
        first = read_full(content, part_bytes)
        if len(first) < part_bytes:
            self._put(name, first, _content_type(content))
        else:
            self._save_in_parts(name, first, content, part_bytes)
        return name

    def _put(self, name: str, data: bytes, content_type: str) -> None:
        with self._write_errors(name):
            self.client.put_object(
                Bucket=self.bucket, Key=name, Body=data, ContentType=content_type, **self._only_if_absent()
            )

    def _overwrite(self, name: str, pieces: Iterable[bytes | memoryview]) -> None:
        with self._write_errors(name):
            self.client.put_object(Bucket=self.bucket, Key=name, Body=b"".join(pieces))

    def _save_in_parts(self, name: str, first: bytes, content: IO[Any], part_bytes: int) -> None:
        with self._errors("store", name):
            started = self.client.create_multipart_upload(
                Bucket=self.bucket, Key=name, ContentType=_content_type(content)
            )
        upload_id = started["UploadId"]
        try:
            if isinstance(content, UploadObserver):
                content.on_upload_started(upload_id)
            parts = self._upload_parts(name, upload_id, first, content, part_bytes)
            self._complete(name, upload_id, parts)
        except BaseException as error:
            self._give_up(name, upload_id, error)
            raise

    def _upload_parts(
        self, name: str, upload_id: str, first: bytes, content: IO[Any], part_bytes: int
    ) -> list[CompletedPartTypeDef]:
        parts: list[CompletedPartTypeDef] = []
        part = first
        while part:
            parts.append(self._upload_part(name, upload_id, len(parts) + 1, part))
            if isinstance(content, UploadObserver):
                content.on_progress()
            part = b""  # so that two are never held
            part = read_full(content, part_bytes)
        return parts

    def _upload_part(self, name: str, upload_id: str, number: int, data: bytes) -> CompletedPartTypeDef:
        with self._errors("store", name):
            answer = self.client.upload_part(
                Bucket=self.bucket, Key=name, UploadId=upload_id, PartNumber=number, Body=data
            )
        return {"PartNumber": number, "ETag": answer["ETag"]}

    def _complete(self, name: str, upload_id: str, parts: list[CompletedPartTypeDef]) -> None:
        with self._write_errors(name):
            self.client.complete_multipart_upload(
                Bucket=self.bucket,
                Key=name,
                UploadId=upload_id,
                MultipartUpload={"Parts": parts},
                **self._only_if_absent(),
            )

    def _give_up(self, name: str, upload_id: str, error: BaseException) -> None:
        """Abort after a failure. Not when the server gave no answer: asking again would stall as long once more.

        What stays is aborted by the purge, through `abort_uploads`.
        """
        if isinstance(error.__cause__, BotoCoreError):
            logger.warning("upload left for purge bucket=%s key=%s upload_id=%s", self.bucket, name, upload_id)
            return
        try:
            self._abort(name, upload_id)
        except BackendUnavailableError:
            logger.warning("upload not aborted bucket=%s key=%s upload_id=%s", self.bucket, name, upload_id)

    def _abort(self, name: str, upload_id: str) -> None:
        with self._errors("abort an upload of", name):
            try:
                self.client.abort_multipart_upload(Bucket=self.bucket, Key=name, UploadId=upload_id)
            except self.client.exceptions.NoSuchUpload:
                logger.debug("upload gone bucket=%s key=%s upload_id=%s", self.bucket, name, upload_id)

    def _unfinished_uploads(self, key: str) -> list[str]:
        with self._errors("list the uploads of", key):
            pages = self.client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket, Prefix=key)
            uploads = [upload for page in pages for upload in page.get("Uploads", [])]
        return [upload["UploadId"] for upload in uploads if upload["Key"] == key]

    def _open(self, name: str) -> File[bytes]:
        """Open it as a seekable file: one GetObject at once, one more for each read behind a seek."""
        answer = self.get_range(name, 0, None)
        assert answer is not None  # only a range can be unsatisfiable
        body = buffered(answer["Body"], f"Cannot read {self.bucket}/{name}")
        return File(seekable(body, answer["ContentLength"], partial(self.open_stream, name)), name)

    def _open_stream(self, name: str, start: int, length: int | None) -> BinaryIO:
        if length == 0:  # HTTP has no empty range; the caller still learns whether the object is there
            self._size(name)
            return io.BytesIO()
        answer = self.get_range(name, start, length)
        return io.BytesIO() if answer is None else buffered(answer["Body"], f"Cannot read {self.bucket}/{name}")

    def get_range(self, name: str, start: int, length: int | None) -> GetObjectOutputTypeDef | None:
        """Make one GetObject, its body unread; None when the object ends before `start` (416)."""
        whole = start == 0 and length is None
        with self._errors("read", name):
            try:
                answer = self._get(name) if whole else self._get_part(name, _range(start, length))
            except ClientError as error:
                if status_of(error) == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    return None
                raise
        if not whole and not answer.get("ContentRange"):
            answer["Body"].close()
            raise BackendUnavailableError(f"Cannot read {self.bucket}/{name}: the server ignores ranges.")
        return answer

    def _get(self, name: str) -> GetObjectOutputTypeDef:
        return self.client.get_object(Bucket=self.bucket, Key=name)

    def _get_part(self, name: str, http_range: str) -> GetObjectOutputTypeDef:
        return self.client.get_object(Bucket=self.bucket, Key=name, Range=http_range)

    def _delete(self, name: str) -> None:
        with self._errors("delete", name):
            self.client.delete_object(Bucket=self.bucket, Key=name)

    def _delete_many(self, names: list[str]) -> list[DeleteFailure]:
        failures: list[DeleteFailure] = []
        for start in range(0, len(names), DELETES_PER_CALL):
            failures += self._delete_batch(names[start : start + DELETES_PER_CALL])
        return failures

    def _delete_batch(self, names: list[str]) -> list[DeleteFailure]:
        with self._errors("delete", f"{names[0]} and others"):
            answer = self.client.delete_objects(
                Bucket=self.bucket, Delete={"Objects": [{"Key": name} for name in names], "Quiet": True}
            )
        errors = [error for error in answer.get("Errors", []) if error.get("Code") != "NoSuchKey"]
        return [DeleteFailure(error.get("Key", ""), f"S3 answered {error.get('Code')}.") for error in errors]

    def _set_aside(self, name: str, label: str) -> None:
        self._shift(name, name, f"{_QUARANTINE}{label}/{name}")

    def _put_back(self, name: str, label: str) -> None:
        self._shift(name, f"{_QUARANTINE}{label}/{name}", name)

    def _drop_aside(self, name: str, label: str) -> None:
        self._delete(f"{_QUARANTINE}{label}/{name}")

    def _list_aside(self, label: str) -> Iterator[str]:
        prefix = f"{_QUARANTINE}{label}/"
        with self._errors("list", prefix):
            for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix):
                yield from (held["Key"].removeprefix(prefix) for held in page.get("Contents", []))

    def _shift(self, name: str, source: str, target: str) -> None:
        """Copy inside the bucket, look at the copy, then delete the source: four calls, more for large objects."""
        there = self._size_or_none(target)
        try:
            size = self._size(source)
        except ObjectNotFoundError:
            if there is None:
                raise
            return
        if there is None:
            self._copy(source, target)
            there = self._size(target)
        if there != size:
            raise self._taken(target)
        self._delete(source)

    def _copy(self, source: str, target: str) -> None:
        plan = TransferConfig(multipart_threshold=_COPY_BYTES, multipart_chunksize=_COPY_BYTES, use_threads=False)
        with self._errors("copy", source):
            self.client.copy({"Bucket": self.bucket, "Key": source}, self.bucket, target, Config=plan)

    def _size_or_none(self, name: str) -> int | None:
        try:
            return self._size(name)
        except ObjectNotFoundError:
            return None

    def _list_objects(self, start_after: str, skip_prefixes: tuple[str, ...]) -> Iterator[ObjectInfo]:
        """Yield what the pages hold; one call a page, and one more for each skipped prefix that is met."""
        behind: str | None = start_after
        while behind is not None:
            page = self._list_page(behind)
            for held in page.get("Contents", []):
                behind = _end_of_skipped(held["Key"], skip_prefixes)
                if behind is not None:
                    break
                yield ObjectInfo(held["Key"], held["Size"], held["LastModified"].astimezone(UTC))
            else:
                behind = page["Contents"][-1]["Key"] if page.get("IsTruncated") and page.get("Contents") else None

    def _list_page(self, start_after: str) -> ListObjectsV2OutputTypeDef:
        with self._errors("list", "*"):
            return self.client.list_objects_v2(Bucket=self.bucket, StartAfter=start_after)

    def _check_ready(self) -> None:
        with self._errors("reach", "*"):
            self.client.head_bucket(Bucket=self.bucket)

    def _exists(self, name: str) -> bool:
        try:
            self._head(name)
        except ObjectNotFoundError:
            return False
        return True

    def _size(self, name: str) -> int:
        return self._head(name)["ContentLength"]

    def _modified_at(self, name: str) -> datetime:
        return self._head(name)["LastModified"].astimezone(UTC)

    def _head(self, name: str) -> HeadObjectOutputTypeDef:
        with self._errors("read", name):
            return self.client.head_object(Bucket=self.bucket, Key=name)

    def _only_if_absent(self) -> _Condition:
        return {"IfNoneMatch": "*"} if self._conditional_writes else {}

    def _part_bytes_for(self, content: object) -> int:
        """Give the part size: all parts but the last are equal (some servers ask for it), and at most 10,000."""
        size = getattr(content, "size", None)
        return max(self._part_bytes, -(-size // MAX_PARTS) if isinstance(size, int) else 0)

    def _taken(self, name: str) -> ObjectExistsError:
        return ObjectExistsError(f"{self.bucket}/{name} exists already; objects are never overwritten.")

    @contextmanager
    def _write_errors(self, name: str) -> Iterator[None]:
        with self._errors("store", name):
            try:
                yield
            except ClientError as error:
                # 409 ConditionalRequestConflict: another write of this key is under way (AWS, conditional writes).
                if status_of(error) == HTTPStatus.PRECONDITION_FAILED or code_of(error) == "ConditionalRequestConflict":
                    raise self._taken(name) from error
                raise

    @contextmanager
    def _errors(self, verb: str, name: str) -> Iterator[None]:
        """Translate what goes wrong in a call, and refuse it at once while the server lets everybody wait."""
        what = f"Cannot {verb} {self.bucket}/{name}"
        if not self._breaker.allows():
            raise BackendTimeoutError(f"{what}: the server did not answer just now. {NO_ANSWER}")
        try:
            with self._translated(what):
                yield
        except BackendTimeoutError:
            self._breaker.failed()
            raise
        except StorageError as error:
            if isinstance(error.__cause__, ClientError):
                self._breaker.succeeded()  # it answered, whatever it said
            raise
        else:
            self._breaker.succeeded()

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            if is_bare_404(error) and self._bucket_is_there():
                raise ObjectNotFoundError(f"{what}: no such object.") from error
            raise s3_error(error, what) from error
        except BotoCoreError as error:
            raise s3_error(error, what) from error

    def _bucket_is_there(self) -> bool:
        try:
            self.client.head_bucket(Bucket=self.bucket)
        except (ClientError, BotoCoreError):
            return False
        return True


def _range(start: int, length: int | None) -> str:
    """Write an HTTP range, whose last byte is inclusive (RFC 9110 14.1.2)."""
    return f"bytes={start}-{'' if length is None else start + length - 1}"


def _end_of_skipped(key: str, skip_prefixes: tuple[str, ...]) -> str | None:
    """Give a text behind every key of the skipped prefix that holds `key`; None when none does."""
    for prefix in skip_prefixes:
        if key.startswith(prefix):
            return max(prefix + _LAST_CHARACTER, key)
    return None


def _content_type(content: object) -> str:
    return getattr(content, "content_type", None) or "application/octet-stream"
