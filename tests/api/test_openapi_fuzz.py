"""Every operation of the OpenAPI document, asked what the document allows and what it does not.

No answer is a fault of ours, and none has a status, a content type, a header or a shape that the document does not
name.
API_FUZZ_COUNT is how many requests are made together.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any, Final

import pytest
import schemathesis
from django.contrib.auth.models import User
from django.core.wsgi import get_wsgi_application
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from assets.api.routes import api
from tests.api.conftest import make_file, make_folder

COUNT: Final = int(os.environ.get("API_FUZZ_COUNT", 10_000 if os.environ.get("NIGHTLY") else 500))
STEPS: Final = 8  # of one chain
CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
OPERATIONS: Final = [
    (method, path) for path, item in api.get_openapi_schema(path_prefix="/api")["paths"].items() for method in item
]
SETTINGS: Final = settings(
    deadline=None,
    database=None,
    phases=[Phase.generate],  # what was asked before changes the answer, so that nothing can be made smaller
    suppress_health_check=list(HealthCheck),
    max_examples=max(1, COUNT // len(OPERATIONS) // 2),
)
pytestmark = pytest.mark.timeout(120 + COUNT)  # a tenth of a second for each would do on an idle machine
Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


def on_this_machine(application: Application) -> Application:
    """Ask as the local user."""

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        return application(environ | {"REMOTE_ADDR": "127.0.0.1", "SERVER_NAME": "127.0.0.1"}, start_response)

    return answer


@pytest.fixture
def document(transactional_db: None) -> Any:
    return schemathesis.openapi.from_wsgi("/api/openapi.json", app=on_this_machine(get_wsgi_application()))


@pytest.fixture
def library(transactional_db: None) -> list[str]:
    """Give the ids of a small tree, and of what is another user's."""
    owner, other = (User.objects.create_user(pk=key, username=str(key)) for key in (1, 2))
    top = make_folder(owner, "top")
    inner = make_folder(owner, "inner", top)
    files = [make_file(owner, f"f{n}", bytes([n]) * n, parent=parent) for n, parent in enumerate((None, top, inner), 1)]
    return [asset.pk.hex for asset in (*files, top, inner, make_file(other, "theirs"))] + ["1"]


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["allowed", "refused"])
@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=[" ".join(found) for found in OPERATIONS])
def test_operation_answers_only_what_the_document_says(
    document: Any, library: list[str], method: str, path: str, mode: GenerationMode
) -> None:
    operation = document[path][method.upper()]

    @SETTINGS
    @given(case=operation.as_strategy(generation_mode=mode), picks=st.lists(st.integers(0, 63), min_size=4, max_size=4))
    def ask(case: Any, picks: list[int]) -> None:
        name_what_is_there(case, library, picks)
        response = case.call()
        remember(response, library)
        case.validate_response(response, checks=CHECKS)

    ask()


def test_chains_of_operations_answer_only_what_the_document_says(document: Any, library: list[str]) -> None:
    """Go on with the ids that answers gave, along the document's own references."""

    asked: set[str] = set()

    class Chain(document.as_state_machine()):  # type: ignore[misc]  # made at run time
        def validate_response(self, response: Any, case: Any, **_kwargs: Any) -> None:
            asked.add(case.operation.label)
            case.validate_response(response, checks=CHECKS)

    count = max(1, COUNT // STEPS // 2)
    Chain.run(settings=settings(SETTINGS, max_examples=count, stateful_step_count=STEPS))
    assert len(asked) > 1


def name_what_is_there(case: Any, ids: list[str], picks: list[int]) -> None:
    """Put ids that exist where three in four requests name assets."""
    at, many, folder, kind = picks
    if case.path_parameters and "asset_id" in case.path_parameters and at % 4:
        case.path_parameters["asset_id"] = ids[at % len(ids)]
    body = case.body if isinstance(case.body, dict) else {}
    said = body.get("json", body)
    if isinstance(said, dict) and "asset_ids" in said and many % 4:
        said["asset_ids"] = [ids[many % len(ids)], ids[folder % len(ids)]]
    if "json" in body and isinstance(said, dict) and kind % 4:
        said |= {"content_type": "folder" if kind % 2 else "text/plain", "parent_id": ids[folder % len(ids)]}


def remember(response: Any, ids: list[str]) -> None:
    """Note what a request made, so that the next ones may name it."""
    if response.status_code == 200 and response.request.method == "POST" and len(ids) < 64:
        made = response.json() if "json" in response.headers.get("content-type", [""])[0] else {}
        if isinstance(made, dict) and "id" in made:
            ids.append(made["id"])
