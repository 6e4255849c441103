"""What a job sees of this machine: environment and inputs -> mounts, variables and paths. Pure.

A container sees fixed folders (`/workspace`, `/assets`, `/scratch` ...); a thread or a subprocess sees the same
variables with the folders of this machine in them. Nothing here looks at a disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath as Path
from types import MappingProxyType
from typing import Final

from storagecache.environment import Environment

WORKSPACE: Final = Path("/workspace")
ASSETS: Final = Path("/assets")
INPUTS: Final = Path("/inputs")  # inputs outside of the asset folder, such as temp objects
SCRATCH: Final = Path("/scratch")
TEMPORARY: Final = Path("/tmp")  # noqa: S108  # the same scratch space, for programs that know no TMPDIR
CODE: Final = Path("/code")
SECRETS: Final = Path("/run/secrets")
CONTROL_NAME: Final = ".assets"  # what the job is told, inside the workspace; it cannot write there
OUTPUTS_NAME: Final = "outputs"
MANIFEST_NAME: Final = "manifest.json"
REQUEST_NAME: Final = "request.json"
RESULT_NAME: Final = ".result.json"  # as in `inside`, which may import nothing
_FETCHED_NAME: Final = "inputs"  # inside the control folder: copies of inputs that have no file the job may open
_NODE_FOLDERS: Final = (
    ("FONT_PATH", "font_path", Path("/fonts")),
    ("COMFY_FOLDER", "comfy_folder", Path("/comfy")),
    ("CHROMA_PATH", "chroma_path", Path("/chroma")),
)
_BUCKET_VARIABLES: Final = (
    ("ASSET_BUCKET", "asset_bucket"),
    ("ASSET_TEMP_BUCKET", "asset_temp_bucket"),
    ("ASSET_DOMAIN", "asset_domain"),
    ("ASSET_TEMP_DOMAIN", "asset_temp_domain"),
    ("S3_ENDPOINT_URL", "s3_endpoint_url"),
    ("S3_REGION", "s3_region"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """An asset that a job may read, and where its bytes lie."""

    id: str  # 32 hex digits
    name: str
    key: str  # of the object
    sha256: str
    content_type: str
    size: int  # bytes
    local_path: str | None  # on this machine; None where the bucket is elsewhere


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The folders of one job on this machine."""

    workspace: str
    scratch: str
    secrets: str
    code: str | None = None  # of the callable, when the image does not hold it

    @property
    def control(self) -> Path:
        """The folder with the manifest and the request."""
        return Path(self.workspace) / CONTROL_NAME


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder or file of this machine that a container sees."""

    source: str
    target: str
    writable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MountPlan:
    """What a job gets: mounts (none outside a container), variables, and the path of each input by its id.

    `to_fetch` names the inputs whose bytes have to be put at `fetched_path` before the job starts.
    """

    mounts: tuple[Mount, ...] = ()
    variables: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    paths: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    to_fetch: tuple[Input, ...] = ()


def plan_for_container(
    environment: Environment, layout: Layout, inputs: Iterable[Input], *, secret_files: Iterable[str] = ()
) -> MountPlan:
    """Plan a job in a container. `secret_files` are the names of the secrets that travel as files.

    The whole asset folder is seen only where there is one user (AUTH_PROVIDER=local); else the job sees its inputs
    and nothing of anybody else.
    """
    found = tuple(inputs)
    placed = {each.id: _place_in_container(environment, each) for each in found}
    local = [mount for each in found if (mount := _mount_of(environment, each, placed[each.id]))]
    names = tuple(secret_files)
    secret_mounts = (Mount(str(Path(layout.secrets) / name), str(SECRETS / name)) for name in names)
    return MountPlan(
        mounts=(*_fixed_mounts(environment, layout), *_node_mounts(environment), *_unique(local), *secret_mounts),
        variables=_read_only(
            _storage_variables(environment, str(ASSETS))
            | _folder_variables(environment, {name: str(target) for name, _, target in _NODE_FOLDERS})
            | _own_variables(str(WORKSPACE), str(SCRATCH))
            | ({"PYTHONPATH": str(CODE)} if layout.code else {})
            | {f"{name}_FILE": str(SECRETS / name) for name in names}
        ),
        paths=_read_only({each.id: str(placed[each.id]) for each in found}),
        to_fetch=tuple(each for each in found if each.local_path is None),
    )


def plan_for_host(
    environment: Environment, layout: Layout, inputs: Iterable[Input], *, secret_files: Iterable[str] = ()
) -> MountPlan:
    """Plan a job on this machine, in a thread or a subprocess: the same variables, with this machine's folders."""
    found = tuple(inputs)
    seen = tuple(each for each in found if _is_seen_on_host(environment, each))
    own = {name: str(getattr(environment, attribute) or "") for name, attribute, _ in _NODE_FOLDERS}
    assets = str(environment.asset_folder) if _sees_all(environment) else str(fetched_folder(layout))
    return MountPlan(
        variables=_read_only(
            _storage_variables(environment, assets)
            | _folder_variables(environment, own)
            | _own_variables(layout.workspace, layout.scratch)
            | ({"PYTHONPATH": layout.code} if layout.code else {})
            | {f"{name}_FILE": str(Path(layout.secrets) / name) for name in secret_files}
        ),
        paths=_read_only(
            {each.id: str(each.local_path if each in seen else fetched_path(layout, each)) for each in found}
        ),
        to_fetch=tuple(each for each in found if each not in seen),
    )


def standing_mounts(environment: Environment) -> tuple[Mount, ...]:
    """Give the folders that every container sees, whatever its job: the asset folder and those of nodes."""
    assets = (Mount(str(environment.asset_folder), str(ASSETS)),) if _sees_all(environment) else ()
    return (*assets, *_node_mounts(environment))


def fetched_folder(layout: Layout) -> Path:
    """Give the folder, on this machine, of the inputs that are put there for this job alone."""
    return layout.control / _FETCHED_NAME


def fetched_path(layout: Layout, source: Input) -> Path:
    """Give where, on this machine, the bytes of an input of `to_fetch` belong."""
    return fetched_folder(layout) / source.key


def _sees_all(environment: Environment) -> bool:
    return environment.storage_kind == "filesystem" and environment.auth == "local"


def _is_seen_on_host(environment: Environment, source: Input) -> bool:
    return source.local_path is not None and environment.auth == "local"


def _fixed_mounts(environment: Environment, layout: Layout) -> tuple[Mount, ...]:
    """Give workspace and scratch to write in; what the job is told, its code and the asset folder to read."""
    return (
        Mount(layout.workspace, str(WORKSPACE), writable=True),
        Mount(str(layout.control), str(WORKSPACE / CONTROL_NAME)),
        Mount(layout.scratch, str(SCRATCH), writable=True),
        Mount(layout.scratch, str(TEMPORARY), writable=True),
        *([Mount(layout.code, str(CODE))] if layout.code else []),
        *([Mount(str(environment.asset_folder), str(ASSETS))] if _sees_all(environment) else []),
    )


def _node_mounts(environment: Environment) -> tuple[Mount, ...]:
    folders = ((getattr(environment, attribute), target) for _, attribute, target in _NODE_FOLDERS)
    return tuple(Mount(str(folder), str(target)) for folder, target in folders if folder)


def _mount_of(environment: Environment, source: Input, target: Path) -> Mount | None:
    """Give the mount of one file, unless a folder that is mounted anyway holds it."""
    if source.local_path is None or (_sees_all(environment) and target.is_relative_to(ASSETS)):
        return None
    return Mount(source.local_path, str(target))


def _place_in_container(environment: Environment, source: Input) -> Path:
    if source.local_path is None:
        return WORKSPACE / CONTROL_NAME / _FETCHED_NAME / source.key
    inside = Path(source.local_path).is_relative_to(Path(environment.asset_folder))
    return (ASSETS if inside else INPUTS) / source.key


def _unique(mounts: Iterable[Mount]) -> Iterable[Mount]:
    """Drop repetitions: two assets may share one object."""
    return dict.fromkeys(mounts)


def _storage_variables(environment: Environment, assets: str) -> dict[str, str]:
    """Name the asset folder, or with S3 the bucket; its keys are secrets, and travel only when they are named."""
    if environment.storage_kind != "s3":
        return {"ASSET_STORAGE": "filesystem", "ASSET_FOLDER": assets}
    named = ((name, getattr(environment, attribute)) for name, attribute in _BUCKET_VARIABLES)
    return {"ASSET_STORAGE": "s3"} | {name: str(value) for name, value in named if value}


def _folder_variables(environment: Environment, folders: Mapping[str, str]) -> dict[str, str]:
    return {name: folders[name] for name, attribute, _ in _NODE_FOLDERS if getattr(environment, attribute)}


def _own_variables(workspace: str, scratch: str) -> dict[str, str]:
    """Name the job's own folders. What nodes call temporary is scratch space, and never the temp bucket."""
    return {"WORKSPACE_DIR": workspace, "TEMP_FOLDER": scratch, "TMPDIR": scratch, "HOME": scratch}


def _read_only(values: dict[str, str]) -> Mapping[str, str]:
    return MappingProxyType(values)
