"""From the code that the host sent to the object that handles events."""

from __future__ import annotations

import pickle
import sys
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import CodeType

ROOT: Final = "/var/task"


class InitFailure(Exception):
    """The handler cannot be had. Subclasses bear the names of Lambda's error types."""


class ImportModuleError(InitFailure):
    """The handler's module, or what it imports, does not exist."""


class UserCodeSyntaxError(InitFailure):
    """The handler's module cannot be compiled."""


class HandlerNotFound(InitFailure):
    """The handler's module has no such name, or it is nothing to call."""


class MalformedHandlerName(InitFailure):
    """The handler is no `module.name`."""


for _failure in InitFailure.__subclasses__():
    _failure.__name__ = f"Runtime.{_failure.__name__}"


def resolve(code: Mapping[str, Any]) -> Any:
    """Return what handles events, after running whatever code stands before it.

    Args:
        code: What the host wrote: `kind` is `"pickle"`, `"files"` or `"import"`.

    Raises:
        InitFailure: The handler cannot be had.
        BaseException: Anything that the code itself raises.
    """
    kind = code["kind"]
    if kind == "pickle":
        # Modules that the callable imports when it is called.
        install(code.get("files", {}))
        return _called(pickle.loads(code["pickle"]), "the pickled object")  # noqa: S301  # made by our own host
    if kind == "files":
        install(code["files"])
    elif kind != "import":
        raise InitFailure(f"code of kind {kind!r}; this worker knows pickle, files and import")
    return _handler(code["handler"])


def install(files: Mapping[str, bytes]) -> tuple[Finder, Finder]:
    """Make files importable from memory, before the libraries; folders without `__init__.py` after them."""
    first, last = Finder(files), Finder(files, namespaces=True)
    position = next(
        (at for at, finder in enumerate(sys.meta_path) if finder is PathFinder), len(sys.meta_path)
    )
    sys.meta_path.insert(position, first)
    sys.meta_path.append(last)
    return first, last


class Finder:
    """Finds modules among files in memory, whose names are paths below `/var/task`."""

    def __init__(self, files: Mapping[str, bytes], *, namespaces: bool = False) -> None:
        self._files = files
        self._namespaces = namespaces

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: object = None
    ) -> ModuleSpec | None:
        """Return the spec of a module among the files, as the import system asks."""
        del path, target
        base = fullname.replace(".", "/")
        if self._namespaces:
            return self._namespace(fullname, base)
        for relative, is_package in ((f"{base}/__init__.py", True), (f"{base}.py", False)):
            if relative in self._files:
                location = f"{ROOT}/{relative}"
                loader = Loader(fullname, location, self._files)
                spec = ModuleSpec(fullname, loader, origin=location, is_package=is_package)
                spec.has_location = True
                if is_package:
                    spec.submodule_search_locations = [f"{ROOT}/{base}"]
                return spec
        return None

    def _namespace(self, fullname: str, base: str) -> ModuleSpec | None:
        if not any(name.startswith(f"{base}/") and name.endswith(".py") for name in self._files):
            return None
        spec = ModuleSpec(fullname, None, is_package=True)
        spec.submodule_search_locations = [f"{ROOT}/{base}"]
        return spec


class Loader(SourceFileLoader):
    """Loads a module from memory; tracebacks get their source lines through `get_source`."""

    def __init__(self, fullname: str, path: str, files: Mapping[str, bytes]) -> None:
        super().__init__(fullname, path)
        self._files = files

    def get_data(self, path: str) -> bytes:
        """Return a file's content: of the module, or of data beside it (`pkgutil.get_data`)."""
        prefix, _, relative = str(path).partition(f"{ROOT}/")
        if prefix or relative not in self._files:
            raise FileNotFoundError(path)
        return self._files[relative]

    def get_code(self, fullname: str) -> CodeType | None:
        """Compile; a NUL byte too is a `SyntaxError`, for which the first releases of 3.11 have a `ValueError`."""
        try:
            return super().get_code(fullname)
        except ValueError as error:
            raise SyntaxError(str(error), (self.path, None, None, None)) from None

    def path_stats(self, path: str) -> Mapping[str, Any]:
        """Refuse: without a time of modification no bytecode is cached."""
        raise FileNotFoundError(path)


def _handler(handler: str) -> Any:
    module_name, _, name = handler.rpartition(".")
    # As Lambda does, so that "folder/module.name" works.
    module_name = module_name.replace("/", ".")
    if not module_name or not name:
        raise MalformedHandlerName(f"Bad handler {handler!r}: it has to be module.name")
    try:
        module = import_module(module_name)
    except ImportError as error:
        raise ImportModuleError(f"Unable to import module {module_name!r}: {error}") from error
    except SyntaxError as error:
        raise UserCodeSyntaxError(f"Syntax error in module {module_name!r}: {error}") from error
    try:
        found = getattr(module, name)
    except AttributeError:
        raise HandlerNotFound(_not_found(module, module_name, name)) from None
    return _called(found, f"Handler {name!r} in module {module_name!r}")


def _not_found(module: Any, module_name: str, name: str) -> str:
    text = f"Handler {name!r} missing on module {module_name!r}"
    origin = getattr(module, "__file__", None)
    if origin is None or not origin.startswith(f"{ROOT}/"):
        text += f", which was found at {origin or 'the interpreter itself'}: is another module of that name in the way?"
    return text


def _called(found: Any, what: str) -> Any:
    # A pyfaas Function, where the module registers its own functions: what it wraps is meant.
    reduce = getattr(type(found), "__pyfaas_reduce__", None)
    if reduce is not None:
        found = reduce(found)
    if not callable(found):
        raise HandlerNotFound(f"{what} is a {type(found).__name__}, which cannot be called")
    return found
