"""The documentation against the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from storagecache import casts
from storagecache.environment import Environment

PROJECT = Path(__file__).resolve().parent.parent.parent
ROW = re.compile(r"^\| `([A-Z][A-Z0-9_]+)` \| (.*?) \| ", re.MULTILINE)
ROWS = ROW.findall((PROJECT / "docs" / "configuration.md").read_text(encoding="utf-8"))
OUTSIDE = {"NODETOOL_CONFIG_DIR"}  # decides where the other sources are, so it is none of them


def test_configuration_table_has_a_row_for_each_variable() -> None:
    names = [name for name, _ in ROWS]
    assert len(names) == len(set(names))
    assert set(names) - OUTSIDE == {variable.name for variable in Environment.variables().values()}


@pytest.mark.parametrize(("name", "shown"), [row for row in ROWS if row[0] not in OUTSIDE], ids=lambda text: text[:25])
def test_configuration_table_shows_the_real_default(tmp_path: Path, name: str, shown: str) -> None:
    environment = Environment.load({"NODETOOL_CONFIG_DIR": str(tmp_path)}, project_folder=tmp_path, under_pytest=False)
    attribute, variable = next((a, v) for a, v in Environment.variables().items() if v.name == name)
    default = getattr(environment, attribute)
    word = re.fullmatch(r"`([^`<]+)`", shown)
    if default in (None, ()):
        assert word is None or name == "AUTH_PROVIDER" or name == "ASSET_TEMP_BUCKET"
    else:
        assert word, f"{name} has the default {default!r}"
        assert variable.cast(word[1]) == default


def test_derived_defaults_are_as_the_table_says(tmp_path: Path) -> None:
    environment = Environment.load({"NODETOOL_CONFIG_DIR": str(tmp_path)}, project_folder=tmp_path, under_pytest=False)
    assert (environment.auth, environment.temp_folder.name) == ("local", "temp")
    assert casts.is_loopback(environment.host)


@pytest.mark.parametrize(
    "path", sorted(PROJECT.glob("docs/**/*.md")) + sorted(PROJECT.glob("*.md")), ids=lambda p: p.name
)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
    assert [t for t in targets if "://" not in t and not (path.parent / t).exists()] == []


@pytest.mark.parametrize("path", sorted((PROJECT / "docs" / "decisions").glob("*.md")), ids=lambda p: p.name)
def test_decision_has_the_number_of_its_file(path: Path) -> None:
    named = re.fullmatch(r"(\d{4})-[a-z0-9-]+\.md", path.name)
    assert named
    assert path.read_text(encoding="utf-8").startswith(f"# {int(named[1])}. ")
