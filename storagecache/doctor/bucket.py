"""One bucket of S3: reached, its keys right, and every verb that the service uses tried on an object of our own.

The object is small, named `doctor/...`, and removed at the end. A server that does not answer ends the trial at once.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from django.core.files.base import ContentFile

from storagecache.doctor import web
from storagecache.doctor.registry import MISSING_URLS, S3_AUTHENTICATION, Level, Outcome, failed, ok, warning
from storagecache.environment import Environment
from storagecache.errors import StorageError
from storagecache.storages.s3 import S3ObjectStorage
from storagecache.storages.s3_connection import code_of, status_of

_BODY: Final = b"0123456789 written by doctor"
_LIFE: Final = 60  # seconds of the presigned URL
_SKEW: Final = 60  # seconds between two clocks that are noticed
_REFUSED_SKEW: Final = 15 * 60  # AWS, "RequestTimeTooSkewed"
_SHOW: Final = "Compare with `manage.py settings show --secrets`; `settings set` mends them."
_KEYS: Final = ("S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY")
_REFUSALS: Final = {
    "InvalidAccessKeyId": ("The server knows no such access key.", "Correct S3_ACCESS_KEY_ID."),
    "SignatureDoesNotMatch": ("The secret key does not belong to the access key.", "Correct S3_SECRET_ACCESS_KEY."),
    "InvalidToken": ("The session token is not valid.", "Renew the session of this machine's role."),
    "ExpiredToken": ("The session has ended.", "Renew the session of this machine's role."),
    "AccessDenied": ("The keys are known, but may not do this.", "Grant it in the bucket's policy."),
    "403": ("The server refuses the keys.", "Correct the keys, or grant it in the bucket's policy."),
    "RequestTimeTooSkewed": ("The clocks of this machine and the server differ.", "Set this machine's clock (NTP)."),
}
_PLACES: Final = {
    "NoSuchBucket": ("There is no such bucket.", "Make it, or correct ASSET_BUCKET or ASSET_TEMP_BUCKET."),
    "404": ("There is no such bucket.", "Make it, or correct ASSET_BUCKET or ASSET_TEMP_BUCKET."),
    "PermanentRedirect": ("The bucket is in another region.", "Correct S3_REGION or S3_ENDPOINT_URL."),
    "AuthorizationHeaderMalformed": ("The bucket is in another region.", "Correct S3_REGION."),
    "IllegalLocationConstraintException": ("The bucket is in another region.", "Correct S3_REGION."),
}


class _WrongAnswerError(Exception):
    """A verb was answered, but not as S3 should; carries detail and remedy."""

    def __init__(self, detail: str, remedy: str, *, trouble: str = "") -> None:
        super().__init__(detail)
        self.detail, self.remedy, self.trouble = detail, remedy, trouble


class BucketTrial:
    """The trial of one bucket."""

    def __init__(self, environment: Environment, alias: str, options: dict[str, Any]) -> None:
        """Name the bucket as the storage `alias` would; no call is made."""
        self._environment = environment
        self._alias = alias
        self._storage = S3ObjectStorage(**options)
        self._bucket = self._storage.bucket
        self._name = f"{self._storage.object_prefix}doctor/{secrets.token_hex(16)}"
        self._server_time: datetime | None = None

    def run(self) -> Iterator[Outcome]:
        """Try everything, as far as it goes."""
        yield (reached := self._attempt("is there and the keys open it", self._reach))
        if reached.level is Level.FAILED:
            return
        yield self._judge_clock()
        yield (stored := self._attempt("takes an object", self._put))
        if stored.level is Level.FAILED:
            return
        try:
            yield self._attempt("gives an object back, whole and in part", self._read)
            yield self._attempt("takes an object in parts", self._put_in_parts)
            yield from self._try_urls()
            yield self._attempt("deletes an object", self._delete)
        finally:
            self._clean_up()

    def _attempt(self, what: str, verb: Callable[[], str]) -> Outcome:
        tried = f"bucket {self._bucket} {what}"
        try:
            return ok(tried, verb())
        except _WrongAnswerError as wrong:
            return failed(tried, wrong.detail, wrong.remedy, trouble=wrong.trouble)
        except (ClientError, BotoCoreError, StorageError) as error:
            cause = error.__cause__ if isinstance(error, StorageError) and error.__cause__ else error
            return self._explain(tried, cause)

    # --- the verbs -----------------------------------------------------------------------------

    def _reach(self) -> str:
        """List one object: unlike HEAD, the answer to a wrong key says what is wrong."""
        try:
            answer: Any = self._storage.client.list_objects_v2(Bucket=self._bucket, MaxKeys=1)
        except ClientError as error:
            self._note_time(error.response)
            if code_of(error) != "AccessDenied":
                raise
            return "it may not be listed, which only verify_assets needs"
        self._note_time(answer)
        return f"at {self._environment.s3_endpoint_url or 'AWS'}"

    def _put(self) -> str:
        self._storage.save(self._name, ContentFile(_BODY))
        return f"{len(_BODY)} bytes"

    def _read(self) -> str:
        remedy = "Use a server that knows HTTP ranges."
        with self._storage.open_stream(self._name) as whole, self._storage.open_stream(self._name, 2, 5) as part:
            if whole.read() != _BODY:
                raise _WrongAnswerError("Other bytes came back.", "Look for a proxy or a cache before the server.")
            if part.read() != _BODY[2:7]:
                raise _WrongAnswerError("The server ignores ranges.", remedy)
        return "its range too"

    def _put_in_parts(self) -> str:
        """Upload one small part, as the last one may be."""
        client, name = self._storage.client, f"{self._name}-parts"
        upload = client.create_multipart_upload(Bucket=self._bucket, Key=name)["UploadId"]
        try:
            part = client.upload_part(Bucket=self._bucket, Key=name, UploadId=upload, PartNumber=1, Body=_BODY)
            client.complete_multipart_upload(
                Bucket=self._bucket,
                Key=name,
                UploadId=upload,
                MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
            )
        except BaseException:
            with suppress(ClientError, BotoCoreError):
                client.abort_multipart_upload(Bucket=self._bucket, Key=name, UploadId=upload)
            raise
        self._storage.delete(name)
        return ""

    def _delete(self) -> str:
        self._storage.delete(self._name)
        if self._storage.exists(self._name):
            raise _WrongAnswerError("It is still there.", "Look at the bucket's versions, locks and policy.")
        return ""

    def _clean_up(self) -> None:
        for name in (self._name, f"{self._name}-parts"):
            with suppress(StorageError):
                self._storage.delete(name)

    # --- addresses -----------------------------------------------------------------------------

    def _try_urls(self) -> Iterator[Outcome]:
        url = self._storage.presigned_url(self._name, expires_in=_LIFE)
        yield (fetched := self._attempt(f"answers presigned URLs at {_place(url)}", lambda: self._fetch(url)))
        if fetched.level is Level.FAILED:
            return
        yield self._try_cors(url)
        if self._environment.public_url and self._alias == "assets":
            yield self._try_public(self._environment.public_url)
        elif not self._environment.public_url:
            yield self._try_unsigned(url)

    def _fetch(self, url: str) -> str:
        reply = web.get(url)
        own = "ASSET_TEMP_DOMAIN" if self._bucket == self._environment.asset_temp_bucket else "ASSET_DOMAIN"
        name = own if self._storage.has_public_endpoint else "S3_ENDPOINT_URL"
        if reply.status == 0:
            detail = f"Nobody answers at {_place(url)}: {reply.problem}."
            raise _WrongAnswerError(detail, f"Correct {name}: clients have to reach it.", trouble=MISSING_URLS)
        if reply.status != 200 or reply.body != _BODY:
            detail = f"{_place(url)} answered {reply.status}{_code_in(reply.body)} to a URL that is signed for it."
            remedy = f"Correct {name}; a proxy there has to hand on the Host and the query as they are."
            raise _WrongAnswerError(detail, remedy, trouble=S3_AUTHENTICATION if reply.status == 403 else MISSING_URLS)
        return ""

    def _try_cors(self, url: str) -> Outcome:
        """Ask as the script of a page would; a redirect from another origin arrives with the origin `null`."""
        pages = self._environment.cors_allowed_origins
        origin = "null" if pages else "/".join(self._environment.base_url.split("/", 3)[:3])
        tried = f"bucket {self._bucket} lets pages read it by script (CORS, origin {origin})"
        allowed = web.get(url, {"Origin": origin}).headers.get("access-control-allow-origin")
        if allowed in {"*", origin}:
            return ok(tried)
        if self._environment.s3_delivery == "proxy":
            return ok(tried, "no, nor is there need: S3_DELIVERY=proxy")
        remedy = "Allow GET and HEAD from any origin in the bucket's CORS rules, or set S3_DELIVERY=proxy."
        return warning(tried, "Pages show its images and films, but cannot fetch() them.", remedy)

    def _try_public(self, base: str) -> Outcome:
        tried = f"NODETOOL_STORAGE_PUBLIC_URL {base} gives objects without a signature"
        reply = web.get(f"{base}/{self._name}")
        if reply.status == 200 and reply.body == _BODY:
            return ok(tried)
        remedy = f"Let it serve the bucket {self._bucket}, or unset it: the URLs of public assets lead there."
        if reply.status == 0:
            return failed(tried, f"Nobody answers: {reply.problem}.", remedy, trouble=MISSING_URLS)
        return warning(tried, f"It answered {reply.status} for a new object.", remedy, trouble=MISSING_URLS)

    def _try_unsigned(self, url: str) -> Outcome:
        tried = f"bucket {self._bucket} refuses to be read without a signature"
        if web.get(url.partition("?")[0]).status != 200:
            return ok(tried)
        return warning(tried, "Anybody who knows a key can read it.", "Take public reading out of its policy.")

    # --- words ---------------------------------------------------------------------------------

    def _note_time(self, answer: Any) -> None:
        date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
        with suppress(ValueError, TypeError):
            self._server_time = parsedate_to_datetime(date)

    def _judge_clock(self) -> Outcome:
        return judge_clock(self._server_time, datetime.now(UTC))

    def _explain(self, tried: str, error: BaseException) -> Outcome:
        """Say what S3 or its library said, and which variable mends it."""
        if isinstance(error, NoCredentialsError):
            detail = "There are no keys, and this machine has no role of its own."
            return failed(tried, detail, f"Set {' and '.join(_KEYS)}. {_SHOW}", trouble=S3_AUTHENTICATION)
        if isinstance(error, ClientError):
            return self._refused(tried, code_of(error) or str(status_of(error)), status_of(error))
        where = self._environment.s3_endpoint_url or "AWS"
        source = self._environment.source_of("S3_ENDPOINT_URL")
        remedy = f"Check that the server runs and that S3_ENDPOINT_URL (from {source}) is right."
        return failed(tried, f"No answer from {where}: {type(error).__name__}.", remedy)

    def _refused(self, tried: str, code: str, status: int) -> Outcome:
        if code in _PLACES:
            detail, remedy = _PLACES[code]
            return failed(tried, f"{detail} (S3 answered {status} {code}.)", remedy)
        detail, remedy = _REFUSALS.get(code, ("", "See what the server's log says."))
        if code not in _REFUSALS and status not in {401, 403}:
            return failed(tried, f"S3 answered {status} {code}.", remedy)
        sources = ", ".join(f"{name} from {self._environment.source_of(name)}" for name in _KEYS)
        told = f"{detail} (S3 answered {status} {code}; {sources}.)".strip()
        return failed(tried, told, f"{remedy} {_SHOW}", trouble=S3_AUTHENTICATION)


def judge_clock(server_time: datetime | None, now: datetime) -> Outcome:
    """Compare the server's clock with ours. Pure."""
    tried = "the clocks of S3 and of this machine agree"
    if server_time is None:
        return ok(tried, "the server does not tell its time")
    skew = abs((now - server_time).total_seconds())
    if skew <= _SKEW:
        return ok(tried, f"within {_SKEW} s")
    told = failed if skew >= _REFUSED_SKEW else warning
    detail = f"They differ by {skew:.0f} s: signed requests and URLs are refused beyond {_REFUSED_SKEW} s."
    return told(tried, detail, "Set both clocks (NTP).", trouble=S3_AUTHENTICATION)


def _place(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _code_in(body: bytes) -> str:
    """Find S3's error code in its XML."""
    _, found, rest = body.partition(b"<Code>")
    return f" {rest.partition(b'</Code>')[0][:60].decode('ascii', 'replace')}" if found else ""
