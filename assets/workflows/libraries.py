"""Heavy libraries, imported when a node asks for what needs them, and no sooner."""

from __future__ import annotations

import importlib
from typing import Any, Final

_PACKAGES: Final = {"PIL.Image": "pillow"}


class MissingLibraryError(ImportError):
    """A helper needs a package that is not installed here."""


def need(module: str, what: str) -> Any:
    """Import a module that `what` needs.

    Raises:
        MissingLibraryError: naming the package to install.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = _PACKAGES.get(module, module.partition(".")[0])
        raise MissingLibraryError(
            f"{what} needs the package {package!r}: pip install {package}.", name=package
        ) from error
