"""Every operation of the API costs the same statements for one asset and for a hundred, and for each page of a list."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import pytest
from django.contrib.auth.models import User
from django.test import Client

from assets.api.routes import api
from assets.models import Asset, Derivation
from assets.services.usage_upkeep import fold
from tests.api.conftest import copies, make_file, make_folder
from tests.api.test_records import content, delete, get, post, put, statements

MANY: Final = 100
Ask = Callable[[Client, Asset, Asset], Any]  # a folder, and the file in it that all others are made from


def _read(path: str) -> Ask:
    return lambda client, folder, file: client.get(path.format(folder=folder.pk.hex, file=file.pk.hex))


def _ids(path: str) -> Ask:
    def ask(client: Client, folder: Asset, file: Asset) -> Any:
        ids = [asset.pk.hex for asset in Asset.objects.filter(parent=folder)]
        return client.post(path, json.dumps({"asset_ids": ids}), content_type="application/json")

    return ask


def _restore(client: Client, folder: Asset, file: Asset) -> Any:
    b"".join(delete(client, folder))
    return client.post(f"/api/assets/{folder.pk.hex}/restore")


def _create(client: Client, folder: Asset, file: Asset) -> Any:
    sources = [asset.pk.hex for asset in Asset.objects.filter(parent=folder)]
    return post(client, {"name": "new", "parent_id": folder.pk.hex, "sources": sources}, folder.pk.bytes)


# By the operation: at most so many statements on either engine, what asks for it, the status.
OPERATIONS: Final[dict[str, tuple[int, Ask, int]]] = {
    "list_assets": (2, _read("/api/assets?parent_id={folder}"), 200),
    "search_assets": (4, _read("/api/assets/search?query=copy"), 200),
    "create_asset": (15, _create, 200),
    "asset_urls": (3, _ids("/api/assets/urls"), 200),  # the other one is of the test itself
    "asset_thumbnail": (1, _read("/api/assets/{file}/thumbnail"), 404),
    "download_assets": (8, _ids("/api/assets/download"), 200),
    "asset_lineage": (7, _read("/api/assets/{file}/lineage"), 200),
    "usage": (4, _read("/api/usage"), 200),
    "asset_summary": (6, _read("/api/assets/{folder}/summary"), 200),
    "list_packages": (0, _read("/api/assets/packages"), 200),
    "get_asset_by_name": (1, _read("/api/assets/by-filename/first"), 200),
    "get_asset": (1, lambda client, folder, file: get(client, file), 200),
    "change_asset": (8, lambda client, folder, file: put(client, folder, {"name": "b", "parent_id": "1"}), 200),
    "delete_asset": (22, lambda client, folder, file: delete(client, folder, "?permanent=1"), 200),
    "replace_asset_content": (12, lambda client, folder, file: content(client, file, file.pk.bytes), 200),
    "restore_asset": (28, _restore, 200),  # and the deletion before
    "get_asset_tree": (2, _read("/api/assets/{folder}/recursive"), 200),
}

IN_BATCHES: Final = {
    "delete_asset",
    "restore_asset",
}  # each costs the same, but that SQLite takes long inserts in parts


def operations() -> set[str]:
    """Give the ids of all operations of the OpenAPI document."""
    paths = api.get_openapi_schema()["paths"].values()
    return {operation["operationId"] for path in paths for operation in path.values()}


def shelf(owner: User, count: int) -> tuple[Asset, Asset]:
    """Make a folder with a file and `count` others made from it, which have tags and metadata."""
    folder = make_folder(owner, f"shelf {count}")
    file = make_file(owner, "first", b"%d" % count, parent=folder, tags=("x",), metadata={"seed": 1})
    Derivation.objects.bulk_create(Derivation(source=file, asset=made) for made in copies(file, count))
    fold()
    return folder, file


def _cost(client: Client, shelf: tuple[Asset, Asset], ask: Ask, status: int) -> int:
    return statements(lambda: ask(client, *shelf), status)


def test_every_operation_is_in_the_table() -> None:
    assert set(OPERATIONS) == operations()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_operation_costs_the_same_statements_for_one_and_many(client: Client, owner: User, operation: str) -> None:
    limit, ask, status = OPERATIONS[operation]
    costs = [_cost(client, shelf(owner, count), ask, status) for count in (1, MANY)]
    assert max(costs) <= limit
    assert costs[0] == costs[1] or operation in IN_BATCHES


@pytest.mark.parametrize("size", [1, MANY])
@pytest.mark.parametrize("order", ["created", "-created", "name", "-size"])
@pytest.mark.parametrize(
    "narrowed", ["parent_id={folder}", "content_type=text", "parent_id={folder}&content_type=text"]
)
def test_deep_page_costs_the_statements_of_the_first(
    client: Client, owner: User, order: str, narrowed: str, size: int
) -> None:
    folder, _ = shelf(owner, 3 * MANY)
    path = f"/api/assets?order={order}&{narrowed.format(folder=folder.pk.hex)}&page_size="
    far = client.get(f"{path}{2 * MANY}").json()["next"]
    assert far
    first, deep = (statements(lambda c=cursor: client.get(f"{path}{size}&cursor={c}")) for cursor in ("", far))  # type: ignore[misc]
    assert first == deep <= 3


def test_deep_page_of_a_search_costs_the_statements_of_the_first(client: Client, owner: User) -> None:
    shelf(owner, 3 * MANY)
    path = "/api/assets/search?query=copy&page_size="
    far = client.get(f"{path}{2 * MANY}").json()["next_cursor"]
    costs = {statements(lambda s=size, c=c: client.get(f"{path}{s}&cursor={c}")) for size in (1, 99) for c in ("", far)}  # type: ignore[misc]
    assert len(costs) == 1
    assert max(costs) <= 4
