"""What a variable of the service is, and how its text becomes a value. Which there are: `storagecache.environment`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from django.core.exceptions import ImproperlyConfigured

_USER_INFO: Final = re.compile(r"//[^/@\s]*@")  # user and password of a URL


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


def cast_text(variable: Variable, text: str, source: str) -> object:
    """Turn a text from `source` into the variable's value.

    Raises:
        ConfigurationError: naming the variable and its source; a secret is not quoted.
    """
    try:
        text.encode("utf-8")
        return variable.cast(text)
    except UnicodeEncodeError:
        raise ConfigurationError(f"{variable.name} (from {source}) is not UTF-8 text.") from None
    except ValueError as error:
        shown = "set" if variable.secret else repr(_USER_INFO.sub("//***@", text[:80]))
        raise ConfigurationError(f"{variable.name} (from {source}) is {shown}, but must be {error}.") from None
