"""What a signed link is answered: the grant that it carries, or one refusal for whatever is wrong with it.

A request that claims to be signed stands and falls with its signature. It is never served by the rights of a session
or token instead: a link that works for its maker alone would be handed on as if it worked for all.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.http import HttpRequest

from assets.links import current_keys
from assets.signing import Grant, is_link, is_signed, verify
from storagecache.errors import InvalidKeyError, ObjectNotFoundError


class InvalidLinkError(ObjectNotFoundError):
    """The link does not grant this request: always the same text, so that nothing is learnt from trying."""

    def __init__(self) -> None:
        super().__init__("The link is not valid, or is not valid any more.")


@contextmanager
def one_refusal() -> Iterator[None]:
    """Turn whatever tells about an address into the one refusal, around the answer to a signed request.

    Raises:
        InvalidLinkError: the address is malformed, or nothing is there.
    """
    try:
        yield
    except (InvalidKeyError, ObjectNotFoundError):
        raise InvalidLinkError from None


def claims_to_be_signed(request: HttpRequest) -> bool:
    """Tell whether the request carries any parameter of a signature, well-formed or not.

    What looks like ours is not parsed, and neither is nothing: parsing costs more than the signature itself.
    """
    query = request.META.get("QUERY_STRING", "")
    return bool(query) and (is_link(query) or is_signed(request.GET))


def grant_of(request: HttpRequest, bucket: str, key: str, object_id: str) -> Grant | None:
    """Give what the signature grants of the object (32 hex digits) at an address; None for an unsigned request.

    Raises:
        InvalidLinkError: it grants nothing, or another object than the one that is there now.
    """
    if not claims_to_be_signed(request):
        return None
    grant = verify(request.META.get("QUERY_STRING", ""), keys=current_keys(), bucket=bucket, key=key, now=time.time())
    if grant is None or grant.object_id != object_id:
        raise InvalidLinkError
    return grant
