"""`manage.py demo`: fill the library with sample files, made by `assets.media.samples` from nothing."""

from __future__ import annotations

import io
from typing import Any, Final
from uuid import UUID

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from assets.access import LOCAL_USER_ID
from assets.media.samples import Sample, samples
from assets.models import Asset
from assets.services import AssetDetails, create_asset
from assets.services.folders import create_folder
from storagecache.environment import Environment
from storagecache.errors import StorageError

WORKFLOW: Final = "demo"


class Command(BaseCommand):
    """Make sample assets for the local user, once."""

    help = "Fills the library of the local user with sample images, sounds, films, tables, texts and models."

    def handle(self, *_args: Any, **_options: Any) -> None:
        """Store every sample that is not there yet; the running service makes their small pictures."""
        if Environment.current().storage_kind == "memory":
            raise CommandError("ASSET_STORAGE=memory: the objects would end with this command.")
        call_command("prepare", stdout=self.stdout)
        owner = get_user_model().objects.get(pk=LOCAL_USER_ID)
        there = dict(Asset.objects.filter(owner=owner, workflow_id=WORKFLOW).values_list("name", "pk"))
        count = len(there)
        for sample in samples():
            if sample.name not in there:
                there[sample.name] = _store(owner, sample, there).pk
        made = len(there) - count
        self.stdout.write(f"{made} samples and folders made, {count} were there.")


def _store(owner: AbstractBaseUser, sample: Sample, there: dict[str, UUID]) -> Asset:
    """Store one sample in its folder; `there` are the ids of what is stored by name, folders included."""
    if sample.folder and sample.folder not in there:
        folder = create_folder(owner_id=owner.pk, name=sample.folder, parent=None, workflow_id=WORKFLOW)
        there[sample.folder] = folder.pk
    details = _details(sample, there)
    try:
        return create_asset(owner=owner, name=sample.name, content=io.BytesIO(sample.content), details=details)
    except StorageError as error:
        raise CommandError(f"{sample.name}: {error}") from error


def _details(sample: Sample, there: dict[str, UUID]) -> AssetDetails:
    kind = sample.node.partition(".")[2].lower()
    return AssetDetails(
        parent=Asset.objects.get(pk=there[sample.folder]) if sample.folder else None,
        workflow_id=WORKFLOW, job_id=f"demo-{kind}", node_id=sample.node, metadata=dict(sample.metadata),
        tags=("demo", kind), sources=(there[sample.source],) if sample.source in there else (),
    )  # fmt: skip
