"""System checks of the configuration: what only the machine can tell, and what starts but will disappoint.

What cannot be served at all is refused earlier, by `storagecache.environment`. Each hint is the remedy; the ids are
explained in docs/troubleshooting.md. Nothing here talks to a server.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, register
from django.core.checks import Warning as Caution

from storagecache import casts
from storagecache.environment import Environment

_KEY_LENGTH = 50  # characters; as Django's own check of a deployment


@register(Tags.files)
def check_environment(app_configs: Sequence[Any] | None = None, **_: Any) -> list[CheckMessage]:
    """Check the environment of this process."""
    return findings(Environment.current())


def findings(environment: Environment) -> list[CheckMessage]:
    """Give what is wrong with an environment; looks at folders, makes none."""
    checks = (_half_of_keys, _folders, _staging, _nested, _hosts, _short_key)
    return [message for check in checks for message in check(environment)]


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
        if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
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


def _nearest(folder: Path) -> Path:
    """Give the folder itself or, while it is not made, the nearest parent that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())
