"""Rules about who reads what, which import-linter cannot see."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent.parent
PACKAGES = ("nodetool_site", "assets", "storagecache")
SOURCES = sorted(path for package in PACKAGES for path in (PROJECT / package).rglob("*.py"))
# Pure: values in, values out. No settings, no I/O, no clock.
PURE = (
    "storagecache/keys.py",
    "storagecache/casts.py",
    "storagecache/config.py",
    "assets/workflows/mounts.py",
    "assets/workflows/manifest.py",
    "assets/serving/ranges.py",
    "assets/serving/conditions.py",
    "assets/serving/plan.py",
    "assets/serving/disposition.py",
)
FORBIDDEN = {"django", "os", "io", "random", "secrets", "socket", "subprocess", "threading", "boto3"}


def names_of(path: Path) -> Iterator[str]:
    """Give the dotted names that a module imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def reads_environment(path: Path) -> bool:
    """Tell whether a module reads variables of the process. `setdefault` of Django's settings is no reading."""
    text = path.read_text(encoding="utf-8").replace('os.environ.setdefault("DJANGO_SETTINGS_MODULE"', "")
    imported = {"os.environ", "os.environb", "os.getenv"} & set(names_of(path))
    return bool(imported) or "os.environ" in text or "os.getenv" in text


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_process_environment_is_read_in_one_place_only(path: Path) -> None:
    allowed = path == PROJECT / "storagecache" / "environment.py"
    assert allowed or not reads_environment(path)


@pytest.mark.parametrize("name", PURE)
def test_pure_module_imports_no_io(name: str) -> None:
    roots = {dotted.split(".")[0] for dotted in names_of(PROJECT / name)}
    assert roots & FORBIDDEN == set()
    assert re.findall(r"time\.time\(|monotonic|\.now\(|utcnow|today\(", (PROJECT / name).read_text()) == []


BYTES = [path for path in SOURCES if path.is_relative_to(PROJECT / "storagecache")]
ABOVE = ("django.http", "django.views", "django.urls", "django.contrib", "django.db.models")


@pytest.mark.parametrize("path", BYTES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_floor_of_bytes_knows_no_model_and_no_request(path: Path) -> None:
    assert [name for name in names_of(path) if name.startswith(ABOVE)] == []


CATALOG = [
    path
    for path in SOURCES
    if path.is_relative_to(PROJECT / "assets") and path.parent.name not in {"engines", "migrations"}
]
DRIVERS = ("sqlite3", "psycopg", "storagecache.sqlite", "django.db.backends.sqlite3", "django.db.backends.postgresql")


@pytest.mark.parametrize("path", CATALOG, ids=lambda path: str(path.relative_to(PROJECT)))
def test_catalog_asks_for_its_engine_in_one_place_only(path: Path) -> None:
    attributes = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    assert "vendor" not in attributes
    assert [name for name in names_of(path) if f"{name}.".startswith(tuple(f"{driver}." for driver in DRIVERS))] == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_module_says_what_lives_in_it(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not tree.body or ast.get_docstring(tree) or "migrations" in path.parts


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_requirements_have_an_exact_pin_and_a_reason(name: str) -> None:
    lines = [line for line in (PROJECT / name).read_text().splitlines() if line and not line.startswith(("#", "-r"))]
    assert lines
    assert [line for line in lines if "==" not in line.split("#")[0] or not line.partition("#")[2].strip()] == []


def test_constraints_hold_every_requirement() -> None:
    locked = {line.split(" ;")[0].strip() for line in (PROJECT / "constraints.txt").read_text().splitlines()}
    for name in ("requirements.txt", "requirements-dev.txt"):
        for line in (PROJECT / name).read_text().splitlines():
            if line and not line.startswith(("#", "-r")):
                pin = line.split("#")[0].strip()
                plain = pin.split("[")[0] + "==" + pin.split("==")[1] if "[" in pin else pin
                assert plain.lower() in locked or pin.lower() in locked


def test_import_contracts_cover_the_floors() -> None:
    linter = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["importlinter"]
    assert set(linter["root_packages"]) == set(PACKAGES)
    assert {contract["type"] for contract in linter["contracts"]} >= {"layers", "forbidden"}
