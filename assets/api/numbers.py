"""Numbers as requests may write them: digits in a query, numbers in JSON. Python would read `1_0` and true, too."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

_DIGITS: Final = re.compile(r"-?[0-9]{1,20}")


def _written(value: object) -> object:
    if isinstance(value, str) and not _DIGITS.fullmatch(value):
        raise PydanticCustomError("digits", "must be a whole number, in digits")
    return value


def _number(value: object) -> object:
    if isinstance(value, (bool, str)):
        raise PydanticCustomError("number", "must be a number")
    return value


QueryInt = Annotated[int, BeforeValidator(_written)]
JsonInt = Annotated[int, BeforeValidator(_number)]  # 5.0 is one, as JSON Schema has it
JsonFloat = Annotated[float, BeforeValidator(_number)]
