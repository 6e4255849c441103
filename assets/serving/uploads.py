"""Read a raw request body: its length, its digests, its preconditions, and whether it can be told whole from cut."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from typing import Final, Protocol

from django.http import HttpRequest

from assets.api.errors import BadRequestError, LengthRequiredError, SlowBodyError
from assets.models import Asset
from assets.services.uploads import Precondition
from assets.serving.conditions import Conditions, check_write
from assets.staging import Expected, Source, decode_digest
from storagecache.environment import Environment

_DIGITS: Final = re.compile(r"\A[0-9]{1,20}\Z", re.ASCII)  # as many as 64 bits have
_DIGESTS: Final = ("HTTP_REPR_DIGEST", "HTTP_CONTENT_DIGEST", "HTTP_DIGEST")  # one and the same for a whole object
_FORM: Final = "application/x-www-form-urlencoded"

PATIENCE: Final = 60  # seconds before a body must have come at the least rate on average
LEAST_RATE: Final = 1 << 10  # bytes a second
_FIRST_READ: Final = 4 << 10  # bytes
_LONGEST_READ: Final = 64 << 10  # bytes
_SHORTEST_READ: Final = 64  # bytes
DISCARDED: Final = 64 << 20  # bytes of a refused body that are read all the same
_QUICK: Final = 0.25  # seconds; a read that took less may ask for more


class RequestBody:
    """The bytes of a request body as a source: never more than Content-Length, when there is one, nor too slowly.

    The web server's `read(n)` blocks until n bytes are there and cannot be interrupted (docs/decisions/0002). So what
    is asked for follows the rate at which bytes come, and the clock is looked at between reads: a sender who trickles
    is refused soon after `PATIENCE`. One who falls silent is held only by the proxy in front (docs/security.md).
    """

    def __init__(self, stream: Source, length: int | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._left = length
        self._clock = clock
        self._start = clock()
        self._seen = 0
        self._ask = _FIRST_READ

    @property
    def left(self) -> int | None:
        """How many bytes of Content-Length have not come yet; None without one."""
        return self._left

    def read(self, size: int, /) -> bytes:
        """Read at most `size` bytes; none at the end, or where the sender hung up.

        Raises:
            SlowBodyError: the body comes slower than `LEAST_RATE`.
        """
        wanted = min(size, self._ask, size if self._left is None else self._left)
        before = self._clock()
        block = self._stream.read(wanted) if wanted else b""
        if self._left is not None:
            self._left -= len(block)
        self._pace(len(block), self._clock(), before)
        return block

    def _pace(self, count: int, now: float, before: float) -> None:
        """Refuse a trickle; else choose how much to ask for next: about as much as comes in a second."""
        self._seen += count
        took, since = now - before, now - self._start
        if count and self._left != 0 and since > PATIENCE and self._seen < LEAST_RATE * since:
            raise SlowBodyError(f"The body came slower than {LEAST_RATE} bytes a second.")
        wanted = self._ask * 4 if took < _QUICK else int(count / took)
        self._ask = min(max(wanted, _SHORTEST_READ), _LONGEST_READ)


class LineSource(Source, Protocol):
    """What a server hands over as `wsgi.input`, as far as Django asks for it."""

    def readline(self, size: int, /) -> bytes:
        """Read a line of at most `size` bytes."""
        ...


class PacedInput:
    """A server's `wsgi.input` whose reads wait for all that they ask for, as servers' do, but not for a trickle.

    It stands before Django, which reads forms and JSON by itself.
    """

    def __init__(self, stream: LineSource, length: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._body = RequestBody(stream, int(length) if _DIGITS.match(length) else None, clock=clock)
        self.readline = stream.readline  # nobody calls it, but Django asks for it

    def read(self, size: int, /) -> bytes:
        """Read `size` bytes, less only at the end.

        Raises:
            SlowBodyError: the body comes slower than `LEAST_RATE`.
        """
        blocks = [self._body.read(size)]
        left = size - len(blocks[0])
        while left and blocks[-1]:
            blocks.append(self._body.read(left))
            left -= len(blocks[-1])
        return blocks[0] if len(blocks) == 1 else b"".join(blocks)

    def discard(self) -> None:
        """Read what is left of a body that is refused, unless it is huge: who is still sending reads no answer."""
        if (self._body.left or 0) > DISCARDED:
            return
        with contextlib.suppress(SlowBodyError):
            while self._body.left and self._body.read(_LONGEST_READ):
                pass


def request_body(request: HttpRequest) -> tuple[RequestBody, Expected]:
    """Give the body of a PUT as a source, and what its headers say about it. Nothing is read yet.

    Servers hand over a body that was cut as if it had ended. With Content-Length the count tells; a chunked body
    tells nothing, so it needs a digest.

    Raises:
        BadRequestError: a partial PUT (RFC 9110 14.5), an unknown coding, or a header that is malformed.
        LengthRequiredError: neither Content-Length nor a digest.
        DigestMismatchError: a digest that is none.
    """
    if "HTTP_CONTENT_RANGE" in request.META:
        raise BadRequestError("A PUT stores a whole object: Content-Range is not supported.")
    length = announced_length(request)
    expected = Expected(length=length, md5=_md5(request), sha256=_sha256(request))
    if length is None and expected.md5 is None and expected.sha256 is None:
        raise LengthRequiredError("Send Content-Length, or a digest (Repr-Digest: sha-256=:...:) with a chunked body.")
    return RequestBody(request.META["wsgi.input"], length), expected


def write_precondition(request: HttpRequest) -> Precondition:
    """Make the check of what the bytes must be, which services run before the body and again under the lock."""
    conditions = Conditions.from_environ(request.META)

    def check(current: Asset | None) -> None:
        check_write(
            request.method or "PUT",
            conditions,
            etag=current.object.etag if current and current.object else None,
            modified_at=int(current.content_changed_at.timestamp()) if current and current.content_changed_at else None,
            now=int(time.time()),
        )

    return check


def claimed_content_type(request: HttpRequest) -> str:
    """Give the Content-Type that a client means; curl's form default on a raw body means none."""
    claimed = request.META.get("CONTENT_TYPE", "")
    return "" if claimed.partition(";")[0].strip().lower() == _FORM else claimed


def expires_in(request: HttpRequest, bucket: str) -> int | None:
    """Read X-Expires-In, the seconds that a temp object lives.

    Raises:
        BadRequestError: not for temp, not a number, or more than TEMP_TTL.
    """
    text = request.META.get("HTTP_X_EXPIRES_IN")
    if text is None:
        return None
    longest = Environment.current().temp_ttl
    if bucket != "temp":
        raise BadRequestError("X-Expires-In is for the temp bucket only.")
    if not _DIGITS.match(text) or not 1 <= int(text) <= longest:
        raise BadRequestError(f"X-Expires-In must be a whole number of seconds from 1 to {longest} (TEMP_TTL).")
    return int(text)


def announced_length(request: HttpRequest) -> int | None:
    """Give the Content-Length of a request, 0 when it has no body; None for a chunked one.

    Raises:
        BadRequestError: another coding, or no number.
    """
    coding = request.META.get("HTTP_TRANSFER_ENCODING")
    if coding is not None:
        if coding.strip().lower() != "chunked":
            raise BadRequestError("Transfer-Encoding must be chunked.")
        return None
    text = request.META.get("CONTENT_LENGTH") or "0"
    if not _DIGITS.match(text):
        raise BadRequestError("Content-Length is not a number.")
    return int(text)


def _md5(request: HttpRequest) -> bytes | None:
    text = request.META.get("HTTP_CONTENT_MD5")
    return None if text is None else decode_digest(text, 16)


def _sha256(request: HttpRequest) -> bytes | None:
    """Read sha-256 from Repr-Digest (RFC 9530 3: a byte sequence between colons) or the older Digest (RFC 3230)."""
    found = {digest for name in _DIGESTS if name in request.META for digest in _digests(request.META[name])}
    if len(found) > 1:
        raise BadRequestError("The request announces two different sha-256 digests.")
    return found.pop() if found else None


def _digests(field: str) -> list[bytes]:
    """Give every sha-256 of a field; other algorithms are passed over (RFC 9530 2)."""
    if not field.strip():  # also what a server makes of a value that is not ASCII
        raise BadRequestError("A digest header of the request is empty or cannot be read.")
    members = (member.partition("=") for member in field.split(","))
    values = [value.partition(";")[0].strip() for name, _, value in members if name.strip().lower() == "sha-256"]
    return [decode_digest(value.removeprefix(":").removesuffix(":"), 32) for value in values]
