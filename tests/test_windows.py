"""The same URL inside a window, whichever process makes it: whole services side by side, as configured by variables."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
START = 1_800_000_000  # of a window
PROGRAM = """
import sys
from datetime import UTC, datetime
from uuid import UUID
import django
django.setup()
from assets.links import Links
from assets.models import Asset, StoredObject
asset_id, now = UUID(int=7), datetime(2026, 1, 1, tzinfo=UTC)
stored = StoredObject(id=asset_id, storage="assets", bucket="a-bucket", key="07/x.png", size=1, sha256="0" * 64)
asset = Asset(owner_id=1, bucket="assets", key="a ü.png", object=stored, name="ü '.png", content_type="image/png")
print(Links.at(float(sys.argv[1])).url(asset))
"""
S3 = {
    "ASSET_STORAGE": "s3",
    "ASSET_BUCKET": "a-bucket",
    "S3_ENDPOINT_URL": "https://s3.example.org",
    "S3_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "S3_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
}
PLACES = {
    "disk": {"ASSET_STORAGE": "filesystem"},
    "s3": S3,
    "s3 with a domain": {**S3, "ASSET_DOMAIN": "https://files.example.org"},
    "s3 proxied": {**S3, "S3_DELIVERY": "proxy"},
}


def url_of_a_process(folder: Path, variables: dict[str, str], at: float, seed: str) -> str:
    """Make the URL in a process of its own."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "NODETOOL_CONFIG_DIR": str(folder / "config"),
        "DJANGO_SETTINGS_MODULE": "nodetool_site.settings",
        "PYTHONHASHSEED": seed,
        "SECRET_KEY": "k" * 60,
        **variables,
    }
    command = [sys.executable, "-c", PROGRAM, str(at)]
    done = subprocess.run(command, cwd=PROJECT, env=environment, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.mark.parametrize("place", PLACES)
def test_two_processes_give_one_url_inside_a_window_and_another_behind_it(place: str, tmp_path: Path) -> None:
    variables = PLACES[place]
    first, last, behind = (
        url_of_a_process(tmp_path / seed, variables, at, seed)
        for at, seed in ((START + 0.5, "1"), (START + 899.9, "2"), (START + 900.0, "3"))
    )
    mark = "X-Amz-Signature=" if place in {"s3", "s3 with a domain"} else "&signature="
    assert mark in first
    assert first == last != behind
