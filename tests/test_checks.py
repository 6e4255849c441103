"""System checks: each finding has an id that the documentation explains, and a hint that mends it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from django.core import checks as django_checks

from storagecache.checks import check_environment, findings
from storagecache.environment import Environment

PROJECT = Path(__file__).resolve().parent.parent
DOCUMENT = PROJECT / "docs" / "troubleshooting.md"
PRODUCTION = {
    "ENV": "production",
    "SECRET_KEY": "k" * 50,
    "ALLOWED_HOSTS": "a.example",
    "NODETOOL_API_URL": "https://a.example",
}


def found(tmp_path: Path, **process: str) -> dict[str, str]:
    """Give the hints by id; those of one id follow each other."""
    process = {"NODETOOL_CONFIG_DIR": str(tmp_path / "config"), **process}
    environment = Environment.load(process, project_folder=tmp_path, under_pytest=False)
    hints: dict[str, str] = {}
    for message in findings(environment):
        number = str(message.id).removeprefix("storagecache.")
        hints[number] = f"{hints.get(number, '')} {message.hint}".strip()
    return hints


@pytest.mark.parametrize(
    "process",
    [
        {},
        {"ASSET_STORAGE": "memory"},
        {"ASSET_STORAGE": "s3"},
        {"S3_ACCESS_KEY_ID": "a", "S3_SECRET_ACCESS_KEY": "s"},
        PRODUCTION,
    ],
    ids=str,
)
def test_configuration_in_order_has_no_findings(tmp_path: Path, process: dict[str, str]) -> None:
    assert found(tmp_path, **process) == {}
    assert not (tmp_path / "config").exists()


@pytest.mark.parametrize(
    ("given", "missing"),
    [("S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY"), ("S3_SECRET_ACCESS_KEY", "S3_ACCESS_KEY_ID")],
)
def test_half_of_the_s3_keys_is_an_error(tmp_path: Path, given: str, missing: str) -> None:
    assert found(tmp_path, **{given: "x"})["E001"].startswith(f"Set {missing}")


@pytest.mark.parametrize("name", ["ASSET_FOLDER", "TEMP_FOLDER", "STAGING_FOLDER"])
def test_folder_below_a_file_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    assert f"set {name} to another folder" in found(tmp_path, **{name: str(tmp_path / "file" / "x")})["E002"]


def test_staging_on_another_filesystem_is_an_error(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        if os.stat(elsewhere).st_dev == tmp_path.stat().st_dev:
            pytest.skip("one filesystem only")
        assert "Unset STAGING_FOLDER" in found(tmp_path, STAGING_FOLDER=elsewhere)["E003"]


def test_area_inside_another_is_a_warning(tmp_path: Path) -> None:
    hints = found(tmp_path, ASSET_FOLDER=str(tmp_path / "a"), TEMP_FOLDER=str(tmp_path / "a" / "t"))
    assert hints["W001"].startswith("Set TEMP_FOLDER")


def test_host_for_others_without_allowed_hosts_is_a_warning(tmp_path: Path) -> None:
    assert "ALLOWED_HOSTS" in found(tmp_path, HOST="0.0.0.0", AUTH_PROVIDER="token")["W002"]
    assert found(tmp_path, HOST="0.0.0.0", AUTH_PROVIDER="token", ALLOWED_HOSTS="a.example").keys() == {"W007"}


def test_short_key_in_production_is_a_warning(tmp_path: Path) -> None:
    assert found(tmp_path, **{**PRODUCTION, "SECRET_KEY": "k" * 49}).keys() == {"W003"}


def test_secrets_that_others_can_read_are_a_warning(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    path = tmp_path / "config" / "secrets.yaml"
    path.touch(mode=0o600)
    assert found(tmp_path) == {}
    path.chmod(0o640)
    assert found(tmp_path) == {"W004": f"Run `chmod 600 {path}`."}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount")
@pytest.mark.parametrize("options", ["size=4m", "size=2g,nr_inodes=50"])
def test_disk_that_is_nearly_full_is_a_warning(tmp_path: Path, options: str) -> None:
    (tmp_path / "small").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(tmp_path / "small")], check=True)
    try:
        assert "purge_temp" in found(tmp_path, ASSET_FOLDER=str(tmp_path / "small" / "assets"))["W005"]
    finally:
        subprocess.run(["umount", str(tmp_path / "small")], check=True)


def test_links_that_the_service_refuses_are_a_warning(tmp_path: Path) -> None:
    urls = {"https://a.example": set(), "https://www.a.example:8443/x": set(), "https://b.example": {"W006"}}
    for url, ids in urls.items():
        assert found(tmp_path, **{**PRODUCTION, "ALLOWED_HOSTS": ".a.example", "NODETOOL_API_URL": url}).keys() == ids


def test_links_to_loopback_for_other_machines_are_a_warning(tmp_path: Path) -> None:
    production = {name: value for name, value in PRODUCTION.items() if name != "NODETOOL_API_URL"}
    assert "NODETOOL_API_URL" in found(tmp_path, **production)["W007"]


def test_domain_of_a_bucket_without_a_bucket_is_a_warning(tmp_path: Path) -> None:
    assert found(tmp_path, ASSET_DOMAIN="cdn.example").keys() == {"W008"}
    assert found(tmp_path, ASSET_DOMAIN="cdn.example", ASSET_STORAGE="s3") == {}


def test_few_open_files_are_a_warning(tmp_path: Path) -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (1000, 1000));"
        "from storagecache import checks; print([m.id for m in checks._open_files(None)])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert answer.stdout.strip() == "['storagecache.W009']"


def test_check_is_registered() -> None:
    assert check_environment in django_checks.registry.registry.registered_checks


def test_ids_of_findings_are_all_explained() -> None:
    source = (DOCUMENT.parent.parent / "storagecache" / "checks.py").read_text()
    source += (DOCUMENT.parent.parent / "assets" / "checks.py").read_text()
    ids = re.compile(r"(?:storagecache|assets)\.[EW]\d{3}")
    assert set(ids.findall(source)) == set(ids.findall(DOCUMENT.read_text()))
