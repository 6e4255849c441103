"""No secret leaves the doctor: every text it prints goes through here, whatever a library wrote into its message."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from storagecache.environment import Environment
from storagecache.settings_files import MASK

_SHORT: Final = 4  # characters; a shorter secret is masked only as a word, or half of each text would go
_USER_INFO: Final = re.compile(r"//[^/@\s]*@")  # user and password of a URL
_SIGNATURE: Final = re.compile(r"(X-Amz-(?:Signature|Credential|Security-Token)=)[^&\s]*")


class Mask:
    """Takes the secrets of an environment out of texts."""

    def __init__(self, environment: Environment | None, *more: str) -> None:
        """Know the secrets of `environment`, and `more`."""
        known = {*more, *(_secrets_of(environment) if environment else ())}
        forms = {form for secret in known if secret.strip() for form in (secret, quote(secret, safe=""), repr(secret))}
        forms = {form[1:-1] if form not in known and form[0] in "'\"" else form for form in forms}
        patterns = (_pattern(form) for form in sorted(forms, key=len, reverse=True))
        self._secrets = re.compile("|".join(patterns)) if forms else None

    def __call__(self, text: str) -> str:
        """Give the text without secrets."""
        clean = self._secrets.sub(MASK, text) if self._secrets else text
        return _SIGNATURE.sub(rf"\1{MASK}", _USER_INFO.sub(f"//{MASK}@", clean))


def _pattern(secret: str) -> str:
    written = re.escape(secret)
    return written if len(secret) >= _SHORT else rf"(?<!\w){written}(?!\w)"


def _secrets_of(environment: Environment) -> Iterator[str]:
    for attribute, variable in Environment.variables().items():
        value = getattr(environment, attribute)
        if variable.secret and value:
            yield from (value,) if isinstance(value, str) else value
    password = urlsplit(environment.database_url or "").password
    if password:
        yield from (password, unquote(password))
