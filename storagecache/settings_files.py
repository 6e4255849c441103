"""settings.yaml and secrets.yaml: what every variable is and where it came from, and how one of the files is changed.

A change is checked before it is written, written in one step, and touches nothing else in the file: comments, order and
the names of other programs stay. Which variables there are is declared in `storagecache.environment`.
"""

from __future__ import annotations

import difflib
import fcntl
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from storagecache.environment import DEFAULT_SOURCE, Environment, Inspection, config_folder, default_text, inspect
from storagecache.sources import CONFIG_VARIABLE, PROCESS_SOURCE, SECRETS_FILE, SETTINGS_FILE, compose_yaml
from storagecache.storages.durable import sync_folder
from storagecache.variables import ConfigurationError, Variable

MASK: Final = "***"
_LOCK_FILE: Final = "settings.lock"
_PRIVATE: Final = 0o600
_OPEN: Final = 0o644
_OURS: Final = re.compile(r"\A[A-Z][A-Z0-9_]*\Z")
_USER_INFO: Final = re.compile(r"//[^/@\s]*@")  # user and password of a URL


class SettingsError(Exception):
    """A name, a value or a file that is not taken; nothing was written. Names the remedy, never a secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One variable as it stands: the text in force ("": none), and where it came from."""

    name: str
    group: str
    secret: bool
    value: str = field(repr=False)
    default: str
    source: str
    problem: str = ""

    @property
    def shown(self) -> str:
        """The value as anybody may see it."""
        if self.secret:
            return MASK if self.value else ""
        return _USER_INFO.sub(f"//{MASK}@", self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a change came to: the file, the stronger source that still wins over it, and what is still wrong."""

    path: Path
    hidden_by: str | None = None
    remaining: str | None = None
    left_in: Path | None = None  # where the same secret is still written for others to read


def list_settings(inspection: Inspection) -> list[Setting]:
    """Give every variable, in the order of the documentation, group by group."""
    environment = inspection.environment
    rows = [
        Setting(
            name=variable.name,
            group=variable.group,
            secret=variable.secret,
            value=_value(inspection, attribute, variable),
            default=default_text(attribute),
            source=environment.source_of(variable.name),
            problem=inspection.problems.get(variable.name, ""),
        )
        for attribute, variable in Environment.variables().items()
    ]
    return [_config_folder_row(environment), *rows]


def _value(inspection: Inspection, attribute: str, variable: Variable) -> str:
    text = inspection.texts.get(variable.name, "").strip()
    if text or variable.decided is None:
        return text or default_text(attribute)
    return str(getattr(inspection.environment, variable.decided))


def _config_folder_row(environment: Environment) -> Setting:
    folder, usual = str(environment.config_folder), str(Path("~/.config/nodetool").expanduser())
    source = DEFAULT_SOURCE if folder == usual else PROCESS_SOURCE
    return Setting(name=CONFIG_VARIABLE, group="service", secret=False, value=folder, default=usual, source=source)


def find_variable(name: str) -> Variable:
    """Find a variable by its name.

    Raises:
        SettingsError: there is none; the nearest names are told.
    """
    if name == CONFIG_VARIABLE:
        raise SettingsError(f"{name} says where the settings files are: set it in the process environment.")
    declared = {variable.name: variable for variable in Environment.variables().values()}
    if name not in declared:
        near = difflib.get_close_matches(name.upper(), declared, n=3)
        hint = f" Did you mean {' or '.join(near)}?" if near else " `settings show` lists all."
        raise SettingsError(f"There is no variable {name[:80]!r}.{hint}")
    return declared[name]


def set_value(name: str, value: str, *, secret: bool = False, process: Mapping[str, str] | None = None) -> Change:
    """Set one variable: secrets in secrets.yaml (mode 0600), all else in settings.yaml.

    Raises:
        SettingsError: no such variable, a value it cannot have, or one with which the service would not start.
        ConfigurationError: a source cannot be read.
    """
    variable = find_variable(name)
    _check_value(variable, value)
    folder = config_folder(process)
    path = folder / (SECRETS_FILE if secret or variable.secret else SETTINGS_FILE)
    with _locked(folder):
        old = read(path)
        new = with_value(path, old, name, value)
        after = _judge(path, old, new, process)
        write(path, new)
    source, open_file = after.environment.source_of(name), folder / SETTINGS_FILE
    is_left = path != open_file and any(key == name for key, _ in _pairs(open_file, read(open_file)))
    return Change(
        path=path,
        hidden_by=source if source != str(path) else None,
        remaining=after.refusal,
        left_in=open_file if is_left else None,
    )


def replace_text(path: Path, old: str, new: str, *, process: Mapping[str, str] | None = None) -> Change:
    """Put an edited text in the place of `old`, the text that the editing began with.

    Raises:
        SettingsError: the text is wrong, the service would not start with it, or the file was changed meanwhile.
        ConfigurationError: it is not YAML.
    """
    with _locked(path.parent):
        if read(path) != old:
            raise SettingsError(f"{path} was changed by somebody else meanwhile.")
        after = _judge(path, old, new, process)
        write(path, new)
    return Change(path=path, remaining=after.refusal)


def strange_names(path: Path, text: str) -> list[str]:
    """Give the names in a file that look like variables of this service and are none: most likely misspelt."""
    declared = {variable.name for variable in Environment.variables().values()}
    return [name for name, _ in _pairs(path, text) if _OURS.match(name) and name not in declared]


def _check_value(variable: Variable, value: str) -> None:
    try:
        value.encode("utf-8")
        if value.strip():
            variable.cast(value)
    except UnicodeEncodeError:
        raise SettingsError(f"{variable.name} must be UTF-8 text.") from None
    except ValueError as error:
        given = "what was given" if variable.secret else repr(_USER_INFO.sub(f"//{MASK}@", value[:80]))
        raise SettingsError(f"{variable.name} must be {error}, not {given}.") from None


def _judge(path: Path, old: str, new: str, process: Mapping[str, str] | None) -> Inspection:
    """Refuse a text that is wrong itself, or with which a service that would start no longer does."""
    after = inspect(process, drafts={path: new})
    own = [problem for name, problem in after.problems.items() if after.environment.source_of(name) == str(path)]
    was_served = _refusal(path, old, process) is None
    if own or (after.refusal and was_served):
        raise SettingsError(" ".join(own) or f"The service would not start: {after.refusal}")
    return after


def _refusal(path: Path, text: str, process: Mapping[str, str] | None) -> str | None:
    try:
        return inspect(process, drafts={path: text}).refusal
    except ConfigurationError as error:
        return str(error)


# --- the text of a file ------------------------------------------------------------------------


def with_value(path: Path, text: str, name: str, value: str) -> str:
    """Give `text` with one value set, and not a character changed elsewhere. Pure; `path` is for messages.

    Raises:
        SettingsError: the file is written in a way that cannot be changed in place.
        ConfigurationError: it is not YAML.
    """
    root = compose_yaml(path, text)
    written = yaml.safe_dump(value, default_style='"', allow_unicode=True, width=sys.maxsize).strip()
    if isinstance(root, yaml.MappingNode) and not root.flow_style and (found := _find(root, name)):
        changed = _replaced(text, found, written)
    else:
        column = root.start_mark.column if isinstance(root, yaml.MappingNode) else 0
        changed = _appended(text, f"{' ' * column}{name}: {written}")
    _check_change(path, text, changed, (name, value))
    return changed


def _find(root: yaml.MappingNode, name: str) -> yaml.Node | None:
    """Find the last value of a name: the one that counts."""
    values = [value for key, value in root.value if isinstance(key, yaml.ScalarNode) and key.value == name]
    return values[-1] if values else None


def _replaced(text: str, node: yaml.Node, written: str) -> str:
    start, end = node.start_mark.index, node.end_mark.index
    before, old, after = text[:start], text[start:end], text[end:]
    blank = "" if before.endswith((" ", "\t")) else " "
    tail = old[len(old.rstrip("\r\n")) :]  # of a block scalar, whose end is the next line's beginning
    return f"{before}{blank}{written}{tail}{after}"


def _appended(text: str, line: str) -> str:
    newline = "\r\n" if "\r\n" in text else "\n"
    gap = newline if text and not text.endswith("\n") else ""
    return f"{text}{gap}{line}{newline}"


def _check_change(path: Path, old: str, new: str, pair: tuple[str, str]) -> None:
    """Read back what would be written: this pair is new, all others are as they were."""
    name, value = pair
    try:
        kept = [each for each in _pairs(path, new) if each[0] != name] == [
            each for each in _pairs(path, old) if each[0] != name
        ]
        took = [text for key, text in _pairs(path, new) if key == name][-1:] == [("tag:yaml.org,2002:str", value)]
    except ConfigurationError:
        kept = took = False
    if not (kept and took):
        raise SettingsError(f"{path} is written in a way that cannot be changed in place: use `settings edit`.")


def _pairs(path: Path, text: str) -> list[tuple[str, Any]]:
    root = compose_yaml(path, text)
    try:
        return _shape(root) if isinstance(root, yaml.MappingNode) else []
    except RecursionError:
        raise ConfigurationError(f"{path} has a value that contains itself. Mend it with `settings edit`.") from None


def _shape(node: yaml.Node) -> Any:
    """Give what a node says, without where it stands."""
    if isinstance(node, yaml.MappingNode):
        return [(_key(key), _shape(value)) for key, value in node.value]
    if isinstance(node, yaml.SequenceNode):
        return [_shape(item) for item in node.value]
    return (node.tag, node.value)


def _key(node: yaml.Node) -> str:
    """Give a key as text; a list may be one, too, though it names nothing of ours."""
    return str(node.value) if isinstance(node, yaml.ScalarNode) else repr(_shape(node))


# --- the file ----------------------------------------------------------------------------------


def read(path: Path) -> str:
    """Read a settings file as it is, line ends included; "" when there is none.

    Raises:
        ConfigurationError
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return file.read()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigurationError(f"{path} cannot be read: {reason}. Mend the file or its permissions.") from None


def write(path: Path, text: str) -> None:
    """Put a text in the place of a file, in one step and durably. Secrets get mode 0600, others keep theirs.

    What root writes keeps its owner, or belongs to that of the folder: the user of the service has to read it.

    Raises:
        SettingsError: it cannot be written; the file is as it was.
    """
    target = Path(os.path.realpath(path))  # a link to a file kept elsewhere stays one
    try:
        fd, draft = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
        try:
            with os.fdopen(fd, "w", encoding="utf-8", newline="") as file:
                file.write(text)
                _give(fd, target if target.exists() else target.parent)
                os.fchmod(fd, _mode(path, target))
                file.flush()
                os.fsync(fd)
            os.replace(draft, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(draft)
            raise
        sync_folder(str(target.parent))
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}.") from error


def _give(descriptor: int, example: Path) -> None:
    """Let the owner of `example` own an open file, where this process may give it away."""
    if os.geteuid() == 0:
        status = example.stat()
        os.fchown(descriptor, status.st_uid, status.st_gid)


def _mode(path: Path, target: Path) -> int:
    if path.name == SECRETS_FILE:
        return _PRIVATE
    try:
        return target.stat().st_mode & 0o777
    except FileNotFoundError:
        return _OPEN


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time change the files of a folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _PRIVATE)
    except OSError as error:
        raise SettingsError(f"{folder} cannot be written: {error.strerror}.") from error
    try:
        _give(lock, folder)
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
