"""The environment: which source wins, what is refused and how it says so."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from django.core.files.storage import storages

from storagecache.environment import Environment
from storagecache.machine import development_secret_key, make_folders
from storagecache.variables import ConfigurationError

PRODUCTION = {"ENV": "production", "SECRET_KEY": "k" * 50, "ALLOWED_HOSTS": "files.example.org"}


@dataclass(frozen=True, slots=True)
class House:
    """A configuration folder and a project folder to put files into."""

    config: Path
    project: Path

    def load(self, *, under_pytest: bool = False, **process: str) -> Environment:
        return Environment.load(
            {"NODETOOL_CONFIG_DIR": str(self.config), **process}, project_folder=self.project, under_pytest=under_pytest
        )

    def refusal(self, **process: str) -> str:
        with pytest.raises(ConfigurationError) as caught:
            self.load(**process)
        return str(caught.value)


@pytest.fixture
def house(tmp_path: Path) -> House:
    made = House(tmp_path / "config", tmp_path / "project")
    made.config.mkdir()
    made.project.mkdir()
    return made


# --- layers --------------------------------------------------------------------------------------

LAYERS = [
    ("settings.yaml", lambda house: (house.config / "settings.yaml").write_text("S3_REGION: from-settings\n")),
    ("secrets.yaml", lambda house: (house.config / "secrets.yaml").write_text("S3_REGION: from-secrets\n")),
    (".env", lambda house: (house.project / ".env").write_text("S3_REGION=from-env\n")),
    (".env.development", lambda house: (house.project / ".env.development").write_text("S3_REGION=from-dev\n")),
    (
        ".env.development.local",
        lambda house: (house.project / ".env.development.local").write_text("S3_REGION=from-local\n"),
    ),
]


@pytest.mark.parametrize("count", range(1, 6), ids=[name for name, _ in LAYERS])
def test_layers_of_files_later_one_wins(house: House, count: int) -> None:
    for _, write in LAYERS[:count]:
        write(house)
    names = ["settings", "secrets", "env", "dev", "local"]
    environment = house.load()
    assert environment.s3_region == f"from-{names[count - 1]}"
    assert environment.source_of("S3_REGION").endswith(LAYERS[count - 1][0])


def test_layers_with_the_process_process_wins(house: House) -> None:
    for _, write in LAYERS:
        write(house)
    environment = house.load(S3_REGION="from-process")
    assert (environment.s3_region, environment.source_of("S3_REGION")) == ("from-process", "environment")


def test_layers_of_another_env_are_not_read(house: House) -> None:
    (house.project / ".env.production").write_text("S3_REGION=elsewhere\n")
    (house.project / ".env.test.local").write_text("S3_REGION=in-tests\n")
    assert house.load().s3_region == "us-east-1"
    assert house.load(under_pytest=True).s3_region == "in-tests"


def test_default_without_sources_says_default(house: House) -> None:
    environment = house.load()
    assert (environment.port, environment.source_of("PORT")) == (7777, "default")
    assert (environment.env, environment.source_of("ENV")) == ("development", "default")


def test_empty_text_over_a_lower_layer_gives_the_default(house: House) -> None:
    (house.project / ".env").write_text("S3_ENDPOINT_URL=http://127.0.0.1:1\nPORT=8000\n")
    environment = house.load(S3_ENDPOINT_URL="", PORT="  ")
    assert (environment.s3_endpoint_url, environment.port) == (None, 7777)


@pytest.mark.parametrize("where", ["settings.yaml", ".env"])
def test_env_named_in_a_file_chooses_the_later_files(house: House, where: str) -> None:
    text = "ENV: production\n" if where.endswith("yaml") else "ENV=production\n"
    ((house.config if where.endswith("yaml") else house.project) / where).write_text(text)
    (house.project / ".env.production").write_text("ENV=test\nSECRET_KEY=kept\nALLOWED_HOSTS=a.example\n")
    environment = house.load()
    assert (environment.env, environment.secret_key) == ("production", "kept")
    assert environment.source_of("ENV").endswith(where)


def test_env_under_pytest_is_always_test(house: House) -> None:
    environment = house.load(under_pytest=True, **PRODUCTION)
    assert (environment.env, environment.source_of("ENV"), Environment.is_test()) == ("test", "pytest", True)


def test_process_environment_is_never_changed_by_files(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.delenv("S3_REGION", raising=False)
    (house.project / ".env").write_text("S3_REGION=from-env\n")
    house.load()
    assert "S3_REGION" not in os.environ


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("S3_REGION=eu-1", "eu-1"),
        ("export S3_REGION=eu-1", "eu-1"),
        ("  S3_REGION = eu-1  ", "eu-1"),
        ("S3_REGION=eu-1 # near us", "eu-1"),
        ("S3_REGION=eu#1", "eu#1"),
        ('S3_REGION="eu # 1"', "eu # 1"),
        ("S3_REGION='eu-1' # near us", "eu-1"),
        ("S3_REGION=first\nS3_REGION=eu-1", "eu-1"),
        ("\ufeffS3_REGION=eu-1\r", "eu-1"),
        ("# S3_REGION=eu-1", "us-east-1"),
        ("S3_REGION=", "us-east-1"),
    ],
)
def test_dotenv_line_in_a_usual_form_is_read(house: House, line: str, value: str) -> None:
    (house.project / ".env").write_text(f"{line}\n", encoding="utf-8")
    assert house.load().s3_region == value


@pytest.mark.parametrize("line", ["S3_SECRET_ACCESS_KEY: hush", "hush", "=hush", 'SECRET_KEY="hush', "1A=hush"])
def test_dotenv_line_out_of_form_is_refused_by_its_number(
    house: House, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    (house.project / ".env").write_text(f"PORT=8000\n{line}\n")
    refusal = house.refusal()
    assert "line 2" in refusal
    assert "hush" not in refusal + caplog.text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("S3_SECRET_ACCESS_KEY: 0123", "0123"),
        ("S3_SECRET_ACCESS_KEY: 12:30", "12:30"),
        ("S3_SECRET_ACCESS_KEY: 1_000", "1_000"),
        ("S3_SECRET_ACCESS_KEY: 2026-01-01", "2026-01-01"),
        ("S3_SECRET_ACCESS_KEY: no", "no"),
        ("S3_SECRET_ACCESS_KEY: ~", None),
        ("S3_SECRET_ACCESS_KEY:", None),
        ("S3_SECRET_ACCESS_KEY: ''", None),
        ("", None),
        ("# nothing yet", None),
        ("---", None),
        ("OPENAI_API_KEY: {a: 1}", None),
    ],
)
def test_yaml_scalar_of_any_look_keeps_its_text(house: House, text: str, value: str | None) -> None:
    (house.config / "secrets.yaml").write_text(text)
    assert house.load().s3_secret_access_key == value


def test_yaml_list_is_read_as_a_list(house: House) -> None:
    (house.config / "settings.yaml").write_text("ALLOWED_HOSTS: [a.example, b.example]\nMEMCACHE_HOST:\n- a:1\n- b\n")
    environment = house.load()
    assert environment.allowed_hosts == ("a.example", "b.example")
    assert environment.memcache_servers == (("a", 1), ("b", 11211))


@pytest.mark.parametrize(
    "text",
    [
        "- hush",
        "hush",
        "SECRET_KEY: {a: hush}",
        "SECRET_KEY: [[hush]]",
        "SECRET_KEY: [hush",
        "a: b\n\thush: c",
        "a: 1\n---\nb: hush",
        "SECRET_KEY: \x01hush",
        "SECRET_KEY: *hush",
    ],
)
def test_yaml_of_wrong_shape_is_refused_without_its_content(house: House, text: str) -> None:
    (house.config / "settings.yaml").write_text(text)
    refusal = house.refusal()
    assert "settings.yaml" in refusal
    assert "hush" not in refusal


@pytest.mark.parametrize(
    "name", ["settings.yaml", "secrets.yaml", ".env", ".env.development", ".env.development.local"]
)
@pytest.mark.parametrize("fault", ["folder", "latin-1", "loop"])
def test_file_that_cannot_be_read_is_refused_by_name(house: House, name: str, fault: str) -> None:
    path = (house.config if name.endswith("yaml") else house.project) / name
    faults: dict[str, Callable[[], object]] = {
        "folder": path.mkdir,
        "latin-1": lambda: path.write_bytes(b"PORT: \xe4\n"),
        "loop": lambda: path.symlink_to(path),
    }
    faults[fault]()
    refusal = house.refusal()
    assert str(path) in refusal
    assert "cannot be read" in refusal


# --- values --------------------------------------------------------------------------------------

WRONG = [
    ("ENV", "prod"),
    ("ASSET_STORAGE", "disk"),
    ("PORT", "http"),
    ("PORT", "0"),
    ("PORT", "65536"),
    ("PORT", "+80"),
    ("PORT", "8_0"),
    ("PORT", "٨٠"),
    ("HOST", "127.0.0.1:80"),
    ("HOST", "a b"),
    ("LOG_LEVEL", "loud"),
    ("TEMP_TTL", "soon"),
    ("TEMP_TTL", "-1h"),
    ("TEMP_TTL", "0"),
    ("TRASH_TTL", "999999999999w"),
    ("MAX_UPLOAD_BYTES", "much"),
    ("MAX_UPLOAD_BYTES", "0"),
    ("MAX_UPLOAD_BYTES", "9999999999999T"),
    ("S3_ENDPOINT_URL", "127.0.0.1:9000"),
    ("S3_ENDPOINT_URL", "http://[::1"),
    ("S3_ENDPOINT_URL", "http://h:port"),
    ("S3_DELIVERY", "mail"),
    ("ACCEL_REDIRECT", "objects"),
    ("ACCEL_REDIRECT", "/a b"),
    ("NODETOOL_API_URL", "ftp://h"),
    ("ASSET_DOMAIN", "https://"),
    ("ASSET_BUCKET", "a/b"),
    ("ASSET_FOLDER", "~nobody-of-this-name/x"),
    ("MEMCACHE_HOST", "a:b"),
    ("MEMCACHE_HOST", "a,:11211"),
    ("MEMCACHE_HOST", "a:70000"),
    ("MEMCACHE_PORT", "many"),
    ("AUTH_PROVIDER", "none"),
    ("JOB_EXECUTION_STRATEGY", "cloud"),
    ("DOCKER_CPU_LIMIT", "nan"),
    ("S3_REGION", "eu\n1"),
    ("S3_REGION", "\udcff"),
]


@pytest.mark.parametrize(("name", "text"), WRONG, ids=[f"{name}-{text!a}" for name, text in WRONG])
def test_value_out_of_range_is_refused_with_variable_and_source(house: House, name: str, text: str) -> None:
    refusal = house.refusal(**{name: text})
    assert refusal.startswith(f"{name} (from environment) ")
    assert "\n" not in refusal


def test_value_from_a_file_is_refused_with_the_file(house: House) -> None:
    (house.config / "settings.yaml").write_text("PORT: http\n")
    assert house.refusal().startswith(f"PORT (from {house.config / 'settings.yaml'}) is 'http', but must be")


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:hush@h/n",
        "postgres://u:hush@h:port/n",
        "postgres://u:hush@h",
        "postgres://u:hush@[::1/n",
        "postgres://u:hush@h\uff03/n",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite://:memory:",
        "sqlite://hush/x",
        "hush",
    ],
)
def test_database_url_that_cannot_work_is_refused_without_its_password(house: House, url: str) -> None:
    refusal = house.refusal(DATABASE_URL=url)
    assert refusal.startswith("DATABASE_URL (from environment) ")
    assert "hush" not in refusal


def test_secret_in_a_url_is_never_shown(house: House) -> None:
    assert "hush" not in house.refusal(S3_ENDPOINT_URL="ftp://user:hush@h")


def test_secret_in_repr_is_never_shown(house: House) -> None:
    secrets = {v.name: "postgres://u:hush@h/n" for v in Environment.variables().values() if v.secret}
    assert {"SECRET_KEY", "ADMIN_PASSWORD", "S3_SECRET_ACCESS_KEY", "DATABASE_URL"} <= secrets.keys()
    assert "hush" not in repr(house.load(**secrets))


def test_values_of_usual_forms_are_read(house: House) -> None:
    environment = house.load(
        HOST="[::1]",
        LOG_LEVEL="info",
        TEMP_TTL="15m",
        TRASH_TTL="0",
        MAX_UPLOAD_BYTES="512 MiB",
        ASSET_DOMAIN="cdn.example.org/",
        NODETOOL_API_URL="https://files.example.org/",
        MEMCACHE_HOST="a:11311, [::1]:5,fe80::1, b",
        MEMCACHE_PORT="99",
    )
    assert (environment.host, environment.log_level) == ("::1", "INFO")
    assert (environment.temp_ttl, environment.trash_ttl, environment.max_upload_bytes) == (900, 0, 512 << 20)
    assert (environment.asset_domain, environment.base_url) == ("https://cdn.example.org", "https://files.example.org")
    assert environment.memcache_servers == (("a", 11311), ("::1", 5), ("fe80::1", 99), ("b", 99))


# --- rules across variables ----------------------------------------------------------------------


@pytest.mark.parametrize("text", [None, "", " "])
@pytest.mark.parametrize("missing", ["SECRET_KEY", "ALLOWED_HOSTS"])
def test_production_without_what_it_needs_is_refused(house: House, missing: str, text: str | None) -> None:
    process = {name: value for name, value in PRODUCTION.items() if name != missing}
    if text is not None:
        process[missing] = text
    refusal = house.refusal(**process)
    assert refusal.startswith(f"ENV=production needs {missing}. Set ")


def test_production_always_knows_callers_by_token(house: House) -> None:
    environment = house.load(**PRODUCTION, AUTH_PROVIDER="local", HOST="0.0.0.0")
    assert environment.auth == "token"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "files.example.org"])
def test_local_users_beyond_loopback_are_refused(house: House, host: str) -> None:
    assert house.refusal(HOST=host).startswith("HOST (from environment) is")
    assert house.load(HOST=host, AUTH_PROVIDER="token").auth == "token"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "::1"])
def test_local_users_on_loopback_are_served(house: House, host: str) -> None:
    assert house.load(HOST=host).auth == "local"


@pytest.mark.parametrize("text", ["0", "1h", "74m", "4499"])
def test_grace_time_below_the_life_of_urls_is_refused(house: House, text: str) -> None:
    assert house.refusal(GRACE_TIME=text).startswith("GRACE_TIME (from environment) is ")
    assert house.load(GRACE_TIME="4500").grace_time == 4500


KINDS = [
    ({}, "filesystem"),
    ({"ENV": "test"}, "memory"),
    ({"ENV": "test", "S3_ACCESS_KEY_ID": "AK", "S3_SECRET_ACCESS_KEY": "SK"}, "memory"),
    (PRODUCTION, "s3"),
    ({**PRODUCTION, "ASSET_STORAGE": "filesystem"}, "filesystem"),
    ({"S3_ACCESS_KEY_ID": "AK"}, "s3"),
    ({"S3_SECRET_ACCESS_KEY": "SK"}, "s3"),
    ({"S3_SECRET_ACCESS_KEY": ""}, "filesystem"),
    ({"S3_ENDPOINT_URL": "http://127.0.0.1:1"}, "filesystem"),
    ({"ASSET_STORAGE": "MEMORY"}, "memory"),
    ({"ASSET_STORAGE": "s3"}, "s3"),
]


@pytest.mark.parametrize(("process", "kind"), KINDS, ids=[str(number) for number in range(len(KINDS))])
def test_storage_kind_follows_the_rule_of_auto(house: House, process: dict[str, str], kind: str) -> None:
    assert house.load(**process).storage_kind == kind


def test_memory_with_a_kept_catalog_is_refused(house: House, tmp_path: Path) -> None:
    for name, text in {"DB_PATH": str(tmp_path / "kept"), "DATABASE_URL": "postgres://h/n"}.items():
        assert f"unset {name} (from environment)" in house.refusal(ASSET_STORAGE="memory", **{name: text})
        assert name in house.refusal(ENV="test", **{name: text})
    assert house.load(ASSET_STORAGE="memory", DB_PATH="").catalog_path == house.config / "memory.sqlite3"


def test_memory_under_pytest_may_use_any_database(house: House) -> None:
    environment = house.load(under_pytest=True, DATABASE_URL="postgres://h/n")
    assert environment.storage_kind == "memory"


def test_s3_with_a_path_for_a_bucket_is_refused(house: House) -> None:
    assert house.refusal(ASSET_STORAGE="s3", ASSET_BUCKET="./data").startswith("ASSET_BUCKET (from environment) is the")


@pytest.mark.parametrize(
    "process",
    [
        {"ASSET_BUCKET": "temp"},
        {"ASSET_TEMP_BUCKET": "assets"},
        {"ASSET_BUCKET": "cache"},
        {"ASSET_FOLDER": "/x", "TEMP_FOLDER": "/x"},
    ],
    ids=str,
)
def test_two_areas_in_one_folder_are_refused(house: House, process: dict[str, str]) -> None:
    assert "need three folders" in house.refusal(**process)


# --- folders -------------------------------------------------------------------------------------


def test_folders_without_sources_lie_in_the_configuration_folder(house: House) -> None:
    environment = house.load()
    assert environment.asset_folder == house.config / "assets"
    assert environment.temp_folder == house.config / "temp"
    assert environment.staging_folder == house.config / "assets" / ".staging"
    assert environment.workspace_folder == house.config / "workspaces"
    assert environment.catalog_path == house.config / "nodetool.sqlite3"


def test_config_folder_unset_is_nodetools(tmp_path: Path) -> None:
    environment = Environment.load({}, project_folder=tmp_path, under_pytest=False)
    assert environment.config_folder == Path("~/.config/nodetool").expanduser()


def test_config_folder_of_nobody_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="NODETOOL_CONFIG_DIR"):
        Environment.load({"NODETOOL_CONFIG_DIR": "~nobody-of-this-name"}, project_folder=tmp_path, under_pytest=False)


def test_bucket_as_path_is_the_folder(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    environment = house.load(ASSET_BUCKET=str(tmp_path / "a"), ASSET_TEMP_BUCKET="./t")
    assert (environment.asset_folder, environment.temp_folder) == (tmp_path / "a", tmp_path / "t")
    monkeypatch.chdir("/")
    assert environment.temp_folder == tmp_path / "t"


def test_bucket_as_name_is_a_folder_beside_the_catalog(house: House) -> None:
    environment = house.load(ASSET_BUCKET="films", ASSET_TEMP_BUCKET="scratch")
    assert (environment.asset_folder, environment.temp_folder) == (house.config / "films", house.config / "scratch")


def test_explicit_folder_wins_over_the_bucket(house: House, tmp_path: Path) -> None:
    environment = house.load(ASSET_BUCKET="films", ASSET_FOLDER=str(tmp_path / "x"), STAGING_FOLDER=str(tmp_path / "s"))
    assert (environment.asset_folder, environment.staging_folder) == (tmp_path / "x", tmp_path / "s")


def test_make_folders_where_a_file_lies_is_refused(house: House, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot be made"):
        make_folders(house.load(DB_PATH=str(tmp_path / "file" / "catalog.sqlite3")))
    make_folders(house.load(DB_PATH=str(tmp_path / "new" / "catalog.sqlite3")))
    assert (tmp_path / "new").is_dir()


# --- the development key -------------------------------------------------------------------------


def test_development_key_is_made_once_and_private(tmp_path: Path) -> None:
    key = development_secret_key(tmp_path / "config")
    path = tmp_path / "config" / "secret_key"
    assert len(key) >= 50
    assert development_secret_key(tmp_path / "config") == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["secret_key"]


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xff"])
def test_development_key_that_is_damaged_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "secret_key").write_bytes(content)
    with pytest.raises(ConfigurationError, match="secret_key"):
        development_secret_key(tmp_path)


# --- storages ------------------------------------------------------------------------------------


@pytest.mark.parametrize("alias", ["assets", "temp"])
def test_get_storage_with_use_s3_forces_s3_in_tests(alias: str) -> None:
    get = {"assets": Environment.get_asset_storage, "temp": Environment.get_temp_storage}[alias]
    forced = get(use_s3=True)
    assert type(forced).__name__ == "S3ObjectStorage"
    assert get(use_s3=True) is forced
    assert get() is storages[alias]
    assert type(get()).__name__ != "S3ObjectStorage"
