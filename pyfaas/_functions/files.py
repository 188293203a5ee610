"""Modules as files, found without importing them."""

from __future__ import annotations

import os
import re
import sys
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
)
from typing import TYPE_CHECKING

from pyfaas._functions import origin
from pyfaas.errors import InvalidPackage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from importlib.machinery import ModuleSpec

_SKIPPED_FOLDERS = {"__pycache__", "node_modules"}
_SKIPPED_ENDINGS = (".pyc", ".pyo")
# Not the relative ones: a package is shipped whole.
_IMPORT = re.compile(
    rb"(?:^|[;:])[ \t]*(?:from[ \t]+(?P<one>\w[\w.]*)|import[ \t]+(?P<many>\w[^\n;#]*))", re.MULTILINE
)


def find(name: str) -> ModuleSpec | None:
    """Find a module by its full name and run none of its, or its packages', code."""
    top, *rest = name.split(".")
    spec = _find_top(top)
    for position in range(len(rest)):
        if spec is None or spec.submodule_search_locations is None:
            return None
        full = ".".join((top, *rest[: position + 1]))
        spec = _find_below(full, spec.submodule_search_locations)
    return spec


def _find_top(name: str) -> ModuleSpec | None:
    for finder in list(sys.meta_path):
        find_spec = getattr(finder, "find_spec", None)
        spec: ModuleSpec | None = find_spec(name, None) if find_spec is not None else None
        if spec is not None:
            return spec
    # Loaded from where no finder looks, for instance by a test runner.
    return getattr(sys.modules.get(name), "__spec__", None)


def _find_below(name: str, folders: Iterable[str]) -> ModuleSpec | None:
    # Not through the finders: for a package without __init__ they want its parent imported.
    packages = []
    for folder in folders:
        spec = FileFinder(
            folder, (SourceFileLoader, SOURCE_SUFFIXES), (ExtensionFileLoader, EXTENSION_SUFFIXES)
        ).find_spec(name)
        if spec is not None and spec.loader is not None:
            return spec
        if spec is not None:
            packages.append(spec)
    return packages[0] if packages else None


def of_module(name: str) -> dict[str, bytes] | None:
    """Return the files of a module's whole top-level package; `None` if it is a library's.

    Raises:
        InvalidPackage: It does not exist, is compiled, or cannot be read.
    """
    if find(name) is None and name not in sys.modules:
        raise InvalidPackage(
            f"module {name!r} was not found; sys.path has {len(sys.path)} folders, none with it"
        )
    top = name.partition(".")[0]
    spec = find(top)
    if spec is None or origin.is_library_spec(spec):
        return None
    if spec.submodule_search_locations is None:
        return {f"{top}.py": _source(top, spec)}
    files: dict[str, bytes] = {}
    for folder in spec.submodule_search_locations:
        for relative, file in _below(folder):
            files.setdefault(f"{top}/{relative}", read(file))
    return files


def imported(files: dict[str, bytes]) -> set[str]:
    """Return the top-level names that source files seem to import, wherever they do it.

    Found by a pattern, since a package may have a thousand files: what only looks like an import in a text ships a
    file too many, if there is a module of that name.
    """
    names: set[str] = set()
    for place, content in files.items():
        if place.endswith(".py"):
            for match in _IMPORT.finditer(content):
                parts = (match["one"] or match["many"]).decode("utf-8", "replace").split(",")
                names |= {part.strip().partition(" ")[0].partition(".")[0] for part in parts}
    return {name for name in names if name.isidentifier()}


def _source(name: str, spec: ModuleSpec) -> bytes:
    file = spec.origin
    if file is None or not file.endswith(".py"):
        raise InvalidPackage(
            f"module {name!r} comes from {file}: only source files can be shipped; install it instead"
        )
    return read(file)


def _below(folder: str) -> Iterator[tuple[str, str]]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(
            name for name in folders if name not in _SKIPPED_FOLDERS and not name.startswith(".")
        )
        for name in sorted(names):
            file = os.path.join(parent, name)
            if not name.startswith(".") and not name.endswith(_SKIPPED_ENDINGS) and os.path.isfile(file):
                yield os.path.relpath(file, folder).replace(os.sep, "/"), file


def read(file: str) -> bytes:
    """Read a file.

    Raises:
        InvalidPackage: It is not there, or cannot be read.
    """
    try:
        with open(file, "rb") as opened:
            return opened.read()
    except FileNotFoundError:
        raise InvalidPackage(f"{file!r} does not exist; the current folder is {os.getcwd()!r}") from None
    except OSError as error:
        raise InvalidPackage(f"{file!r} cannot be read: {error.strerror}") from error
