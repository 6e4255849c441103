"""/api/assets/{id} and its neighbours: one asset or one tree, read, made, changed, deleted and restored.

A route checks its arguments, calls a service and writes the answer. Lists and search live elsewhere.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.contrib.auth import get_user_model
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.utils import timezone
from ninja import Query, Router
from pydantic import BaseModel

from assets.api.errors import UnprocessableError
from assets.api.forms import AssetForm, UploadingCaller, close_form, read_form
from assets.api.record_schemas import (
    MAX_USES,
    AssetChange,
    AssetCreate,
    DeletedOut,
    DeleteQuery,
    PackagesOut,
    TreeOut,
    asset_ref,
)
from assets.api.requests import (
    caller_id,
    errors,
    json_answer,
    read_json,
    reads,
    record_check,
    record_etag,
    refuse_unknown,
)
from assets.api.schemas import AssetOut, asset_out, home_out
from assets.links import Links, current_links
from assets.models import Asset
from assets.services import AssetDetails, put_staged, release_connection, replace_content
from assets.services.folders import FOLDER, create_folder, find_folder
from assets.services.lineage import Uses, used_beyond
from assets.services.listing import find_asset, home_since
from assets.services.records import RecordChange, Tree, change_record, find_by_name, read_tree
from assets.services.trash import delete_tree, restore, trash_tree
from assets.serving.uploads import claimed_content_type, request_body, write_precondition
from storagecache.errors import ObjectExistsError, ObjectNotFoundError

__all__ = ["CREATED", "FORM", "UploadingCaller", "create", "router"]

router = Router()
_BODY_ERRORS: Final = (408, 411, 413, 507)
CREATED: Final[dict[int, Any]] = {200: AssetOut, **errors(404, 409, *_BODY_ERRORS)}


def _request_body(content_type: str, schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Document a body that a route reads by itself."""
    return {"requestBody": {"required": True, "content": {content_type: {"schema": schema, **more}}}}


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    """Write a model's schema; what it refers to is among the components, where other models have put it."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    return schema


FORM: Final = _request_body(
    "multipart/form-data",
    {
        "type": "object",
        "required": ["json"],
        "properties": {"file": {"type": "string", "format": "binary"}, "json": _schema(AssetCreate)},
    },
    encoding={"json": {"contentType": "application/json"}},
)
_RAW: Final = _request_body("*/*", {"type": "string", "format": "binary"})
_CHANGE: Final = _request_body("application/json", _schema(AssetChange))


def create(request: HttpRequest) -> HttpResponse:
    """Make a file of the form's part `file`, or a folder; its part `json` says the rest.

    The answer's ETag is the revision, for If-Match.
    """
    try:
        refuse_unknown(request)
        form = read_form(request)
        if form.json is None:
            raise UnprocessableError("json: the part is missing.")
        asset = _create(caller_id(request), form, read_json(form.json, AssetCreate))
    finally:
        close_form(request)
    return _record(asset)


@reads(
    router,
    "/assets/packages",
    response={200: PackagesOut, **errors()},
    summary="List packages' assets",
    operation_id="list_packages",
)
def list_packages(request: HttpRequest) -> HttpResponse:
    """Give nothing: NodeTool's clients ask for it."""
    refuse_unknown(request)
    return json_answer(PackagesOut(assets=[]))


@reads(
    router,
    "/assets/by-filename/{path:name}",
    response={200: AssetOut, **errors(404)},
    summary="Get an asset by its name",
    operation_id="get_asset_by_name",
)
def get_by_name(request: HttpRequest, name: str) -> HttpResponse:
    """Give the newest asset of this name, or the one whose key it is."""
    refuse_unknown(request)
    return _record(find_by_name(caller_id(request), name))


@reads(
    router,
    "/assets/{asset_id}",
    response={200: AssetOut, **errors(404)},
    summary="Get an asset",
    operation_id="get_asset",
)
def get_asset(request: HttpRequest, asset_id: str) -> HttpResponse:
    """Give one asset; the user's own id gives the home folder. The ETag is the revision, for If-Match."""
    refuse_unknown(request)
    caller = caller_id(request)
    if asset_id == str(caller):
        return json_answer(home_out(caller, home_since(caller)))
    return _record(find_asset(caller, asset_id))


@router.put(
    "/assets/{asset_id}",
    response={200: AssetOut, **errors(404, 408, 409, 412, 413, 507)},
    summary="Change an asset",
    operation_id="change_asset",
    openapi_extra=_CHANGE,
)
def change_asset(request: HttpRequest, asset_id: str) -> HttpResponse:
    """Rename, move, tag, change metadata, type or text; what is null or absent stays. If-Match names the revision."""
    refuse_unknown(request)
    caller = caller_id(request)
    _refuse_home(caller, asset_id)
    body = read_json(request.body, AssetChange)
    tags = None if body.tags is None else tuple(dict.fromkeys(body.tags))
    fields = body.model_dump(exclude={"tags"})
    return _record(change_record(caller, asset_id, RecordChange(tags=tags, **fields), check=record_check(request)))


@router.put(
    "/assets/{asset_id}/content",
    response={200: AssetOut, **errors(404, 412, *_BODY_ERRORS)},
    summary="Replace an asset's bytes",
    operation_id="replace_asset_content",
    openapi_extra=_RAW,
)
def replace_asset_content(request: HttpRequest, asset_id: str) -> HttpResponse:
    """Replace the bytes by the body, as PUT /storage/ does: preconditions and the ETag are those of the bytes."""
    refuse_unknown(request)
    asset = find_asset(caller_id(request), asset_id)
    if asset.is_folder:
        raise UnprocessableError("asset_id: a folder has no bytes.")
    body, expected = request_body(request)
    replaced = replace_content(
        asset,
        body,
        content_type=claimed_content_type(request),
        expected=expected,
        check=write_precondition(request),
    )
    etag = replaced.object.etag if replaced.object else ""
    return json_answer(asset_out(replaced, current_links()), ETag=etag)


@router.delete(
    "/assets/{asset_id}",
    response={200: DeletedOut, **errors(404, 409, 412)},
    summary="Delete an asset or a tree",
    operation_id="delete_asset",
)
def delete_asset(request: HttpRequest, asset_id: str, query: Query[DeleteQuery]) -> HttpResponseBase:
    """Move an asset, with all below it, to the trash; the answer is streamed. Ask again to carry on what was cut off.

    When the asset itself is not among the ids, somebody restored it meanwhile. Last are the assets that were made from
    what went; they stay as they are.
    """
    refuse_unknown(request, DeleteQuery)
    caller = caller_id(request)
    _refuse_home(caller, asset_id)
    delete = delete_tree if query.permanent else trash_tree
    wanted = _uuid(asset_id)
    uses = used_beyond(caller, wanted, limit=MAX_USES)  # before what tells it goes, too
    batches = delete(caller, wanted, check=record_check(request))
    first = next(batches, [])
    text = _deleted(itertools.chain([first], batches), uses)
    kind = HttpResponse if wanted in first else StreamingHttpResponse
    return kind(text, content_type="application/json", headers={"Cache-Control": "private, no-store"})


@router.post(
    "/assets/{asset_id}/restore",
    response={200: AssetOut, **errors(404, 409)},
    summary="Restore an asset or a tree",
    operation_id="restore_asset",
)
def restore_asset(request: HttpRequest, asset_id: str) -> HttpResponse:
    """Bring back what the deletion of this asset took; where its folder is gone, to home."""
    refuse_unknown(request)
    caller = caller_id(request)
    restore(caller, _uuid(asset_id))
    return _record(find_asset(caller, asset_id))


@reads(
    router,
    "/assets/{asset_id}/recursive",
    response={200: TreeOut, **errors(404)},
    summary="Get a tree",
    operation_id="get_asset_tree",
)
def get_tree(request: HttpRequest, asset_id: str) -> HttpResponse:
    """Give an asset with everything below it, at most 10,000 assets; the user's own id gives all there is."""
    refuse_unknown(request)
    caller = caller_id(request)
    if asset_id == str(caller):
        root, folder_id = home_out(caller, home_since(caller)), None
    else:
        asset = find_asset(caller, asset_id)
        root, folder_id = asset_out(asset, current_links()), asset.pk
    text = "".join(_tree_text(root, read_tree(caller, folder_id), folder_id, current_links()))
    return HttpResponse(text, content_type="application/json", headers={"Cache-Control": "private, no-store"})


def _create(caller: int, form: AssetForm, said: AssetCreate) -> Asset:
    parent = find_folder(caller, said.parent_id)
    release_connection()
    named: dict[str, Any] = {
        "workflow_id": said.workflow_id or "",
        "job_id": said.job_id or "",
        "node_id": said.node_id or "",
        "metadata": said.metadata or {},
    }
    tags = tuple(dict.fromkeys(said.tags or ()))
    if said.content_type == FOLDER:
        return _create_folder(caller, form, said, parent=parent, tags=list(tags), **named)
    if form.file is None:
        raise UnprocessableError("file: the part is missing; only a folder has none.")
    details = AssetDetails(
        name=_name(said, form.file.name or ""), parent=parent, tags=tags, duration=said.duration,
        expires_at=_end(said.expires_in), sources=said.source_ids(), **named,
    )  # fmt: skip
    form.file.content_type = said.content_type or form.file.content_type
    owner = get_user_model()(pk=caller)  # only its id is read
    return put_staged(form.file.staged(), owner=owner, bucket="assets", key=None, details=details).asset


def _create_folder(caller: int, form: AssetForm, said: AssetCreate, **fields: Any) -> Asset:
    if form.file is not None:
        raise UnprocessableError("file: a folder has no bytes.")
    if said.expires_in is not None:
        raise UnprocessableError("expires_in: a folder does not expire.")
    return create_folder(owner_id=caller, name=_name(said, ""), **fields)


def _name(said: AssetCreate, file_name: str) -> str:
    if said.name is not None:
        return said.name
    name = file_name.strip()
    if not name or not name.isprintable():
        raise UnprocessableError("name: there is none.")
    return name[:255]


def _end(expires_in: int | None) -> datetime | None:
    return None if expires_in is None else timezone.now() + timedelta(seconds=expires_in)


def _record(asset: Asset) -> HttpResponse:
    return json_answer(asset_out(asset, current_links()), ETag=record_etag(asset))


def _refuse_home(caller: int, asset_id: str) -> None:
    if asset_id == str(caller):
        raise ObjectExistsError("The home folder cannot be changed or deleted.")


def _uuid(asset_id: str) -> UUID:
    try:
        found = UUID(hex=asset_id)
    except ValueError:
        found = UUID(int=0)
    if found.hex != asset_id:
        raise ObjectNotFoundError("There is no asset with this id.")
    return found


def _deleted(batches: Iterator[list[UUID]], uses: Uses) -> Iterator[str]:
    """Write the answer of a deletion while it goes on."""
    lead = '{"deleted_asset_ids":['
    for batch in batches:
        if batch:
            yield lead + ",".join(json.dumps(found.hex) for found in batch)
            lead = ","
    yield "]" if lead == "," else lead + "]"
    if uses.assets:
        yield f',"used_by":[{",".join(asset_ref(asset).model_dump_json() for asset in uses.assets)}]'
    yield "}"


def _tree_text(root: AssetOut, tree: Tree, root_id: UUID | None, links: Links) -> Iterator[str]:
    """Write a tree, however deep: nothing here calls itself."""
    yield '{"assets":['
    yield _opened(root)
    open_lists = [iter(tree.children.get(root_id, ()))]
    is_first = True
    while open_lists:
        asset = next(open_lists[-1], None)
        if asset is None:
            open_lists.pop()
            is_first = False
            yield "]}"
            continue
        yield ("" if is_first else ",") + _opened(asset_out(asset, links))
        open_lists.append(iter(tree.children.get(asset.pk, ()) if asset.is_folder else ()))
        is_first = True
    yield "]}"


def _opened(asset: AssetOut) -> str:
    """Write an asset and begin the list of its children."""
    return f'{asset.model_dump_json()[:-1]},"children":['
