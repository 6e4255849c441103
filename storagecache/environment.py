"""The configuration of the service: one frozen value, layered from files and the process environment.

Nothing else reads the process environment. What the files and the process say is put together in `sources`, what
cannot be served is in `rules`; each value knows where it came from. What Django makes of it lives in
`storagecache.config`.
"""

from __future__ import annotations

import functools
import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from storagecache import casts
from storagecache.rules import refusals
from storagecache.sources import NO_DRAFTS, Drafts, Sources, Winners, choose_config_folder
from storagecache.variables import ConfigurationError, Variable, cast_text

if TYPE_CHECKING:
    from django.core.files.storage import Storage

    from storagecache.node_cache.cache import NodeCache
    from storagecache.uri_cache import MemoryURICache

PROJECT_FOLDER: Final = Path(__file__).resolve().parent.parent
SIGNED_URL_LIFE: Final = 3600  # seconds a signed URL lives
SIGNED_URL_WINDOW: Final = 900  # seconds inside which the same URL is returned again
DEFAULT_SOURCE: Final = "default"
METRICS_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"  # prometheus-client's own name
_SQLITE_URL: Final = "sqlite:///"

_port: Final = casts.whole_number(1, 65535)


def _variable(
    name: str, cast: Callable[[str], Any], default: Any, group: str, *, secret: bool = False, decided: str | None = None
) -> Any:
    # A secret must not travel into logs and tracebacks by way of repr().
    variable = Variable(name, cast, group, secret, decided)
    return field(default=default, repr=not secret, metadata={"variable": variable})


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
        drafts: Drafts = NO_DRAFTS,
    ) -> Environment:
        """Read every source and return the checked value; `drafts` take the place of files.

        Raises:
            ConfigurationError: naming the variable and its source; also when the combination cannot be served.
        """
        sources = _sources(process, project_folder, under_pytest, drafts)
        winners = sources.winners(cls.variables())
        values = _read_values(winners)
        environment = cls(config_folder=sources.config_folder, sources=_origins(winners), **values)
        for refusal in refusals(environment):
            raise ConfigurationError(refusal)
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
    def least_grace(self) -> int:
        """The seconds for which bytes outlive their last reference at least, so that no signed URL loses them."""
        return SIGNED_URL_LIFE + SIGNED_URL_WINDOW

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
    drafts: Drafts = NO_DRAFTS,
) -> Inspection:
    """Read every source (of this process, unless given) without giving up at the first wrong value.

    Raises:
        ConfigurationError: a file cannot be read, or ENV, which chooses the files, is wrong.
    """
    sources = _sources(os.environ if process is None else process, project_folder, under_pytest, drafts)
    winners = sources.winners(Environment.variables())
    values, problems = _read_leniently(winners)
    environment = Environment(config_folder=sources.config_folder, sources=_origins(winners), **values)
    refusal = next(iter(problems.values()), None) or next(refusals(environment), None)
    texts = {name: text for name, (_, text) in winners.items()}
    return Inspection(environment=environment, texts=texts, problems=problems, refusal=refusal)


def config_folder(process: Mapping[str, str] | None = None) -> Path:
    """Give the configuration folder of a process: this one, unless given.

    Raises:
        ConfigurationError
    """
    return choose_config_folder(os.environ if process is None else process, is_test="pytest" in sys.modules)


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


def for_child(variables: Mapping[str, str]) -> dict[str, str]:
    """Give the environment of a process to start: ours, and these variables where ours says nothing of them."""
    return {**variables, **os.environ}


def share_metrics(folder: Path) -> None:
    """Let the processes that are started from now on keep their numbers in this folder."""
    os.environ[METRICS_VARIABLE] = str(folder)


def keep_own_metrics() -> None:
    """Let this process keep its numbers to itself. Before prometheus-client is imported, or it has no effect."""
    os.environ.pop(METRICS_VARIABLE, None)


def _sources(process: Mapping[str, str], project_folder: Path, under_pytest: bool | None, drafts: Drafts) -> Sources:
    is_test = "pytest" in sys.modules if under_pytest is None else under_pytest
    return Sources(
        process=process,
        config_folder=choose_config_folder(process, is_test=is_test),
        project_folder=project_folder,
        is_test=is_test,
        drafts=drafts,
    )


def _origins(winners: Winners) -> Mapping[str, str]:
    return MappingProxyType({name: source for name, (source, _) in winners.items()})


def _read_values(winners: Winners) -> dict[str, Any]:
    """Cast the texts; an empty one means the built-in default.

    Raises:
        ConfigurationError: at the first one that is wrong.
    """
    values: dict[str, Any] = {}
    for attribute, variable in Environment.variables().items():
        source, text = winners.get(variable.name, (DEFAULT_SOURCE, ""))
        if text.strip():
            values[attribute] = cast_text(variable, text, source)
    return values


def _read_leniently(winners: Winners) -> tuple[dict[str, Any], dict[str, str]]:
    """Cast what can be cast; give the values by field, and what is wrong with the others by variable."""
    values, problems = {}, {}
    for attribute, variable in Environment.variables().items():
        source, text = winners.get(variable.name, (DEFAULT_SOURCE, ""))
        try:
            values.update({attribute: cast_text(variable, text, source)} if text.strip() else {})
        except ConfigurationError as error:
            problems[variable.name] = str(error)
    return values, problems


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
