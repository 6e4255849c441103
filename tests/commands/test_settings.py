"""`settings show`, `set` and `edit` as a user types them: nothing secret is shown, lost or wrongly written."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

from storagecache import casts, settings_files
from storagecache.environment import Environment
from storagecache.settings_files import SettingsError, set_value, with_value
from storagecache.variables import ConfigurationError
from tests.manage import Manage

CANARY = "canary-7f3b"
SECRETS = [variable.name for variable in Environment.variables().values() if variable.secret]


def file(manage: Manage, name: str = "settings.yaml") -> Path:
    """Give a file of the configuration folder."""
    manage.folder.mkdir(exist_ok=True)
    return manage.folder / name


def rows(text: str) -> dict[str, dict[str, Any]]:
    """Read what `show --json` prints."""
    return {row["name"]: row for row in json.loads(text)}


def editor(tmp_path: Path, code: str) -> str:
    """Make an editor: a program that changes the file it is given."""
    script = tmp_path / "editor.py"
    script.write_text(f"import sys, pathlib\npath = pathlib.Path(sys.argv[1])\n{code}\n")
    return f"'{sys.executable}' '{script}'"


def test_show_tells_value_group_and_source_of_every_variable(manage: Manage) -> None:
    file(manage).write_text("TEMP_TTL: 12h\n")
    answer = manage("settings", "show", "--json", PORT="7001")
    found = rows(answer.stdout)
    assert set(found) == {v.name for v in Environment.variables().values()} | {"NODETOOL_CONFIG_DIR"}
    assert (found["TEMP_TTL"]["value"], found["TEMP_TTL"]["source"]) == ("12h", str(file(manage)))
    assert (found["PORT"]["value"], found["PORT"]["source"], found["PORT"]["default"]) == (
        "7001",
        "environment",
        "7777",
    )
    assert (found["GRACE_TIME"]["value"], found["GRACE_TIME"]["source"]) == ("2h", "default")
    assert (found["ASSET_FOLDER"]["value"], found["ASSET_FOLDER"]["group"]) == (f"{manage.folder}/assets", "storage")


def test_show_as_a_table_has_a_line_for_each_variable(manage: Manage) -> None:
    file(manage).write_text("TEMP_TTL: 12h\n")
    lines = [line.split() for line in manage("settings", "show").stdout.splitlines()]
    assert lines[0] == ["group", "variable", "value", "source"]
    assert ["storage", "TEMP_TTL", "12h", str(file(manage))] in lines
    assert [line[1] for line in lines[1:]] == [
        "NODETOOL_CONFIG_DIR",
        *(v.name for v in Environment.variables().values()),
    ]


@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_show_masks_every_secret_until_it_is_asked_to_reveal(manage: Manage, as_json: tuple[str, ...]) -> None:
    values = {name: f"{CANARY}-{name}" for name in SECRETS}
    values["DATABASE_URL"] = f"postgres://app:{CANARY}@127.0.0.1:1/app"
    values["S3_ENDPOINT_URL"] = f"http://user:{CANARY}@127.0.0.1:1"
    file(manage, "secrets.yaml").write_text(yaml.safe_dump(values))
    for options in ([], ["--secrets"]):
        answer = manage("settings", "show", *options, *as_json)
        assert answer.returncode == 0
        assert CANARY not in answer.stdout + answer.stderr
        assert "***" in answer.stdout
    revealed = manage("settings", "show", "--secrets", "--reveal", *as_json).stdout
    assert all(values[name] in revealed for name in SECRETS)
    assert "TEMP_TTL" not in revealed


def test_show_of_a_wrong_configuration_shows_it_and_says_what_is_wrong(manage: Manage) -> None:
    file(manage).write_text("PORT: http\n")
    answer = manage("settings", "show", "--json")
    assert answer.returncode == 0
    assert rows(answer.stdout)["PORT"]["value"] == "http"
    assert "PORT (from " in rows(answer.stdout)["PORT"]["problem"]
    assert "would not start: PORT" in answer.stderr


def test_set_writes_one_value_that_the_service_reads(manage: Manage) -> None:
    answer = manage("settings", "set", "TEMP_TTL", "12h")
    assert (answer.returncode, answer.stderr) == (0, "")
    assert yaml.safe_load(file(manage).read_text()) == {"TEMP_TTL": "12h"}
    assert rows(manage("settings", "show", "--json").stdout)["TEMP_TTL"]["value"] == "12h"


@pytest.mark.parametrize("options", [("S3_SECRET_ACCESS_KEY", CANARY), ("S3_REGION", CANARY, "--secret")])
def test_set_of_a_secret_goes_to_a_private_file_and_is_not_echoed(manage: Manage, options: tuple[str, ...]) -> None:
    file(manage, "secrets.yaml").write_text("# mine\nOTHER: x\n")
    file(manage, "secrets.yaml").chmod(0o644)
    answer = manage("settings", "set", *options)
    assert answer.returncode == 0
    assert CANARY not in answer.stdout + answer.stderr
    assert stat.S_IMODE(file(manage, "secrets.yaml").stat().st_mode) == 0o600
    assert file(manage, "secrets.yaml").read_text() == f'# mine\nOTHER: x\n{options[0]}: "{CANARY}"\n'
    assert not file(manage).exists()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("TEMP_TTTL", "1h", "Did you mean TEMP_TTL"),
        ("temp_ttl", "1h", "Did you mean TEMP_TTL"),
        ("NODETOOL_CONFIG_DIR", "/x", "process environment"),
        ("PORT", "http", "PORT must be a whole number from 1 to 65535, not 'http'"),
        ("TEMP_TTL", "0", "at least 1s"),
        ("HOST", "0.0.0.0", "would not start: HOST"),
        ("GRACE_TIME", "1m", "at least 4500 s"),
        ("DATABASE_URL", f"mysql://a:{CANARY}@h/x", "DATABASE_URL must be a URL such as postgres"),
        ("SECRET_KEY", f"{CANARY}\n2", "one line"),
    ],
)
def test_set_of_what_is_wrong_is_one_line_and_writes_nothing(manage: Manage, name: str, value: str, said: str) -> None:
    file(manage).write_text("# kept\nLOG_LEVEL: INFO\n")
    answer = manage("settings", "set", name, value)
    assert answer.returncode != 0
    assert said in answer.stderr
    assert "Traceback" not in answer.stderr
    assert CANARY not in answer.stderr + answer.stdout
    assert file(manage).read_text() == "# kept\nLOG_LEVEL: INFO\n"
    assert not file(manage, "secrets.yaml").exists()


def test_set_of_a_secret_that_lies_open_too_says_so(manage: Manage) -> None:
    file(manage).write_text(f"ADMIN_PASSWORD: {CANARY}\n")
    answer = manage("settings", "set", "ADMIN_PASSWORD", f"{CANARY}2")
    assert answer.returncode == 0
    assert f"is in {file(manage)} too" in answer.stderr
    assert CANARY not in answer.stderr


def test_edit_in_a_folder_that_cannot_be_made_is_one_line(manage: Manage, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    answer = manage("settings", "edit", EDITOR="true", NODETOOL_CONFIG_DIR=str(tmp_path / "file" / "c"))
    assert answer.returncode != 0
    assert "cannot be written: Not a directory" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_set_mends_a_configuration_that_does_not_start(manage: Manage) -> None:
    file(manage).write_text("PORT: http\nHOST: 0.0.0.0\n")
    assert manage("check").returncode != 0
    first = manage("settings", "set", "PORT", "7001")
    assert "still would not start: HOST" in first.stderr
    assert manage("settings", "set", "HOST", "127.0.0.1").returncode == 0
    assert manage("check").returncode == 0


def test_set_that_a_stronger_source_hides_says_so(manage: Manage) -> None:
    answer = manage("settings", "set", "PORT", "7001", PORT="7002")
    assert answer.returncode == 0
    assert "environment names PORT too, and wins" in answer.stderr


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("", 'PORT: "1"\n'),
        ("# only a comment", '# only a comment\nPORT: "1"\n'),
        ("A: 1 # a\nPORT: 7 # why\n\n# end\n", 'A: 1 # a\nPORT: "1" # why\n\n# end\n'),
        ("PORT:\nA: 1\n", 'PORT: "1"\nA: 1\n'),
        ("PORT: |\n  7\nA: 1\n", 'PORT: "1"\nA: 1\n'),
        ("PORT: [1, 2]\n", 'PORT: "1"\n'),
        ("PORT:\n  - 1\n  - 2\nA: 1\n", 'PORT:\n  "1"\nA: 1\n'),
        ("PORT: 5\nPORT: 6\n", 'PORT: 5\nPORT: "1"\n'),
        ("A: 1\r\nPORT: 7\r\n", 'A: 1\r\nPORT: "1"\r\n'),
        ("A: 1\r\n", 'A: 1\r\nPORT: "1"\r\n'),
        ("  A: 1\n", '  A: 1\n  PORT: "1"\n'),
        ("'PORT': 7", "'PORT': \"1\""),
        ("NESTED:\n  PORT: 7\n", 'NESTED:\n  PORT: 7\nPORT: "1"\n'),
        ("[a, b]: 3\n", '[a, b]: 3\nPORT: "1"\n'),
    ],
)  # fmt: skip
def test_value_is_changed_in_place_and_nothing_else(text: str, changed: str) -> None:
    assert with_value(Path("settings.yaml"), text, "PORT", "1") == changed


@pytest.mark.parametrize(
    "value", ["", "x", "a: b # c", "ü 😀", '"', "'", "\\n", "two\nlines", "\x7f\u0085\u2028", "null", "[1]", "%", "\t"]
)
def test_value_of_any_characters_comes_back(value: str) -> None:
    text = with_value(Path("secrets.yaml"), "A: 1\n", "ADMIN_PASSWORD", value)
    assert yaml.safe_load(text) == {"A": 1, "ADMIN_PASSWORD": value}


@pytest.mark.parametrize("text", ["{A: 1}\n", "A: 1\n...\n", "PORT: &p 7\nOTHER: *p\n", "A: &a [*a]\n"])
def test_file_that_cannot_be_changed_in_place_is_refused_with_the_remedy(text: str) -> None:
    with pytest.raises(SettingsError, match="use `settings edit`"):
        with_value(Path("settings.yaml"), text, "PORT", "1")


def test_file_that_is_no_yaml_is_refused_by_its_line_and_kept(manage: Manage) -> None:
    file(manage).write_text(f"A: '{CANARY}\n")
    answer = manage("settings", "set", "PORT", "1")
    assert answer.returncode != 0
    assert "is not valid YAML" in answer.stderr
    assert CANARY not in answer.stderr
    assert file(manage).read_text() == f"A: '{CANARY}\n"


def test_two_at_once_lose_nothing(tmp_path: Path) -> None:
    names = ["PORT", "MEMCACHE_PORT", "REPAIR_MAX_PERCENT", "TEMP_TTL", "TRASH_TTL", "QUARANTINE_TTL", "ADMIN_PASSWORD"]
    process = {"NODETOOL_CONFIG_DIR": str(tmp_path)}
    threads = [threading.Thread(target=set_value, args=(name, "77"), kwargs={"process": process}) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    written = yaml.safe_load((tmp_path / "settings.yaml").read_text()) | yaml.safe_load(
        (tmp_path / "secrets.yaml").read_text()
    )
    assert written == dict.fromkeys(names, "77")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secrets.yaml", "settings.lock", "settings.yaml"]


def test_full_disk_leaves_the_file_as_it_was(manage: Manage) -> None:
    assert manage("settings", "set", "PORT", "7001").returncode == 0
    before = file(manage).read_text()
    command, environment = manage.how("settings", "set", "PORT", "7002", PYTHONDONTWRITEBYTECODE="1")
    limited = ["bash", "-c", 'ulimit -f 0; exec "$@"', "bash", *command]
    answer = subprocess.run(limited, env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode != 0
    assert "cannot be written: File too large" in answer.stderr
    assert file(manage).read_text() == before
    assert sorted(path.suffix for path in manage.folder.iterdir() if path.name.startswith(".settings")) == []


def test_file_behind_a_link_is_changed_where_it_lies(manage: Manage, tmp_path: Path) -> None:
    (tmp_path / "kept.yaml").write_text("A: 1\n")
    file(manage).symlink_to(tmp_path / "kept.yaml")
    assert manage("settings", "set", "PORT", "7001").returncode == 0
    assert (tmp_path / "kept.yaml").read_text() == 'A: 1\nPORT: "7001"\n'
    assert file(manage).is_symlink()


def test_edit_takes_what_is_right(manage: Manage, tmp_path: Path) -> None:
    file(manage).write_text("# mine\nPORT: 7001\n")
    code = "path.write_text(path.read_text().replace('7001', '7002') + 'TEMP_TTTL: 1h\\n')"
    answer = manage("settings", "edit", EDITOR=editor(tmp_path, code))
    assert answer.returncode == 0, answer.stderr
    assert file(manage).read_text() == "# mine\nPORT: 7002\nTEMP_TTTL: 1h\n"
    assert "TEMP_TTTL is no variable" in answer.stderr
    assert not list(manage.folder.glob("settings-*"))


def test_edit_of_secrets_is_private_from_its_first_byte(manage: Manage, tmp_path: Path) -> None:
    code = "import os; assert os.stat(path).st_mode & 0o777 == 0o600; path.write_text('ADMIN_PASSWORD: x\\n')"
    answer = manage("settings", "edit", "--secrets", EDITOR=editor(tmp_path, code))
    assert answer.returncode == 0, answer.stderr
    assert stat.S_IMODE(file(manage, "secrets.yaml").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("written", "said"),
    [("PORT: http", "PORT (from"), ("PORT: '", "is not valid YAML"), ("HOST: 0.0.0.0", "would not start: HOST"),
     ("- a", "must hold lines of the form")],
)  # fmt: skip
def test_edit_of_what_is_wrong_changes_nothing_and_keeps_what_was_typed(
    manage: Manage, tmp_path: Path, written: str, said: str
) -> None:
    file(manage).write_text("PORT: 7001\n")
    answer = manage("settings", "edit", EDITOR=editor(tmp_path, f"path.write_text({written!r})"))
    assert answer.returncode != 0
    assert said in answer.stderr
    assert file(manage).read_text() == "PORT: 7001\n"
    (draft,) = manage.folder.glob("settings-*.yaml")
    assert draft.read_text() == written
    assert str(draft) in answer.stderr


def test_edit_while_somebody_else_changes_the_file_overwrites_nothing(manage: Manage, tmp_path: Path) -> None:
    file(manage).write_text("PORT: 7001\n")
    code = f"pathlib.Path({str(file(manage))!r}).write_text('PORT: 7009\\n'); path.write_text('PORT: 7002\\n')"
    answer = manage("settings", "edit", EDITOR=editor(tmp_path, code))
    assert "was changed by somebody else" in answer.stderr
    assert file(manage).read_text() == "PORT: 7009\n"
    assert [draft.read_text() for draft in manage.folder.glob("settings-*.yaml")] == ["PORT: 7002\n"]


@pytest.mark.parametrize(
    ("command", "said"), [("", "Set EDITOR"), ("/no/editor", "cannot be started"), ("false", "failed with 1"),
                          ("'open", "EDITOR cannot be read")],
)  # fmt: skip
def test_edit_without_a_working_editor_says_so(manage: Manage, command: str, said: str) -> None:
    answer = manage("settings", "edit", EDITOR=command)
    assert answer.returncode != 0
    assert said in answer.stderr
    assert not file(manage).exists()
    assert not list(manage.folder.glob("settings-*"))


def test_edit_that_changes_nothing_leaves_nothing(manage: Manage) -> None:
    answer = manage("settings", "edit", EDITOR="true")
    assert "Nothing was changed" in answer.stdout
    assert not list(manage.folder.glob("s*.yaml"))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give files away")
@pytest.mark.parametrize("name", ["PORT", "ADMIN_PASSWORD"])
def test_file_that_root_writes_stays_readable_for_the_service(tmp_path: Path, name: str) -> None:
    """The service runs as another user, who could not start any more, nor set anything."""
    folder = tmp_path / "c"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    for value in ("7001", "7002"):
        path = set_value(name, value, process={"NODETOOL_CONFIG_DIR": str(folder)}).path
    assert {each.stat().st_uid for each in (path, folder / "settings.lock")} == {65534}
    os.chown(path, 1234, 1234)
    set_value(name, "7003", process={"NODETOOL_CONFIG_DIR": str(folder)})
    assert (path.stat().st_uid, stat.S_IMODE(path.stat().st_mode)) == (1234, 0o644 if name == "PORT" else 0o600)


def test_value_that_begins_with_a_dash_is_set_behind_two(manage: Manage) -> None:
    answer = manage("settings", "set", "ADMIN_PASSWORD", "--", f"-{CANARY}")
    assert answer.returncode == 0, answer.stderr
    assert yaml.safe_load(file(manage, "secrets.yaml").read_text()) == {"ADMIN_PASSWORD": f"-{CANARY}"}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_file_of_another_user_is_told_in_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    folder.mkdir()
    os.seteuid(65534)
    try:
        with pytest.raises((SettingsError, ConfigurationError), match="cannot be written: Permission denied"):
            set_value("PORT", "1", process={"NODETOOL_CONFIG_DIR": str(folder)})
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("seconds", [1, 59, 60, 3600, 4500, 86400, 86401, 2 * 86400, 14 * 86400])
def test_duration_as_text_reads_back(seconds: int) -> None:
    assert casts.duration(casts.duration_text(seconds)) == seconds


@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 256 << 20, 5 << 30, 3 << 40, (1 << 30) + 1])
def test_size_as_text_reads_back(size: int) -> None:
    assert casts.size(casts.size_text(size)) == size


def test_default_as_text_is_the_default() -> None:
    for attribute, variable in Environment.variables().items():
        if text := settings_files.default_text(attribute):
            field = next(f for f in Environment.__dataclass_fields__.values() if f.name == attribute)
            assert variable.cast(text) == field.default
