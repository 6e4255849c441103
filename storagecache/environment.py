"""The configuration of the service: one frozen value, layered from files and the process environment.

Nothing else reads the process environment, a `.env` file or the settings files. Later source wins:
built-in default < settings.yaml < secrets.yaml < .env < .env.<ENV> < .env.<ENV>.local < process.
Each value knows where it came from. What Django makes of it lives in `storagecache.config`.
"""

from __future__ import annotations

import atexit
import functools
import io
import os
import re
import secrets
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import environ
import yaml
from django.core.exceptions import ImproperlyConfigured

from storagecache import casts

if TYPE_CHECKING:
    from django.core.files.storage import Storage

    from storagecache.node_cache.cache import NodeCache
    from storagecache.uri_cache import MemoryURICache

PROJECT_FOLDER: Final = Path(__file__).resolve().parent.parent
SIGNED_URL_LIFE: Final = 3600  # seconds a signed URL lives
SIGNED_URL_WINDOW: Final = 900  # seconds inside which the same URL is returned again
DEFAULT_SOURCE: Final = "default"
PROCESS_SOURCE: Final = "environment"
PYTEST_SOURCE: Final = "pytest"
SETTINGS_FILE: Final = "settings.yaml"  # in the configuration folder
SECRETS_FILE: Final = "secrets.yaml"
CONFIG_VARIABLE: Final = "NODETOOL_CONFIG_DIR"  # decides where the other sources are, so it is none of them
METRICS_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"  # prometheus-client's own name


class ConfigurationError(ImproperlyConfigured):
    """A variable is missing or wrong; the message names the variable, its source and the remedy."""


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable as it is declared: its name outside, how its text is read, and what it is for."""

    name: str
    cast: Callable[[str], Any]
    group: str
    secret: bool = False
    decided: str | None = None  # the property that says what holds while the variable is not set


def _variable(
    name: str, cast: Callable[[str], Any], default: Any, group: str, *, secret: bool = False, decided: str | None = None
) -> Any:
    # A secret must not travel into logs and tracebacks by way of repr().
    variable = Variable(name, cast, group, secret, decided)
    return field(default=default, repr=not secret, metadata={"variable": variable})


_USER_INFO: Final = re.compile(r"//[^/@\s]*@")  # user and password of a URL
_SQLITE_URL: Final = "sqlite:///"
_YAML_NULL: Final = "tag:yaml.org,2002:null"
_DOTENV: Final = re.compile(
    r"""(?:export\s+)?(?P<name>[A-Za-z_]\w*)\s*=\s*(?P<value>"(?:[^"\\]|\\.)*"|'[^']*'|[^"'\s].*?|)(?:\s+\#.*)?\Z""",
    re.ASCII | re.VERBOSE,
)
Layer = tuple[str, Mapping[str, str]]  # (source, text of each variable by its outside name)
Drafts = Mapping[Path, str]  # what a file is going to hold, by its path: read in its place
_NO_DRAFTS: Final[Drafts] = MappingProxyType({})

_port = casts.whole_number(1, 65535)


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Every variable of the service, typed and checked. Made by `load`, asked for by `current`."""

    env: str = _variable("ENV", casts.one_of("development", "test", "production"), "development", "service")
    host: str = _variable("HOST", casts.host, "127.0.0.1", "service")
    port: int = _variable("PORT", _port, 7777, "service")
    log_level: str = _variable(
        "LOG_LEVEL", casts.one_of("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"), "INFO", "service"
    )
    log_format: str = _variable("LOG_FORMAT", casts.one_of("text", "json"), "text", "service")
    api_url: str | None = _variable("NODETOOL_API_URL", casts.web_url, None, "service", decided="base_url")
    max_upload_bytes: int = _variable("MAX_UPLOAD_BYTES", casts.limit, 5 << 30, "service")

    auth_provider: str | None = _variable(
        "AUTH_PROVIDER", casts.one_of("local", "token"), None, "access", decided="auth"
    )
    secret_key: str | None = _variable("SECRET_KEY", casts.text, None, "access", secret=True)
    secret_key_fallbacks: tuple[str, ...] = _variable("SECRET_KEY_FALLBACKS", casts.names, (), "access", secret=True)
    allowed_hosts: tuple[str, ...] = _variable("ALLOWED_HOSTS", casts.names, (), "access")
    cors_allowed_origins: tuple[str, ...] = _variable("CORS_ALLOWED_ORIGINS", casts.origins, (), "access")
    user_quota_bytes: int | None = _variable("USER_QUOTA_BYTES", casts.limit, None, "access")
    trusted_proxies: tuple[casts.Network, ...] = _variable("TRUSTED_PROXIES", casts.networks, (), "access")
    metrics_token: str | None = _variable("METRICS_TOKEN", casts.text, None, "access", secret=True)
    admin_password: str | None = _variable("ADMIN_PASSWORD", casts.verbatim, None, "access", secret=True)

    asset_storage: str = _variable(
        "ASSET_STORAGE", casts.one_of("auto", "memory", "filesystem", "s3"), "auto", "storage"
    )
    asset_bucket: str = _variable("ASSET_BUCKET", casts.bucket, "assets", "storage")
    asset_temp_bucket: str | None = _variable("ASSET_TEMP_BUCKET", casts.bucket, None, "storage")
    asset_folder_path: Path | None = _variable("ASSET_FOLDER", casts.folder, None, "storage", decided="asset_folder")
    temp_folder_path: Path | None = _variable("TEMP_FOLDER", casts.folder, None, "storage", decided="temp_folder")
    staging_folder_path: Path | None = _variable(
        "STAGING_FOLDER", casts.folder, None, "storage", decided="staging_folder"
    )
    asset_domain: str | None = _variable("ASSET_DOMAIN", casts.domain_url, None, "storage")
    asset_temp_domain: str | None = _variable("ASSET_TEMP_DOMAIN", casts.domain_url, None, "storage")
    public_url: str | None = _variable("NODETOOL_STORAGE_PUBLIC_URL", casts.web_url, None, "storage")
    accel_redirect: str | None = _variable("ACCEL_REDIRECT", casts.location, None, "storage")
    temp_ttl: int = _variable("TEMP_TTL", casts.life, 24 * 3600, "storage")
    grace_time: int = _variable("GRACE_TIME", casts.duration, 2 * 3600, "storage")
    trash_ttl: int = _variable("TRASH_TTL", casts.duration, 30 * 86400, "storage")
    quarantine_ttl: int = _variable("QUARANTINE_TTL", casts.life, 14 * 86400, "storage")
    repair_max_percent: int = _variable("REPAIR_MAX_PERCENT", casts.whole_number(1, 100), 10, "storage")
    verify_rate: int | None = _variable("VERIFY_RATE", casts.limit, None, "storage")
    temp_max_bytes: int | None = _variable("TEMP_MAX_BYTES", casts.limit, None, "storage")
    temp_min_free_bytes: int | None = _variable("TEMP_MIN_FREE_BYTES", casts.limit, None, "storage")
    purge_interval: int = _variable("PURGE_INTERVAL", casts.life, 3600, "storage")
    verify_interval: int = _variable("VERIFY_INTERVAL", casts.duration, 24 * 3600, "storage")

    s3_endpoint_url: str | None = _variable("S3_ENDPOINT_URL", casts.web_url, None, "s3")
    s3_access_key_id: str | None = _variable("S3_ACCESS_KEY_ID", casts.text, None, "s3", secret=True)
    s3_secret_access_key: str | None = _variable("S3_SECRET_ACCESS_KEY", casts.text, None, "s3", secret=True)
    s3_region: str = _variable("S3_REGION", casts.text, "us-east-1", "s3")
    s3_delivery: str = _variable("S3_DELIVERY", casts.one_of("redirect", "proxy"), "redirect", "s3")

    memcache_host: tuple[tuple[str, int | None], ...] = _variable("MEMCACHE_HOST", casts.servers, (), "cache")
    memcache_port: int = _variable("MEMCACHE_PORT", _port, 11211, "cache")
    node_cache_bytes: int = _variable("NODE_CACHE_BYTES", casts.size, 256 << 20, "cache")
    node_cache_disk_bytes: int = _variable("NODE_CACHE_DISK_BYTES", casts.size, 10 << 30, "cache")

    database_url: str | None = _variable("DATABASE_URL", casts.database_url, None, "database", secret=True)
    db_path: Path | None = _variable("DB_PATH", casts.folder, None, "database", decided="catalog_path")

    font_path: Path | None = _variable("FONT_PATH", casts.folder, None, "workflows")
    comfy_folder: Path | None = _variable("COMFY_FOLDER", casts.folder, None, "workflows")
    chroma_path: Path | None = _variable("CHROMA_PATH", casts.folder, None, "workflows")
    workspace_path: Path | None = _variable(
        "WORKSPACE_DIR", casts.folder, None, "workflows", decided="workspace_folder"
    )
    job_execution_strategy: str = _variable(
        "JOB_EXECUTION_STRATEGY", casts.one_of("threaded", "subprocess", "docker"), "threaded", "workflows"
    )
    job_ttl: int = _variable("JOB_TTL", casts.life, 90 * 86400, "workflows")
    download_max_bytes: int = _variable("DOWNLOAD_MAX_BYTES", casts.limit, 1 << 30, "workflows")
    download_timeout: int = _variable("DOWNLOAD_TIMEOUT", casts.life, 300, "workflows")
    download_allowed_networks: tuple[casts.Network, ...] = _variable(
        "DOWNLOAD_ALLOWED_NETWORKS", casts.networks, (), "workflows"
    )
    docker_host: str | None = _variable("DOCKER_HOST", casts.text, None, "workflows")
    docker_image: str | None = _variable("DOCKER_IMAGE", casts.text, None, "workflows")
    docker_mem_limit: str = _variable("DOCKER_MEM_LIMIT", casts.memory, "2g", "workflows")
    docker_cpu_limit: float = _variable("DOCKER_CPU_LIMIT", casts.decimal, 2.0, "workflows")
    docker_gpu_devices: tuple[str, ...] = _variable("DOCKER_GPU_DEVICES", casts.names, (), "workflows")

    config_folder: Path
    sources: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    # --- making one -----------------------------------------------------------------------------

    @staticmethod
    @functools.cache
    def current() -> Environment:
        """Give the environment of this process, read once."""
        return Environment.load(os.environ)

    @classmethod
    def load(
        cls,
        process: Mapping[str, str],
        *,
        project_folder: Path = PROJECT_FOLDER,
        under_pytest: bool | None = None,
        drafts: Drafts = _NO_DRAFTS,
    ) -> Environment:
        """Read every source and return the checked value; `drafts` take the place of files.

        Raises:
            ConfigurationError: naming the variable and its source; also when the combination cannot be served.
        """
        is_test = "pytest" in sys.modules if under_pytest is None else under_pytest
        config_folder = _config_folder(process, is_test=is_test)
        values, sources = _read_values(_layers(process, config_folder, project_folder, is_test=is_test, drafts=drafts))
        environment = cls(config_folder=config_folder, sources=MappingProxyType(sources), **values)
        _refuse_impossible(environment)
        return environment

    @classmethod
    def variables(cls) -> dict[str, Variable]:
        """Give every declared variable by the name of its field, in the order of the documentation."""
        return {f.name: f.metadata["variable"] for f in fields(cls) if "variable" in f.metadata}

    def secrets(self) -> tuple[str, ...]:
        """Give every secret text that is set, for those who must keep them out of what they write."""
        kept = [getattr(self, name) for name, variable in self.variables().items() if variable.secret]
        texts = [text for value in kept for text in (value if isinstance(value, tuple) else (value,)) if text]
        return (*texts, *(word for text in texts if (word := _password_of(text))))

    def source_of(self, name: str) -> str:
        """Tell where the variable `name` (its outside name) came from."""
        return self.sources.get(name, DEFAULT_SOURCE)

    # --- what it decides ------------------------------------------------------------------------

    @property
    def storage_kind(self) -> str:
        """The kind of storage in force: `memory`, `filesystem` or `s3`."""
        if self.asset_storage != "auto":
            return self.asset_storage
        if self.env == "test":
            return "memory"
        has_keys = bool(self.s3_access_key_id or self.s3_secret_access_key)
        return "s3" if self.env == "production" or has_keys else "filesystem"

    @property
    def auth(self) -> str:
        """The way callers are known: `token` always in production, else `local` unless set."""
        return "token" if self.env == "production" else self.auth_provider or "local"

    @property
    def asset_folder(self) -> Path:
        """Where assets live on disk."""
        return self.asset_folder_path or self._bucket_folder(self.asset_bucket)

    @property
    def temp_folder(self) -> Path:
        """Where temp objects live on disk."""
        return self.temp_folder_path or self._bucket_folder(self.asset_temp_bucket or "temp")

    @property
    def cache_folder(self) -> Path:
        """Where big values of the node cache live on disk."""
        return self.config_folder / "cache"

    @property
    def staging_folder(self) -> Path:
        """Where uploads are written until they are whole: on the asset folder's filesystem."""
        if self.staging_folder_path:
            return self.staging_folder_path
        return (self.asset_folder if self.storage_kind == "filesystem" else self.config_folder) / ".staging"

    @property
    def metrics_folder(self) -> Path | None:
        """Where the processes of this run keep their numbers; None: each for itself. Set by the supervisor."""
        folder = os.environ.get(METRICS_VARIABLE)
        return Path(folder) if folder else None

    @property
    def workspace_folder(self) -> Path:
        """The root of workspaces."""
        return self.workspace_path or self.config_folder / "workspaces"

    @property
    def catalog_path(self) -> Path:
        """The SQLite file of the catalog, unless DATABASE_URL names a PostgreSQL.

        Memory storage forgets its bytes at each start, so its catalog is a file of its own that is thrown away.
        """
        if self.database_url and self.database_url.startswith(_SQLITE_URL):
            return Path(self.database_url.removeprefix(_SQLITE_URL))
        name = "memory.sqlite3" if self.storage_kind == "memory" else "nodetool.sqlite3"
        return self.db_path or self.config_folder / name

    @property
    def base_url(self) -> str:
        """The base of absolute URLs to this service; never taken from a request."""
        return self.api_url or f"http://127.0.0.1:{self.port}"

    @property
    def memcache_servers(self) -> tuple[tuple[str, int], ...]:
        """The Memcached nodes as (host, port)."""
        return tuple((host, port or self.memcache_port) for host, port in self.memcache_host)

    def _bucket_folder(self, bucket: str) -> Path:
        return self.config_folder / bucket  # a bucket that is a path is absolute, and stays itself

    # --- NodeTool's accessors -------------------------------------------------------------------

    @classmethod
    def get_asset_storage(cls, use_s3: bool = False) -> Storage:
        """Give the storage of assets; `use_s3` forces S3 in any environment, tests included."""
        return _storage("assets", use_s3=use_s3)

    @classmethod
    def get_temp_storage(cls, use_s3: bool = False) -> Storage:
        """Give the storage of temp objects; `use_s3` forces S3 in any environment, tests included."""
        return _storage("temp", use_s3=use_s3)

    @classmethod
    def get_node_cache(cls) -> NodeCache:
        """Give the process's cache of what workflow nodes computed."""
        return _node_cache()

    @classmethod
    def node_cache_in_use(cls) -> NodeCache | None:
        """Give the process's node cache if anybody asked for it yet."""
        return _node_cache() if _node_cache.cache_info().currsize else None

    @classmethod
    def get_memory_uri_cache(cls) -> MemoryURICache:
        """Give the process's cache of `memory://` values and downloads."""
        return _memory_uri_cache()

    @classmethod
    def get_asset_folder(cls) -> str:
        """Give the folder of assets on disk."""
        return str(cls.current().asset_folder)

    @classmethod
    def get_environment(cls) -> str:
        """Give `development`, `test` or `production`."""
        return cls.current().env

    @classmethod
    def is_production(cls) -> bool:
        """Tell whether this is production."""
        return cls.current().env == "production"

    @classmethod
    def is_development(cls) -> bool:
        """Tell whether this is development."""
        return cls.current().env == "development"

    @classmethod
    def is_test(cls) -> bool:
        """Tell whether this is a test run."""
        return cls.current().env == "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What the sources say, wrong values included: for those who show and mend the configuration."""

    environment: Environment  # of the values that are right; whether they go together is not judged
    texts: Mapping[str, str] = field(repr=False)  # the winning text of each variable that any source names
    problems: Mapping[str, str]  # by variable: what is wrong with its text
    refusal: str | None  # why the service would not start; None when it would


def inspect(
    process: Mapping[str, str] | None = None,
    *,
    project_folder: Path = PROJECT_FOLDER,
    under_pytest: bool | None = None,
    drafts: Drafts = _NO_DRAFTS,
) -> Inspection:
    """Read every source (of this process, unless given) without giving up at the first wrong value.

    Raises:
        ConfigurationError: a file cannot be read, or ENV, which chooses the files, is wrong.
    """
    process = os.environ if process is None else process
    is_test = "pytest" in sys.modules if under_pytest is None else under_pytest
    config_folder = _config_folder(process, is_test=is_test)
    winners = _winners(_layers(process, config_folder, project_folder, is_test=is_test, drafts=drafts))
    values, problems = _read_leniently(winners)
    sources = MappingProxyType({name: source for name, (source, _) in winners.items()})
    environment = Environment(config_folder=config_folder, sources=sources, **values)
    refusal = next(iter(problems.values()), None) or next(_refusals(environment), None)
    texts = {name: text for name, (_, text) in winners.items()}
    return Inspection(environment=environment, texts=texts, problems=problems, refusal=refusal)


def config_folder(process: Mapping[str, str] | None = None) -> Path:
    """Give the configuration folder of a process: this one, unless given.

    Raises:
        ConfigurationError
    """
    return _config_folder(os.environ if process is None else process, is_test="pytest" in sys.modules)


def default_text(attribute: str) -> str:
    """Write the built-in default of a field as one would set it; "" where there is none."""
    declared = next(f for f in fields(Environment) if f.name == attribute)
    default: Any = declared.default
    cast = declared.metadata["variable"].cast
    if default in (None, ()):
        return ""
    if cast in {casts.duration, casts.life}:
        return casts.duration_text(default)
    return casts.size_text(default) if cast in {casts.size, casts.limit} else str(default)


def editor() -> list[str]:
    """Give the command of the user's editor ($VISUAL, else $EDITOR), to which a path is added; empty without one.

    Raises:
        ConfigurationError: its quotes are not closed.
    """
    try:
        return shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "")
    except ValueError as error:
        raise ConfigurationError(f"EDITOR cannot be read: {error}.") from None


def _password_of(text: str) -> str:
    """Give the password inside a URL, as it is written there; "" when there is none."""
    found = re.search(r"//[^/:@\s]*:([^/@\s]+)@", text)
    return found[1] if found else ""


def share_metrics(folder: Path) -> None:
    """Let the processes that are started from now on keep their numbers in this folder."""
    os.environ[METRICS_VARIABLE] = str(folder)


def keep_own_metrics() -> None:
    """Let this process keep its numbers to itself. Before prometheus-client is imported, or it has no effect."""
    os.environ.pop(METRICS_VARIABLE, None)


# --- sources -----------------------------------------------------------------------------------


def _config_folder(process: Mapping[str, str], *, is_test: bool) -> Path:
    chosen = process.get("NODETOOL_CONFIG_DIR", "").strip()
    if is_test and not chosen:
        return _test_folder()
    try:
        return casts.folder(chosen or "~/.config/nodetool")
    except ValueError as error:
        raise ConfigurationError(f"NODETOOL_CONFIG_DIR (from {PROCESS_SOURCE}) must be {error}.") from None


@functools.cache
def _test_folder() -> Path:
    """Make a folder that tests may fill: never the user's own."""
    path = Path(tempfile.mkdtemp(prefix="nodetool-test-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def _layers(
    process: Mapping[str, str], config_folder: Path, project_folder: Path, *, is_test: bool, drafts: Drafts
) -> list[Layer]:
    """Give (source, values) of every source, weakest first."""
    layers = [_yaml_layer(config_folder / name, drafts) for name in (SETTINGS_FILE, SECRETS_FILE)]
    layers.append(_dotenv_layer(project_folder / ".env"))
    last: Layer = (PYTEST_SOURCE, {**process, "ENV": "test"}) if is_test else (PROCESS_SOURCE, process)
    env = _read_values([*layers, last], only="ENV")[0].get("env", "development")
    layers.extend(_without_env(_dotenv_layer(project_folder / f".env.{env}{suffix}")) for suffix in ("", ".local"))
    layers.append((PROCESS_SOURCE, process))
    return [*layers, (PYTEST_SOURCE, {"ENV": "test"})] if is_test else layers


def _without_env(layer: Layer) -> Layer:
    """Drop ENV from a file that was itself chosen by ENV."""
    source, values = layer
    return source, {name: value for name, value in values.items() if name != "ENV"}


def _yaml_layer(path: Path, drafts: Drafts) -> Layer:
    root = compose_yaml(path, drafts[path] if path in drafts else _read_text(path))
    if root is None or root.tag == _YAML_NULL:
        return str(path), {}
    if not isinstance(root, yaml.MappingNode):
        raise ConfigurationError(f"{path} must hold lines of the form NAME: value.")
    declared = {variable.name for variable in Environment.variables().values()}
    named = [(key.value, value) for key, value in root.value if isinstance(key, yaml.ScalarNode)]
    return str(path), {name: _yaml_text(path, name, value) for name, value in named if name in declared}


def compose_yaml(path: Path, text: str) -> yaml.Node | None:
    """Parse without turning words into values: YAML reads `0123` as 83 and `12:30` as 750.

    Raises:
        ConfigurationError: it is not YAML; `path` and the line are named.
    """
    try:
        node: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        # The parser's own text would quote the file, secrets included: only the place is told.
        mark = getattr(error, "problem_mark", None)
        place = f" (line {mark.line + 1})" if mark else ""
        raise ConfigurationError(f"{path} is not valid YAML{place}. Mend or remove the file.") from None
    return node


def _yaml_text(path: Path, name: str, node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return "" if node.tag == _YAML_NULL else str(node.value)
    if isinstance(node, yaml.SequenceNode) and all(isinstance(item, yaml.ScalarNode) for item in node.value):
        return ",".join(str(item.value) for item in node.value)
    shape = "mapping" if isinstance(node, yaml.MappingNode) else "list of lists or mappings"
    raise ConfigurationError(f"{name} in {path} must be a single value or a list, not a {shape}.")


def _dotenv_layer(path: Path) -> Layer:
    class Reader(environ.Env):  # type: ignore[misc]
        ENVIRON: dict[str, str] = {}  # django-environ's own name; a fresh dict, never os.environ

    lines = enumerate(_read_text(path).splitlines(), start=1)
    Reader.read_env(
        io.StringIO("\n".join(_dotenv_line(path, number, line.strip()) for number, line in lines)), overwrite=True
    )
    return str(path), Reader.ENVIRON


def _dotenv_line(path: Path, number: int, line: str) -> str:
    """Drop a comment behind a blank and refuse what django-environ would skip, secrets and all, into the log."""
    if not line or line.startswith("#"):
        return ""
    match = _DOTENV.match(line)
    if not match:
        raise ConfigurationError(f"{path} line {number} is not of the form NAME=value. Mend or remove the line.")
    return f"{match['name']}={match['value']}"


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # editors on Windows put a mark in front
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigurationError(f"{path} cannot be read: {reason}. Mend the file or its permissions.") from None


def _read_values(layers: list[Layer], *, only: str | None = None) -> tuple[dict[str, Any], dict[str, str]]:
    """Cast the winning text of each variable; an empty text means the built-in default."""
    values: dict[str, Any] = {}
    winners = _winners(layers)
    for attribute, variable in Environment.variables().items():
        if variable.name not in winners or only not in {None, variable.name}:
            continue
        source, text = winners[variable.name]
        if text.strip():
            values[attribute] = _cast(variable, text, source)
    return values, {name: source for name, (source, _) in winners.items()}


def _winners(layers: list[Layer]) -> dict[str, tuple[str, str]]:
    """Give source and text of every variable that any layer names: the last one's."""
    names = [variable.name for variable in Environment.variables().values()]
    found = ((name, ((s, v[name]) for s, v in reversed(layers) if name in v)) for name in names)
    return {name: winner for name, candidates in found if (winner := next(candidates, None))}


def _read_leniently(winners: Mapping[str, tuple[str, str]]) -> tuple[dict[str, Any], dict[str, str]]:
    """Cast what can be cast; give the values by field, and what is wrong with the others by variable."""
    values, problems = {}, {}
    for attribute, variable in Environment.variables().items():
        source, text = winners.get(variable.name, (DEFAULT_SOURCE, ""))
        try:
            values.update({attribute: _cast(variable, text, source)} if text.strip() else {})
        except ConfigurationError as error:
            problems[variable.name] = str(error)
    return values, problems


def _cast(variable: Variable, text: str, source: str) -> object:
    try:
        text.encode("utf-8")
        return variable.cast(text)
    except UnicodeEncodeError:
        raise ConfigurationError(f"{variable.name} (from {source}) is not UTF-8 text.") from None
    except ValueError as error:
        shown = "set" if variable.secret else repr(_USER_INFO.sub("//***@", text[:80]))
        raise ConfigurationError(f"{variable.name} (from {source}) is {shown}, but must be {error}.") from None


# --- rules across variables --------------------------------------------------------------------


def _refuse_impossible(environment: Environment) -> None:
    """Refuse what could not be served, before anything starts."""
    for problem in _refusals(environment):
        raise ConfigurationError(problem)


def _refusals(environment: Environment) -> Iterator[str]:
    return filter(None, (rule(environment) for rule in _RULES))


def _production_needs(environment: Environment) -> str | None:
    if environment.env != "production":
        return None
    missing = [name for name, value in _needed_in_production(environment).items() if not value]
    if not missing:
        return None
    return (
        f"ENV=production needs {' and '.join(missing)}. Set SECRET_KEY to 50 or more random characters "
        "and ALLOWED_HOSTS to the host names of this service, such as files.example.org."
    )


def _needed_in_production(environment: Environment) -> dict[str, object]:
    return {"SECRET_KEY": environment.secret_key, "ALLOWED_HOSTS": environment.allowed_hosts}


def _grace_outlives_urls(environment: Environment) -> str | None:
    needed = SIGNED_URL_LIFE + SIGNED_URL_WINDOW
    if environment.grace_time >= needed:
        return None
    source = environment.source_of("GRACE_TIME")
    return (
        f"GRACE_TIME (from {source}) is {environment.grace_time} s, but must be at least {needed} s: "
        "the life of a signed URL and its window, so that no link loses its bytes."
    )


def _memory_forgets(environment: Environment) -> str | None:
    under_pytest = environment.source_of("ENV") == PYTEST_SOURCE
    if under_pytest or environment.storage_kind != "memory":
        return None
    kept = {"DATABASE_URL": environment.database_url, "DB_PATH": environment.db_path}
    named = [name for name, value in kept.items() if value]
    if not named:
        return None
    return (
        f"ASSET_STORAGE=memory forgets its bytes at each start, so its catalog must be thrown away too: "
        f"unset {' and '.join(named)} (from {environment.source_of(named[0])}), "
        "or choose ASSET_STORAGE=filesystem or s3."
    )


def _loopback_only(environment: Environment) -> str | None:
    if environment.auth != "local" or casts.is_loopback(environment.host):
        return None
    source = environment.source_of("HOST")
    return (
        f"HOST (from {source}) is {environment.host!r}, but AUTH_PROVIDER=local lets every caller in as the local "
        "user, so it only serves 127.0.0.1. Set AUTH_PROVIDER=token to serve other machines."
    )


def _hosts_are_named(environment: Environment) -> str | None:
    """A page whose name is made to point at 127.0.0.1 (DNS rebinding) would be the local user."""
    if environment.auth != "local" or "*" not in environment.allowed_hosts:
        return None
    source = environment.source_of("ALLOWED_HOSTS")
    return (
        f"ALLOWED_HOSTS (from {source}) has '*', but AUTH_PROVIDER=local trusts every page that this machine's browser "
        "shows under an allowed name. Name the hosts, or set AUTH_PROVIDER=token."
    )


def _buckets_are_names(environment: Environment) -> str | None:
    buckets = {"ASSET_BUCKET": environment.asset_bucket, "ASSET_TEMP_BUCKET": environment.asset_temp_bucket}
    for name, bucket in buckets.items():
        if environment.storage_kind == "s3" and bucket and bucket.startswith("/"):
            source = environment.source_of(name)
            return f"{name} (from {source}) is the path {bucket!r}, but S3 needs the name of a bucket."
    return None


def _folders_differ(environment: Environment) -> str | None:
    if environment.storage_kind != "filesystem":
        return None
    folders = {environment.asset_folder, environment.temp_folder, environment.cache_folder}
    if len(folders) == 3:
        return None
    return (
        f"Assets ({environment.asset_folder}), temp objects ({environment.temp_folder}) and the node cache "
        f"({environment.cache_folder}) need three folders. Set ASSET_FOLDER or TEMP_FOLDER, "
        "ASSET_BUCKET or ASSET_TEMP_BUCKET to another one."
    )


_RULES: Final = (
    _production_needs,
    _grace_outlives_urls,
    _memory_forgets,
    _loopback_only,
    _hosts_are_named,
    _buckets_are_names,
    _folders_differ,
)


# --- small helpers of the value ----------------------------------------------------------------


def _storage(alias: str, *, use_s3: bool) -> Storage:
    from django.core.files.storage import storages  # Django is not set up while settings are read

    if use_s3 and Environment.current().storage_kind != "s3":
        return _forced_s3(alias)
    return storages[alias]


@functools.cache
def _node_cache() -> NodeCache:
    from storagecache.node_cache.cache import build_node_cache  # needs Django's settings, which are made of this module

    return build_node_cache(Environment.current())


@functools.cache
def _memory_uri_cache() -> MemoryURICache:
    from storagecache.uri_cache import MemoryURICache

    return MemoryURICache()


@functools.cache
def _forced_s3(alias: str) -> Storage:
    from django.core.files.storage import storages

    from storagecache import config

    return storages.create_storage(config.s3_storage(Environment.current(), alias))


def development_secret_key(config_folder: Path) -> str:
    """Read the key of this machine, made once with mode 0600; two processes that start at once get the same.

    Raises:
        ConfigurationError: the configuration folder cannot be written.
    """
    path = config_folder / "secret_key"
    try:
        config_folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _publish(path, secrets.token_urlsafe(48))
        key = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not ASCII text"
        raise ConfigurationError(f"{path} cannot be made or read: {reason}. Mend it or set SECRET_KEY.") from None
    if not key:
        raise ConfigurationError(f"{path} is empty. Remove it, and a new key is made; or set SECRET_KEY.")
    return key


def make_folders(environment: Environment) -> None:
    """Make the configuration folder and the one of the SQLite catalog.

    Raises:
        ConfigurationError: one of them cannot be made.
    """
    for path in (environment.config_folder, environment.catalog_path.parent):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"The folder {path} cannot be made: {error.strerror}. Mend it, or set NODETOOL_CONFIG_DIR or DB_PATH."
            ) from None


def _publish(path: Path, text: str) -> None:
    """Make the file whole or not at all; the first of two processes wins."""
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=".secret_key-")  # mode 0600
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(text)
        os.link(draft, path)
    except FileExistsError:
        return
    finally:
        Path(draft).unlink()
