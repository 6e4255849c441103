"""What every route of the API does with a request and an answer: who asks, known parameters, JSON in and out."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final, TypeVar

from django.http import HttpRequest, HttpResponse
from ninja import NinjaAPI, Router
from ninja.errors import ValidationError
from ninja.security.base import AuthBase
from pydantic import BaseModel
from pydantic import ValidationError as ModelError

from assets.access import reader_id, writer
from assets.api.errors import AuthenticationRequiredError, UnprocessableError
from assets.api.schemas import ErrorOut
from assets.models import Asset
from assets.services.metadata import parse_json
from assets.serving.conditions import matches_strongly
from storagecache.errors import PreconditionFailedError

Model = TypeVar("Model", bound=BaseModel)
View = TypeVar("View", bound=Callable[..., Any])
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
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


def reads(routes: NinjaAPI | Router, path: str, **documented: Any) -> Callable[[View], View]:
    """Join a route that reads: GET, and HEAD, whose answer `assets.serving.framing` leaves without its body.

    RFC 9110 9.1 asks every server for both. Arguments are those of ninja's `get`.
    """

    def join(view: View) -> View:
        routes.api_operation(["HEAD"], path, include_in_schema=False)(view)
        return routes.get(path, **documented)(view)

    return join


def refuse_unknown(
    request: HttpRequest,
    known: type[BaseModel] | None = None,
    *,
    names: Collection[str] = (),
    dynamic: str = "\x00",
) -> dict[str, str]:
    """Refuse query parameters that would silently do nothing, or say two things; give those that begin with `dynamic`.

    Raises:
        UnprocessableError: naming the parameter.
    """
    fields, found = {*(known.model_fields if known else ()), *names}, {}
    for name, values in request.GET.lists():
        if name.startswith(dynamic):
            found[name] = values[0]
        elif name not in fields:
            raise UnprocessableError(f"{shown(name)}: there is no such query parameter.")
        if len(values) > 1:
            raise UnprocessableError(f"{shown(name)}: given {len(values)} times.")
    return found


def shown(name: str) -> str:
    """Give what a client sent as it can stand in a message: cut, and with nothing that a terminal would act on."""
    return name[:_SHOWN].encode("unicode_escape").decode()


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


def read_json(raw: bytes | str, model: type[Model]) -> Model:
    """Read a JSON text strictly and hold it against a model; fields that the model does not know are ignored.

    Raises:
        InvalidJsonError: no JSON, or one that two readers may understand differently.
        ValidationError: a value that the model refuses; the answer names its field.
    """
    value = parse_json(raw)
    try:
        return model.model_validate(value)
    except ModelError as error:
        raise ValidationError([dict(part) for part in error.errors(include_url=False, include_input=False)]) from error
