"""Which code a node runs: a digest of its class's source and package version, made once per class.

A change of a function that the class only calls is not seen: such nodes declare `cache_version` or `fingerprint()`.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
import time
import types
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from typing import Any, Final

import ormsgpack
from blake3 import blake3

from storagecache.node_cache.canonical import canonical_bytes
from storagecache.node_cache.errors import NotCacheableError

_MAX_CLASSES: Final = 4096  # classes made anew all the time (in shells, by reloads) must not pile up
_made: dict[type, tuple[Any, str]] = {}  # a weak dictionary would take a quarter of a key's time
_DIGEST_BYTES: Final = 16
_MAIN: Final = frozenset({"__main__", "__mp_main__"})  # a script, in its own process and in those that it spawns
_STARTED: Final = time.time()


def code_and_interface(cls: type) -> tuple[Any, str]:
    """Give two short texts of a class: what its code is, and which fields and types it declares."""
    known = _made.get(cls)
    if known is None:
        if len(_made) >= _MAX_CLASSES:
            _made.clear()
        known = _made[cls] = (_code(cls), _digest("\n".join(_interface(cls))))
    return known


def _code(cls: type) -> str:
    """Digest the sources of the class and of its bases in the same package, and the versions of all packages."""
    package = _package_of(cls)
    own = [base for base in cls.__mro__ if _package_of(base) == package]
    packages = sorted({_package_of(base) for base in cls.__mro__} - {"builtins", ""})
    versions = [f"{name}={found}" for name in packages if (found := _version_of(name))]
    return _digest("\n".join([*map(_source, own), *versions]))


def _package_of(cls: type) -> str:
    """Name the top of a class's module; a script's is "", unless it runs as a module of a package (`python -m`)."""
    name = cls.__module__
    if name in _MAIN:
        spec = getattr(sys.modules.get(name), "__spec__", None)
        name = spec.name if spec else ""
    return name.partition(".")[0]


def _version_of(package: str) -> str:
    try:
        return version(package)
    except (PackageNotFoundError, ValueError):
        found = getattr(sys.modules.get(package), "__version__", "")
        return found if found and isinstance(found, str) else _version_by_contents(package)


def _version_by_contents(package: str) -> str:
    """Name the distributions that bring a package of another name (`nodetool` is in `nodetool-core` and others)."""
    names = sorted(set(_distributions().get(package, ())))
    return " ".join(f"{name} {version(name)}" for name in names)


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    return packages_distributions()


def _source(cls: type) -> str:
    try:
        if not _is_newer_than_process(inspect.getsourcefile(cls)):
            return inspect.getsource(cls)
    except (OSError, TypeError):  # made by exec, or in a shell
        pass
    return "\n".join(_compiled(cls))


def _is_newer_than_process(path: str | None) -> bool:
    """Tell whether a file changed since this process began, so that other code than the file's may be running.

    The time of the inode's change, since tools set the other one back.
    """
    return path is not None and os.stat(path).st_ctime >= _STARTED


def _compiled(cls: type) -> Iterator[str]:
    """Yield what a class without source is made of; its functions differ between Python versions."""
    for name, member in sorted(vars(cls).items()):
        if not name.startswith("__"):
            yield f"{name}={_constant_text(member)}"
        function = inspect.unwrap(getattr(member, "__func__", getattr(member, "fget", member)))
        if isinstance(function, types.FunctionType):
            yield f"{name} {_code_text(function.__code__)}"


def _constant_text(member: Any) -> str:
    try:
        return canonical_bytes(member).hex()
    except NotCacheableError:  # a function, a property, an object that the class keeps
        return ""


def _code_text(code: types.CodeType) -> str:
    constants = [_code_text(c) if isinstance(c, types.CodeType) else _constant(c) for c in code.co_consts]
    return "|".join([code.co_code.hex(), *code.co_names, *code.co_varnames, *constants])


def _constant(value: Any) -> str:
    if isinstance(value, frozenset):  # its repr follows the hash seed
        return "{" + ",".join(sorted(map(_constant, value))) + "}"
    if isinstance(value, tuple):
        return "(" + ",".join(map(_constant, value)) + ")"
    return f"{type(value).__name__}:{value!r}"  # only numbers, texts, bytes, None and Ellipsis are left


def _interface(cls: type) -> Iterator[str]:
    """Yield the declared fields, and the return type of `process`, as text."""
    for base in cls.__mro__[:-1]:
        if _package_of(base) == _package_of(cls):
            for name, annotation in sorted(vars(base).get("__annotations__", {}).items()):
                yield f"{name}: {_type_text(annotation)}"
    process = getattr(cls, "process", None)
    yield _type_text(getattr(process, "__annotations__", {}).get("return"))


def _type_text(annotation: Any) -> str:
    if isinstance(annotation, type) and not hasattr(annotation, "__args__"):
        return annotation.__qualname__
    arguments = getattr(annotation, "__args__", None)
    if arguments:
        origin = getattr(annotation, "__origin__", None)
        return f"{_type_text(origin) if origin else 'union'}[{','.join(map(_type_text, arguments))}]"
    return annotation if isinstance(annotation, str) else type(annotation).__name__


def _digest(text: str) -> str:
    packed = ormsgpack.packb([text.replace("\r\n", "\n").encode("utf-8", "surrogatepass")])
    return blake3(packed).hexdigest(_DIGEST_BYTES)
