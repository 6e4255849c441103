"""Where the text of a variable comes from: files and a process, in layers, of which the last that names it wins.

settings.yaml < secrets.yaml < .env < .env.<ENV> < .env.<ENV>.local < process. What the texts mean is read in
`storagecache.environment`; how the two YAML files are changed lives in `storagecache.settings_files`.
"""

from __future__ import annotations

import atexit
import functools
import io
import re
import shutil
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

import environ
import yaml

from storagecache import casts
from storagecache.variables import ConfigurationError, Variable, cast_text

PROCESS_SOURCE: Final = "environment"
PYTEST_SOURCE: Final = "pytest"
SETTINGS_FILE: Final = "settings.yaml"  # in the configuration folder
SECRETS_FILE: Final = "secrets.yaml"
CONFIG_VARIABLE: Final = "NODETOOL_CONFIG_DIR"  # decides where the other sources are, so it is none of them

_YAML_NULL: Final = "tag:yaml.org,2002:null"
_DOTENV: Final = re.compile(
    r"""(?:export\s+)?(?P<name>[A-Za-z_]\w*)\s*=\s*(?P<value>"(?:[^"\\]|\\.)*"|'[^']*'|[^"'\s].*?|)(?:\s+\#.*)?\Z""",
    re.ASCII | re.VERBOSE,
)

Layer = tuple[str, Mapping[str, str]]  # (source, text of each variable by its outside name)
Winners = Mapping[str, tuple[str, str]]  # (source, text) by a variable's outside name: the last layer's that names it
Drafts = Mapping[Path, str]  # what a file is going to hold, by its path: read in its place
NO_DRAFTS: Final[Drafts] = MappingProxyType({})


def choose_config_folder(process: Mapping[str, str], *, is_test: bool) -> Path:
    """Give the configuration folder that a process names; else the user's, under pytest a throw-away one.

    Raises:
        ConfigurationError
    """
    chosen = process.get(CONFIG_VARIABLE, "").strip()
    if is_test and not chosen:
        return _test_folder()
    try:
        return casts.folder(chosen or "~/.config/nodetool")
    except ValueError as error:
        raise ConfigurationError(f"{CONFIG_VARIABLE} (from {PROCESS_SOURCE}) must be {error}.") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where to look: a process, and the files of a configuration folder and of a project."""

    process: Mapping[str, str]
    config_folder: Path
    project_folder: Path
    is_test: bool
    drafts: Drafts

    def winners(self, variables: Mapping[str, Variable]) -> Winners:
        """Find the text of each of these variables (by their fields) that any source names.

        Raises:
            ConfigurationError: a file cannot be read, or ENV, which chooses the files, is wrong.
        """
        names = [variable.name for variable in variables.values()]
        layers = self._layers(names, variables["env"])
        return {name: winner for name in names if (winner := _winner(name, layers))}

    def _layers(self, names: Collection[str], env: Variable) -> list[Layer]:
        """Give every source, weakest first."""
        layers = [_yaml_layer(self.config_folder / name, names, self.drafts) for name in (SETTINGS_FILE, SECRETS_FILE)]
        layers.append(_dotenv_layer(self.project_folder / ".env"))
        forced: list[Layer] = [(PYTEST_SOURCE, {"ENV": "test"})] if self.is_test else []
        process: Layer = (PROCESS_SOURCE, self.process)
        chosen = _chosen_env(env, [*layers, process, *forced])
        for suffix in ("", ".local"):
            layers.append(_without_env(_dotenv_layer(self.project_folder / f".env.{chosen}{suffix}")))
        return [*layers, process, *forced]


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


@functools.cache
def _test_folder() -> Path:
    """Make a folder that tests may fill: never the user's own."""
    path = Path(tempfile.mkdtemp(prefix="nodetool-test-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def _chosen_env(variable: Variable, layers: list[Layer]) -> str:
    source, text = _winner(variable.name, layers) or (PROCESS_SOURCE, "")
    return str(cast_text(variable, text, source)) if text.strip() else "development"


def _winner(name: str, layers: list[Layer]) -> tuple[str, str] | None:
    return next(((source, texts[name]) for source, texts in reversed(layers) if name in texts), None)


def _without_env(layer: Layer) -> Layer:
    """Drop ENV from a file that was itself chosen by ENV."""
    source, values = layer
    return source, {name: value for name, value in values.items() if name != "ENV"}


def _yaml_layer(path: Path, names: Collection[str], drafts: Drafts) -> Layer:
    root = compose_yaml(path, drafts[path] if path in drafts else _read_text(path))
    if root is None or root.tag == _YAML_NULL:
        return str(path), {}
    if not isinstance(root, yaml.MappingNode):
        raise ConfigurationError(f"{path} must hold lines of the form NAME: value.")
    named = [(key.value, value) for key, value in root.value if isinstance(key, yaml.ScalarNode)]
    return str(path), {name: _yaml_text(path, name, value) for name, value in named if name in names}


def _yaml_text(path: Path, name: str, node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return "" if node.tag == _YAML_NULL else str(node.value)
    if isinstance(node, yaml.SequenceNode) and all(isinstance(item, yaml.ScalarNode) for item in node.value):
        return ",".join(str(item.value) for item in node.value)
    shape = "mapping" if isinstance(node, yaml.MappingNode) else "list of lists or mappings"
    raise ConfigurationError(f"{name} in {path} must be a single value or a list, not a {shape}.")


def _dotenv_layer(path: Path) -> Layer:
    class Reader(environ.Env):  # type: ignore[misc]
        ENVIRON: dict[str, str] = {}  # django-environ's own name; a fresh dict, never the process's

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
