"""The OpenAPI document as a whole: every reference leads somewhere, every operation has a name of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from assets.api.routes import api

DOCUMENT: dict[str, Any] = api.get_openapi_schema(path_prefix="/api")


def references(part: object) -> Iterator[str]:
    """Give every `$ref` below a part of the document."""
    if isinstance(part, dict):
        if isinstance(found := part.get("$ref"), str):
            yield found
        part = list(part.values())
    if isinstance(part, list):
        for child in part:
            yield from references(child)


def test_document_has_what_each_reference_names() -> None:
    there = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}
    assert set(references(DOCUMENT)) <= there


def test_document_names_each_operation_once() -> None:
    names = Counter(operation["operationId"] for item in DOCUMENT["paths"].values() for operation in item.values())
    assert [name for name, count in names.items() if count > 1] == []
