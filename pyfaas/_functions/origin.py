"""Whose is this module: a library that the worker can import, or the host application's own?"""

from __future__ import annotations

import os
import sys
import sysconfig
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_LIBRARY_FOLDERS = {"site-packages", "dist-packages"}


def is_library(module: ModuleType) -> bool:
    """Whether a loaded module is of the standard library, of an installed package, or of pyfaas."""
    # Through the namespace: attributes of lazy modules import things.
    variables = vars(module)
    name = variables.get("__name__")
    return _is_library(
        name if isinstance(name, str) else "", variables.get("__file__"), variables.get("__path__")
    )


def is_found(value: Any) -> bool:
    """Whether a class, or what has a name like one, can be imported by its name from a library."""
    module = sys.modules.get(getattr(value, "__module__", None) or "")
    if module is None or not is_library(module):
        return False
    found: Any = module
    for part in (getattr(value, "__qualname__", None) or value.__name__).split("."):
        found = getattr(found, part, None)
    return found is value


def is_library_spec(spec: ModuleSpec) -> bool:
    """Whether a module that was found, and not imported, is a library's."""
    if spec.origin in {"built-in", "frozen"}:
        return True
    return _is_library(spec.name, spec.origin if spec.has_location else None, spec.submodule_search_locations)


def _is_library(name: str, file: Any, path: Any) -> bool:
    top = name.partition(".")[0]
    if top == "pyfaas":  # from a source checkout too
        return True
    if top in {"__main__", "__mp_main__"}:
        return False
    if isinstance(file, str):
        return _is_library_file(file)
    try:
        folders = [folder for folder in path or () if isinstance(folder, str)]
    except Exception:  # noqa: BLE001  # a lazy package's own kind of path
        folders = []
    if folders:
        return any(_is_library_file(os.path.join(folder, "")) for folder in folders)
    # Built in or frozen; anything else was made by the application.
    return top in sys.builtin_module_names or top in sys.stdlib_module_names


@lru_cache(maxsize=8192)
def _is_library_file(file: str) -> bool:
    if not _LIBRARY_FOLDERS.isdisjoint(file.split(os.sep)):
        return True
    return os.path.realpath(file).startswith(_standard_folders())


@lru_cache(maxsize=1)
def _standard_folders() -> tuple[str, ...]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    return tuple({os.path.join(os.path.realpath(sysconfig.get_path(name)), "") for name in names})
