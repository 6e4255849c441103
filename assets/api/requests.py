"""What every route of the API does with a request and an answer: who asks, which parameters are known, JSON in and out.

The JSON that comes in is read strictly: what two readers could understand differently is refused, and named.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, Final, TypeVar

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse
from ninja.errors import ValidationError
from ninja.security.base import AuthBase
from pydantic import BaseModel
from pydantic import ValidationError as ModelError

from assets.access import reader_id, writer
from assets.api.errors import AuthenticationRequiredError, BadRequestError, UnprocessableError
from assets.api.schemas import ErrorOut
from assets.models import Asset
from assets.serving.conditions import matches_strongly
from storagecache.errors import ObjectTooLargeError, PreconditionFailedError

Model = TypeVar("Model", bound=BaseModel)
MAX_DEPTH: Final = 64  # levels of a JSON text
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_LARGEST: Final = 1 << 64  # of a whole number, either way
_SHOWN: Final = 64  # characters of what a client sent


class Caller(AuthBase):
    """Whoever `assets.access` knows: by token, session, or as the local user. The answer is the user's id."""

    openapi_type = "http"
    openapi_scheme = "bearer"

    def __call__(self, request: HttpRequest) -> int:
        """Give the caller's id.

        Raises:
            AuthenticationRequiredError, AccessDeniedError: see `assets.access`; whatever is no GET counts as a write.
        """
        if request.method not in _SAFE:
            return writer(request).pk
        caller = reader_id(request)
        if caller is None:
            raise AuthenticationRequiredError("Log in, or send a token as 'Authorization: Bearer <token>'.")
        return caller


def errors(*statuses: int) -> dict[int, Any]:
    """Document the errors of a route: those that every route can answer, and these."""
    return dict.fromkeys(sorted({400, 401, 403, 422, 429, 503, *statuses}), ErrorOut)


def refuse_unknown(
    request: HttpRequest, known: type[BaseModel] | None = None, *, dynamic: str = "\x00"
) -> dict[str, str]:
    """Refuse query parameters that would silently do nothing, or say two things; give those that begin with `dynamic`.

    Raises:
        UnprocessableError: naming the parameter.
    """
    fields, found = known.model_fields if known else {}, {}
    for name, values in request.GET.lists():
        if name.startswith(dynamic):
            found[name] = values[0]
        elif name not in fields:
            raise UnprocessableError(f"{_shown(name)}: there is no such query parameter.")
        if len(values) > 1:
            raise UnprocessableError(f"{_shown(name)}: given {len(values)} times.")
    return found


def caller_id(request: HttpRequest) -> int:
    """Give the id that `Caller` found."""
    caller: int = request.auth  # type: ignore[attr-defined]  # ninja keeps it there
    return caller


def json_answer(answer: BaseModel, **headers: str) -> HttpResponse:
    """Write an answer as it is: a second validation by ninja would cost more than the query."""
    return HttpResponse(
        answer.model_dump_json(),
        content_type="application/json",
        headers={"Cache-Control": "private, no-store", **headers},
    )


def record_etag(asset: Asset) -> str:
    """Give the ETag of an asset's record, which is its revision; that of its bytes is another one."""
    return f'"{asset.revision}"'


def record_check(request: HttpRequest) -> Callable[[Asset | None], None]:
    """Make the check of If-Match that services run before they begin and again under the lock."""
    field = request.META.get("HTTP_IF_MATCH")

    def check(current: Asset | None) -> None:
        if field is not None and (current is None or not matches_strongly(field, record_etag(current))):
            raise PreconditionFailedError("If-Match does not name the current revision: read the asset again.")

    return check


# --- JSON in ---------------------------------------------------------------------------------------


def read_body(request: HttpRequest, model: type[Model]) -> Model:
    """Read the JSON body of a request.

    Raises:
        BadRequestError, UnprocessableError, ValidationError: see `read_json`.
        ObjectTooLargeError: more bytes than DATA_UPLOAD_MAX_MEMORY_SIZE.
    """
    try:
        raw = request.body
    except RequestDataTooBig as error:
        raise too_much_json() from error
    return read_json(raw, model)


def too_much_json() -> ObjectTooLargeError:
    """Make the error of a JSON text that is not even read."""
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    return ObjectTooLargeError(f"json: more than {limit} bytes; metadata may have {MAX_METADATA}.")


MAX_METADATA: Final = 256 << 10  # bytes of its JSON text


def read_json(raw: bytes | str, model: type[Model]) -> Model:
    """Read a JSON text strictly and hold it against a model; fields that the model does not know are ignored.

    Raises:
        BadRequestError: no JSON.
        UnprocessableError: a key given twice, NaN, a lone surrogate, a NUL, too many levels; the text names where.
        ValidationError: a value that the model refuses.
    """
    try:
        text = raw.decode() if isinstance(raw, bytes) else raw
        value = json.loads(text, object_pairs_hook=_object)
    except UnprocessableError:  # itself a ValueError
        raise
    except RecursionError as error:
        raise UnprocessableError(f"json: more than {MAX_DEPTH} levels.") from error
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError, and a number of thousands of digits
        raise BadRequestError("The body is no JSON: send an object, in UTF-8.") from error
    _refuse_odd(value)
    try:
        return model.model_validate(value)
    except ModelError as error:
        raise ValidationError([dict(part) for part in error.errors(include_url=False, include_input=False)]) from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a dict of an object's pairs; RFC 8259 4 leaves open which of two equal keys counts, so none does."""
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise UnprocessableError(f"{_shown(twice)}: given twice.")
    return made


def _refuse_odd(value: Any) -> None:
    """Go through a value, without recursion, for what databases and other readers do not take."""
    waiting: list[tuple[str, Any, int]] = [("", value, 1)]
    while waiting:
        place, value, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise UnprocessableError(f"{_shown(place)}: more than {MAX_DEPTH} levels.")
        if isinstance(value, dict):
            _refuse_texts(place, *value)
            waiting += [(f"{place}.{name}" if place else name, item, depth + 1) for name, item in value.items()]
        elif isinstance(value, list):
            waiting += [(place, item, depth + 1) for item in value]
        elif isinstance(value, str):
            _refuse_texts(place, value)
        elif isinstance(value, int | float) and not _is_number(value):
            raise UnprocessableError(f"{_shown(place)}: a number that is none, or out of range.")


def _refuse_texts(place: str, *texts: str) -> None:
    for text in texts:
        if "\x00" in text:
            raise UnprocessableError(f"{_shown(place)}: a text holds NUL.")
        if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
            raise UnprocessableError(f"{_shown(place)}: a text holds half of a surrogate pair.")


def _is_number(value: float) -> bool:
    return math.isfinite(value) if isinstance(value, float) else -_LARGEST < value < _LARGEST


def _shown(place: str) -> str:
    """Show a place of what a client sent: its beginning, and nothing that is not text."""
    return place[:_SHOWN].encode("ascii", "backslashreplace").decode() or "json"
