"""`manage.py demo`: fill the library with sample files, made by `assets.media.samples` from nothing."""

from __future__ import annotations

import io
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from assets.access import LOCAL_USER_ID
from assets.media.samples import Sample, samples
from assets.models import Asset
from assets.services import AssetDetails, create_asset
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
        there = set(Asset.objects.filter(owner=owner, workflow_id=WORKFLOW).values_list("name", flat=True))
        made = 0
        for sample in samples():
            if sample.name in there:
                continue
            try:
                create_asset(
                    owner=owner, name=sample.name, content=io.BytesIO(sample.content), details=_details(sample)
                )
            except StorageError as error:
                raise CommandError(f"{sample.name}: {error}") from error
            made += 1
        self.stdout.write(f"{made} sample assets made, {len(there)} were there.")


def _details(sample: Sample) -> AssetDetails:
    kind = sample.node.partition(".")[2].lower()
    return AssetDetails(
        workflow_id=WORKFLOW, job_id=f"demo-{kind}", node_id=sample.node, metadata=dict(sample.metadata),
        tags=("demo", kind),
    )  # fmt: skip
