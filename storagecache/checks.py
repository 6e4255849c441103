"""System checks of the configuration: what only the machine can tell, and what starts but will disappoint.

What cannot be served at all is refused earlier, by `storagecache.environment`. Each hint is the remedy; the ids are
explained in docs/troubleshooting.md. Nothing here talks to a server.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from django.core.checks import CheckMessage, Error, Tags, register
from django.core.checks import Warning as Caution
from django.utils.http import is_same_domain

from storagecache import casts
from storagecache.environment import Environment
from storagecache.sources import SECRETS_FILE

_KEY_LENGTH = 50  # characters; as Django's own check of a deployment
_LEAST_BYTES: Final = 1 << 30  # free on a disk
_LEAST_INODES: Final = 10_000
_LEAST_FILES: Final = 4096  # 600 threads, their files and their clients

Check: TypeAlias = Callable[[Environment], Iterator[CheckMessage]]


@register(Tags.files)
def check_environment(app_configs: Sequence[Any] | None = None, **_: Any) -> list[CheckMessage]:
    """Check the environment of this process."""
    return findings(Environment.current())


def findings(environment: Environment) -> list[CheckMessage]:
    """Give what is wrong with an environment; looks at folders, makes none."""
    return [message for _, check in CHECKS for message in check(environment)]


def _half_of_keys(environment: Environment) -> Iterator[CheckMessage]:
    keys = {
        "S3_ACCESS_KEY_ID": environment.s3_access_key_id,
        "S3_SECRET_ACCESS_KEY": environment.s3_secret_access_key,
    }
    missing = [name for name, value in keys.items() if not value]
    if environment.storage_kind == "s3" and len(missing) == 1:
        yield Error(
            f"Half of the S3 keys are set: {missing[0]} is missing.",
            hint=f"Set {missing[0]}, or unset the other one to use the role of this machine.",
            id="storagecache.E001",
        )


def _areas(environment: Environment) -> dict[str, Path]:
    """Give the folders of bytes by the variable that moves them."""
    if environment.storage_kind != "filesystem":
        return {}
    return {
        "ASSET_FOLDER": environment.asset_folder,
        "TEMP_FOLDER": environment.temp_folder,
        "STAGING_FOLDER": environment.staging_folder,
        "NODETOOL_CONFIG_DIR": environment.cache_folder,
    }


def _folders(environment: Environment) -> Iterator[CheckMessage]:
    for name, folder in _areas(environment).items():
        nearest = _nearest(folder)
        if not nearest.is_dir() or not _may(nearest, os.W_OK | os.X_OK):
            reason = "cannot be written" if nearest.is_dir() else "is not a folder"
            yield Error(
                f"{folder} cannot be used: {nearest} {reason}.",
                hint=f"Give {nearest} to the user who runs the service, mount it, or set {name} to another folder.",
                id="storagecache.E002",
            )


def _staging(environment: Environment) -> Iterator[CheckMessage]:
    if environment.storage_kind != "filesystem":
        return
    staging, assets = _nearest(environment.staging_folder), _nearest(environment.asset_folder)
    if staging.stat().st_dev != assets.stat().st_dev:
        yield Error(
            f"Uploads are staged in {environment.staging_folder}, on another filesystem than the assets.",
            hint=f"Unset STAGING_FOLDER, or set it to a folder on the filesystem of {environment.asset_folder}.",
            id="storagecache.E003",
        )


def _nested(environment: Environment) -> Iterator[CheckMessage]:
    areas = {name: folder for name, folder in _areas(environment).items() if name != "STAGING_FOLDER"}
    for name, folder in areas.items():
        for outer in areas.values():
            if outer in folder.parents:
                yield Caution(
                    f"{folder} lies inside {outer}, whose objects it will be taken for.",
                    hint=f"Set {name} to a folder beside {outer}.",
                    id="storagecache.W001",
                )


def _hosts(environment: Environment) -> Iterator[CheckMessage]:
    if not environment.allowed_hosts and not casts.is_loopback(environment.host):
        yield Caution(
            f"HOST is {environment.host}, but only loopback names are answered.",
            hint="Set ALLOWED_HOSTS to the host names by which others reach this service.",
            id="storagecache.W002",
        )


def _short_key(environment: Environment) -> Iterator[CheckMessage]:
    key = environment.secret_key
    if environment.env == "production" and key is not None and len(key) < _KEY_LENGTH:
        yield Caution(
            f"SECRET_KEY has fewer than {_KEY_LENGTH} characters.",
            hint="Set SECRET_KEY to 50 or more random characters: it signs sessions and URLs.",
            id="storagecache.W003",
        )


def _private_files(environment: Environment) -> Iterator[CheckMessage]:
    path = environment.config_folder / SECRETS_FILE
    if path.exists() and path.stat().st_mode & 0o077:
        yield Caution(
            f"{path} can be read by other users of this machine.",
            hint=f"Run `chmod 600 {path}`.",
            id="storagecache.W004",
        )


def _room(environment: Environment) -> Iterator[CheckMessage]:
    """Only a warning, even on a full disk: it must not keep the purge from running."""
    for folder in {os.stat(_nearest(path)).st_dev: path for path in _areas(environment).values()}.values():
        room = os.statvfs(_nearest(folder))
        free, inodes = room.f_bavail * room.f_frsize, room.f_favail
        if free < _LEAST_BYTES or (room.f_files and inodes < _LEAST_INODES):
            yield Caution(
                f"The filesystem of {folder} has {free >> 20:,} MiB and {inodes:,} inodes left.",
                hint="Free some: run `manage.py purge_temp`, empty the trash, or move ASSET_FOLDER to a larger disk.",
                id="storagecache.W005",
            )


def _own_name(environment: Environment) -> Iterator[CheckMessage]:
    host = urlsplit(environment.base_url).hostname or ""
    allowed = environment.allowed_hosts
    is_allowed = not allowed or any(name == "*" or is_same_domain(host, name.lower()) for name in allowed)
    if environment.api_url and not is_allowed:
        yield Caution(
            f"NODETOOL_API_URL names the host {host}, which ALLOWED_HOSTS lacks: links to assets get 400.",
            hint=f"Add {host} to ALLOWED_HOSTS, or correct NODETOOL_API_URL.",
            id="storagecache.W006",
        )


def _api_url(environment: Environment) -> Iterator[CheckMessage]:
    for_others = environment.env == "production" or not casts.is_loopback(environment.host)
    if environment.api_url is None and for_others:
        yield Caution(
            f"NODETOOL_API_URL is not set: other machines are given links to {environment.base_url}.",
            hint="Set NODETOOL_API_URL to the address by which clients reach this service.",
            id="storagecache.W007",
        )


def _domain(environment: Environment) -> Iterator[CheckMessage]:
    if environment.asset_domain and environment.storage_kind != "s3":
        yield Caution(
            f"ASSET_DOMAIN has no effect with the storage {environment.storage_kind}.",
            hint="Unset it, or set ASSET_STORAGE=s3; NODETOOL_API_URL is the address of this service.",
            id="storagecache.W008",
        )


def _open_files(_environment: Environment) -> Iterator[CheckMessage]:
    """The soft limit is raised at the start; the hard one is the system's."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < _LEAST_FILES:
        yield Caution(
            f"This process may open {most} files at once: fewer than busy clients need.",
            hint=f"Raise the hard limit to {_LEAST_FILES} or more (ulimit -Hn, LimitNOFILE of systemd).",
            id="storagecache.W009",
        )


CHECKS: Final[tuple[tuple[str, Check], ...]] = (
    ("the S3 keys are both there, or none", _half_of_keys),
    ("folders are there, or can be made, and are writable", _folders),
    ("uploads are staged on the filesystem of the assets", _staging),
    ("no area lies inside another", _nested),
    ("the hosts by which others call are allowed", _hosts),
    ("the secret key is long enough", _short_key),
    ("secrets are private", _private_files),
    ("disks have room", _room),
    ("the service answers to the name in its own links", _own_name),
    ("links lead where clients can follow", _api_url),
    ("the public domain is of use", _domain),
    ("enough files may be open", _open_files),
)


def _may(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def _nearest(folder: Path) -> Path:
    """Give the folder itself or, while it is not made, the nearest parent that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())
