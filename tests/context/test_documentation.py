"""The examples of docs/workflows.md, run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

from django.contrib.auth.models import User

from assets.models import Derivation
from storagecache.environment import Environment
from tests.assets.conftest import Buckets

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "workflows.md"


def test_examples_of_the_page_work(disk: Buckets, owner: User, workspace: Path) -> None:
    Environment.get_node_cache().clear()
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 7
    names = {"user": owner, "workspace_dir": workspace}
    for block in blocks:
        try:
            exec(compile(block, str(PAGE), "exec"), names)
        except AssertionError as error:
            error.add_note(f"node cache: {Environment.get_node_cache().stats()}")  # why was it computed again?
            raise
    assert Derivation.objects.filter(asset__name="small.png", source__name="black.png").exists()
