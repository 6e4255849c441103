"""How S3 is reached: one client per process and connection, and what botocore's errors mean for us."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field, replace
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Literal

import boto3.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    NoCredentialsError,
    ReadTimeoutError,
)

from storagecache import presign
from storagecache.errors import (
    BackendTimeoutError,
    BackendUnavailableError,
    ObjectNotFoundError,
    StorageError,
    StorageFullError,
)
from storagecache.storages import s3_metrics

if TYPE_CHECKING:
    from botocore.credentials import Credentials
    from mypy_boto3_s3 import S3Client

AddressingStyle = Literal["auto", "path", "virtual"]
ChecksumRule = Literal["when_required", "when_supported"]

_FULL_CODES: Final = frozenset({"InsufficientStorage", "QuotaExceeded", "XMinioStorageFull", "507"})
_REMEDIES: Final = {
    401: "Check S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY.",
    403: "Check S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY and the policy of the bucket.",
    404: "Check that the bucket exists and that S3_ENDPOINT_URL is right.",
    429: "The server throttles; try later.",
    503: "The server throttles or is down; try later.",
}
NO_ANSWER: Final = "Check S3_ENDPOINT_URL and that the server runs."
_ANY_KEY: Final = "key"
_making = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Connection:
    """Everything that makes two clients the same. Times in seconds."""

    endpoint_url: str | None  # None: AWS
    region_name: str
    access_key: str | None  # None: boto3's own chain
    secret_key: str | None = field(repr=False)
    security_token: str | None = field(repr=False, default=None)
    profile: str | None = None
    addressing_style: AddressingStyle
    verify: bool | str | None = None
    connect_timeout: float
    read_timeout: float
    max_attempts: int
    max_pool_connections: int
    request_checksum_calculation: ChecksumRule
    response_checksum_validation: ChecksumRule

    def at(self, endpoint_url: str) -> S3Connection:
        """Give the same connection to another address of the same server."""
        return replace(self, endpoint_url=endpoint_url)

    def config(self) -> Config:
        """Give botocore's form of it."""
        return Config(
            signature_version="s3v4",  # django-storages' default presigns with SigV2
            s3={"addressing_style": self.addressing_style},
            connect_timeout=self.connect_timeout,
            read_timeout=self.read_timeout,
            retries={"total_max_attempts": self.max_attempts, "mode": "standard"},
            max_pool_connections=self.max_pool_connections,
            request_checksum_calculation=self.request_checksum_calculation,
            response_checksum_validation=self.response_checksum_validation,
        )


def client_of(connection: S3Connection) -> S3Client:
    """Give this process's client for the connection: made once (50 ms), shared by all threads, not by forks."""
    with _making:
        return _made_client(connection, os.getpid())


@lru_cache(maxsize=16)
def _made_client(connection: S3Connection, _process: int) -> S3Client:
    client = _session_of(connection, _process).client(
        "s3",
        region_name=connection.region_name,
        endpoint_url=connection.endpoint_url,
        verify=connection.verify,
        config=connection.config(),
    )
    client.meta.events.register_last("before-call.s3", _send_without_asking)
    s3_metrics.watch(client)
    return client


@lru_cache(maxsize=16)
def _session_of(connection: S3Connection, _process: int) -> boto3.session.Session:
    return boto3.session.Session(
        aws_access_key_id=connection.access_key,
        aws_secret_access_key=connection.secret_key,
        aws_session_token=connection.security_token,
        profile_name=connection.profile,
    )


def credentials_of(connection: S3Connection) -> presign.Credentials:
    """Give the credentials that sign URLs now; only those of a role are fetched, when their session nears its end.

    Raises:
        NoCredentialsError: there are none.
    """
    if connection.access_key and connection.secret_key:
        return presign.Credentials(connection.access_key, connection.secret_key, connection.security_token)
    with _making:
        found = _session_of(connection, os.getpid()).get_credentials()
    if found is None:
        raise NoCredentialsError
    return frozen(found)


def frozen(credentials: Credentials) -> presign.Credentials:
    """Give a snapshot of botocore's credentials with the end of their session, even while a thread renews them."""
    while True:
        taken = credentials.get_frozen_credentials()
        ends_at = getattr(credentials, "_expiry_time", None)  # botocore has no public name for it
        if credentials.get_frozen_credentials() == taken:
            return presign.Credentials(
                taken.access_key or "",
                taken.secret_key or "",
                taken.token,
                int(ends_at.timestamp()) if ends_at is not None else None,
            )


def bucket_address(connection: S3Connection, bucket: str) -> presign.BucketAddress:
    """Tell where clients find the objects of a bucket, by botocore's own rules for endpoints and addressing."""
    return _address(connection, bucket, os.getpid())


@lru_cache(maxsize=16)
def _address(connection: S3Connection, bucket: str, _process: int) -> presign.BucketAddress:
    params = {"Bucket": bucket, "Key": _ANY_KEY}
    return presign.BucketAddress.before(client_of(connection).generate_presigned_url("get_object", params), _ANY_KEY)


def _send_without_asking(params: dict[str, dict[str, str]], **_rest: object) -> None:
    """Leave out `Expect: 100-continue`: botocore waits a second for the answer, on top of the read timeout.

    A part is small enough to be sent in vain; a stalled server must be known as such within 6 s.
    """
    params["headers"].pop("Expect", None)


def status_of(error: ClientError) -> int:
    """Give the HTTP status of an answer that botocore took for an error."""
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


def code_of(error: ClientError) -> str:
    """Give S3's error code; for an answer without a body (HEAD) it is the status as text."""
    return error.response.get("Error", {}).get("Code", "")


def is_bare_404(error: ClientError) -> bool:
    """Tell whether the answer is a 404 without a code: a missing object, a missing bucket or a wrong endpoint."""
    return status_of(error) == HTTPStatus.NOT_FOUND and code_of(error) in {"", "404", "NotFound"}


def s3_error(error: ClientError | BotoCoreError, what: str) -> StorageError:
    """Translate; `what` begins the message, as in "Cannot read assets/7f/..".

    Only NoSuchKey is a missing object: a 404 without a code may as well be a missing bucket or a wrong endpoint.
    """
    if isinstance(error, (ConnectTimeoutError, ReadTimeoutError)):
        return BackendTimeoutError(f"{what}: {type(error).__name__}. {NO_ANSWER}")
    if isinstance(error, BotoCoreError):  # no answer, half an answer, no credentials
        return BackendUnavailableError(f"{what}: {type(error).__name__}. {NO_ANSWER}")
    code, status = code_of(error), status_of(error)
    if code == "NoSuchKey":
        return ObjectNotFoundError(f"{what}: no such object.")
    if code in _FULL_CODES:
        return StorageFullError(f"{what}: the server is full or the quota used up ({code}).")
    return BackendUnavailableError(f"{what}: S3 answered {status} {code}. {_REMEDIES.get(status, NO_ANSWER)}")
