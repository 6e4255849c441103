"""A plugin of pytest, for `tests.postgresql`: leaves out what repeats itself with bytes in S3 or jobs in containers."""

from __future__ import annotations

import re
from typing import Final

import pytest

# In what a test is called, "s3" as a word: the fourth of parameters without names ends in it as well ("fields3").
REPEATED: Final = re.compile(r"(?<![a-z])s3(?![a-z0-9])|OnS3|docker")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect them."""
    repeated = [item for item in items if REPEATED.search(item.nodeid)]
    items[:] = [item for item in items if not REPEATED.search(item.nodeid)]
    config.hook.pytest_deselected(items=repeated)
