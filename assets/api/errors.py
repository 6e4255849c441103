"""The one place where errors become HTTP answers: `{"detail": "<text>"}`, as NodeTool's."""

from __future__ import annotations

import logging
from collections.abc import Callable

from django.conf import settings
from django.core.exceptions import RequestDataTooBig, TooManyFieldsSent, TooManyFilesSent
from django.db import OperationalError
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseNotAllowed,
    JsonResponse,
    UnreadablePostError,
)
from django.http.multipartparser import MultiPartParserError

from storagecache.errors import BackendUnavailableError, StorageError
from storagecache.storages.durable import NO_DESCRIPTORS, translated

logger = logging.getLogger(__name__)


class AuthenticationRequiredError(StorageError, PermissionError):
    """Nobody is known to be asking (RFC 9110 15.5.2)."""

    status = 401


class AccessDeniedError(StorageError, PermissionError):
    """Somebody is asking who may not, or from where they may not."""

    status = 403


class TooManyAttemptsError(StorageError, PermissionError):
    """Somebody guesses (RFC 6585 4)."""

    status = 429
    retry_after = 60


class BadRequestError(StorageError, ValueError):
    """The request contradicts itself, or a header cannot be read."""

    status = 400


class UnprocessableError(StorageError, ValueError):
    """A parameter is unknown or has a value that it may not have; the text names it (RFC 9110 15.5.21)."""

    status = 422


class LengthRequiredError(StorageError, ValueError):
    """A body of which nobody can tell whether it is whole (RFC 9110 15.5.12)."""

    status = 411


class SlowBodyError(StorageError, TimeoutError):
    """A body that trickles in, to hold a thread (RFC 9110 15.5.9)."""

    status = 408


def error_response(status: int, detail: str, *, retry_after: int | None = None) -> JsonResponse:
    """Make the JSON answer of an error; it is never stored."""
    response = JsonResponse({"detail": detail}, status=status, headers={"Cache-Control": "no-store"})
    if status == AuthenticationRequiredError.status:
        response["WWW-Authenticate"] = "Bearer"
    if retry_after is not None:
        response["Retry-After"] = str(retry_after)
    return response


class ErrorMiddleware:
    """Turns the errors of storages, services and the database into answers, wherever a view lets them out."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Pass the request on; what the API refuses for its method is put into words."""
        response = self._get_response(request)
        return _not_allowed(response) if isinstance(response, HttpResponseNotAllowed) else response

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Answer an error of ours; anything else is a fault and goes on to `server_error`."""
        return refusal(error)


def refusal(error: BaseException) -> HttpResponse | None:
    """Give the answer to an error of ours, of the catalog, of an unread body or for want of descriptors; else None."""
    if isinstance(error, UnreadablePostError):
        return _unreadable(error)
    if isinstance(error, OperationalError):
        logger.warning("catalog unavailable reason=%s", error)
        return _answer(BackendUnavailableError("The catalog does not answer. Try again."))
    if isinstance(error, OSError) and error.errno in NO_DESCRIPTORS:  # may strike wherever something is opened
        error = translated(error, "Cannot answer now")
    if not isinstance(error, StorageError):
        return None
    if error.status >= 500:
        logger.warning("request failed status=%d reason=%s", error.status, error)
    return _answer(error)


def _unreadable(error: UnreadablePostError) -> HttpResponse:
    """Answer a body that Django could not read: too slow (our own error, wrapped once or twice), or cut."""
    cause = error.__cause__
    while isinstance(cause, UnreadablePostError):
        cause = cause.__cause__
    if isinstance(cause, StorageError):
        return _answer(cause)
    return error_response(400, "The body of the request could not be read to its end.")


def _not_allowed(response: HttpResponseNotAllowed) -> HttpResponse:
    """Answer a method that an address does not know, naming those that it does (RFC 9110 15.5.6)."""
    worded = error_response(response.status_code, f"This address knows {response['Allow']} only.")
    worded["Allow"] = response["Allow"]
    return worded


def _answer(error: StorageError) -> HttpResponse:
    return error_response(error.status, str(error), retry_after=error.retry_after)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer what Django refuses: a body or form beyond its bounds, a malformed form, a hostile Host name."""
    if isinstance(exception, RequestDataTooBig):
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        discard = getattr(request.META["wsgi.input"], "discard", None)  # PacedInput, below Django
        if discard is not None:
            discard()
        return error_response(413, f"The JSON, or the fields of the form, have more than {limit} bytes.")
    if isinstance(exception, TooManyFieldsSent):
        return error_response(400, f"More than {settings.DATA_UPLOAD_MAX_NUMBER_FIELDS} fields were sent.")
    if isinstance(exception, TooManyFilesSent):
        return error_response(400, f"The form has more than {settings.DATA_UPLOAD_MAX_NUMBER_FILES} files.")
    if isinstance(exception, MultiPartParserError):
        return error_response(400, "The form cannot be read: it is malformed, or a part has too large a head.")
    return error_response(400, "The request is malformed, or names a host that this service does not serve.")


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer a refusal."""
    return error_response(403, "You may not do this.")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer an address where nothing is."""
    return error_response(404, "Not found.")


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer a fault of ours; what it was is in the log."""
    return error_response(500, "Something failed in the service; its log says what.")


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Answer a form that another site may have sent."""
    return error_response(403, "The request carries no valid CSRF token. Reload the page and try again.")
