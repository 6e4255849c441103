"""What the service makes on its machine before it can start: a secret key, and the folders of its own files."""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

from storagecache.environment import Environment
from storagecache.variables import ConfigurationError


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
