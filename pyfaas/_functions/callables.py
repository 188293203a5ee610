"""A callable as code: by its name if a library has it, otherwise by value with all that it uses.

By value goes what belongs to the application: `__main__` and every module outside the standard library and the
installed packages. A module that such a function merely mentions goes along with its variables; those that cannot
travel are replaced by stand-ins that say so when they are used. What the function itself captured has to travel.

There is one of each module in the worker, as in the host: the functions of a module that goes along have its variables
for globals, and imports inside functions find it. Other modules that such imports name are shipped as files.
"""

from __future__ import annotations

import dataclasses
import io
import pickle
import sys
import threading
from contextlib import contextmanager
from functools import partial
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final

import cloudpickle

from pyfaas._functions import captured, expected, files, imports, origin, rebuilt
from pyfaas._ipc import standins, structs
from pyfaas.errors import InvalidPackage

if TYPE_CHECKING:
    from collections.abc import Iterator

# cloudpickle's list of modules that go by value is one for the process.
_lock: Final = threading.Lock()
#: Bytes of a package that goes along although perhaps nothing imports it: more would make a function too large.
USEFUL_MAX: Final = 16_777_216
_LOADER_VARIABLES: Final = {"__builtins__", "__cached__", "__loader__", "__spec__"}


def image(function: Any) -> tuple[dict[str, Any], str, str]:
    """Return the worker's map, the handler's name and a description.

    Raises:
        InvalidPackage: Something that it captured cannot travel; the text names the variable.
    """
    function = plain(function)
    name = label(function)
    if library := _name_in_library(function):
        return {"kind": "import", "handler": library}, library, f"library {library!r}"
    data, own, functions = pickled(function, expected.prepared(function))
    content: dict[str, Any] = {"kind": "pickle", "pickle": data}
    if shipped := _imported_later(own, functions):
        content["files"] = shipped
    module = getattr(function, "__module__", None) or type(function).__module__
    return content, f"{module}.{name}", f"callable {name!r} of {module!r}"


def pickled(value: Any, whole: Any = None) -> tuple[bytes, list[FunctionType], list[FunctionType]]:
    """Pickle a callable by value. Return also its own functions that go along, and these with those of modules.

    Args:
        value: The callable, or a class.
        whole: What is pickled in its place: itself with what has to travel beside it.

    Raises:
        InvalidPackage: Something that it captured cannot travel; the text names the variable.
    """
    name = label(value)
    with _lock, _by_value():
        strict = Strict()
        whole = value if whole is None else whole
        try:
            data = strict.dumps(whole)
        except Exception as error:  # whatever a method of a captured object raises
            raise InvalidPackage(f"{name}: {_explained(value, error)}") from error
        functions = strict.functions
        if modules := strict.modules | _imported_again(strict):
            try:
                data, functions = _with_modules(whole, modules)
            except Exception as error:
                raise InvalidPackage(f"{name}: a module that it uses cannot travel: {error}") from error
    return data, strict.functions, functions


def plain(value: Any) -> Any:
    """Return what a pyfaas Function was made of; anything else as it is."""
    reduce = getattr(type(value), "__pyfaas_reduce__", None)
    if reduce is None:
        return value
    function = reduce(value)
    if function is None:
        raise InvalidPackage(
            f"{value!r} was not registered from a callable; register the same code again instead"
        )
    return function


def label(function: object) -> str:
    """Name a callable for people."""
    if isinstance(function, partial):
        return label(function.func)
    name = getattr(function, "__qualname__", None)
    return name.replace("<locals>.", "") if isinstance(name, str) else type(function).__qualname__


def _name_in_library(function: Any) -> str | None:
    module_name, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not isinstance(module_name, str) or not isinstance(name, str) or not name.isidentifier():
        return None
    module = sys.modules.get(module_name)
    if module is None or not origin.is_library(module) or vars(module).get(name) is not function:
        return None
    return f"{module_name}.{name}"


@contextmanager
def _by_value() -> Iterator[None]:
    """Have cloudpickle take all modules of the application by value."""
    before = cloudpickle.list_registry_pickle_by_value()
    loaded: list[Any] = list(sys.modules.values())
    # By name: a module can be in sys.modules under two of them, as `__main__` and as what it was found by.
    added = {
        module.__name__: module
        for module in loaded
        if isinstance(module, ModuleType)
        and module.__name__ not in before
        and sys.modules.get(module.__name__) is module
        and not origin.is_library(module)
    }.values()
    for module in added:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in added:
            cloudpickle.unregister_pickle_by_value(module)


def _with_modules(function: object, modules: dict[str, ModuleType]) -> tuple[bytes, list[FunctionType]]:
    """Pickle a function, and modules with all that they mention; return also the functions that are in there."""
    while True:
        lenient = Lenient(modules)
        data = lenient.dumps(_Along(function, list(modules.values())))
        found = modules | lenient.modules | _imported_again(lenient)
        if len(found) == len(modules):
            return data, lenient.functions
        modules = found  # again, so that functions that came before a module share its variables too


class _Along:
    """A function, and modules that it imports when it is called."""

    def __init__(self, function: object, modules: list[ModuleType]) -> None:
        self._parts = function, modules

    def __reduce__(self) -> Any:
        return standins.along, self._parts


class _Variables:
    """The variables of a module that goes along: the globals of its functions."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module

    def __reduce__(self) -> Any:
        return vars, (self._module,)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
    """Takes what is the application's by value.

    Attributes:
        modules: The application's modules that were met, by name.
        functions: Functions that go by value.
        homes: Names of the modules of functions and classes that go by value.
    """

    def __init__(self) -> None:
        self._file = io.BytesIO()
        self.modules: dict[str, ModuleType] = {}
        self.functions: list[FunctionType] = []
        self.homes: set[str] = set()
        super().__init__(self._file, protocol=5)

    def dumps(self, value: object) -> bytes:
        self.dump(value)
        return self._file.getvalue()

    def reducer_override(self, value: Any) -> Any:
        cls = type(value)
        if getattr(cls, "__pyfaas_reduce__", None) is not None:
            return self.reduce_registered(value)
        if value is dataclasses.MISSING:  # what asks for it, asks whether it is this very object
            return "MISSING"
        if captured.stays(value):
            return self.reduce_staying(value)
        if issubclass(cls, ModuleType) and not origin.is_library(value):
            self.modules[value.__name__] = value
            return self.reduce_module(value)
        if (reduced := rebuilt.reduction(value)) is not None:
            return reduced
        reduced = super().reducer_override(value)
        if reduced is not NotImplemented and issubclass(cls, FunctionType | type):
            self.homes.add(value.__module__)
            if cls is FunctionType:
                self.functions.append(value)
            elif cls is structs.StructMeta:
                return structs.reduced(value)
        return reduced

    def reduce_registered(self, value: Any) -> Any:
        function = type(value).__pyfaas_reduce__(value)
        if function is None:
            return standins.Absent, (repr(value), "a pyfaas Function without a callable")
        return standins.unwrapped, (function,)

    def reduce_staying(self, value: object) -> Any:
        raise NotImplementedError

    def reduce_module(self, module: ModuleType) -> Any:
        raise NotImplementedError


class Strict(_Pickler):
    """Refuses what cannot travel. Of modules it takes note, and leaves them empty."""

    def reduce_staying(self, value: object) -> Any:
        """Refuse."""
        raise pickle.PicklingError(f"{captured.describe(value)} cannot travel")

    def reduce_module(self, module: ModuleType) -> Any:
        """Keep the name only."""
        return ModuleType, (module.__name__,)


class Lenient(_Pickler):
    """Takes modules along with their variables, and puts stand-ins where something cannot travel."""

    def __init__(self, modules: dict[str, ModuleType]) -> None:
        super().__init__()
        self._names: dict[int, str] = {}
        for module in modules.values():
            # cloudpickle's dictionaries for the globals of functions that go by value.
            self.globals_ref[id(vars(module))] = _Variables(module)
            self._names |= {id(value): f"{module.__name__}.{name}" for name, value in vars(module).items()}

    def reducer_override(self, value: Any) -> Any:
        """Reduce; an object that refuses is absent."""
        try:
            reduced = super().reducer_override(value)
        except Exception:  # noqa: BLE001  # a proxy, for instance, that has nothing behind it
            return self.reduce_staying(value)
        if reduced is NotImplemented and captured.refuses(value):
            return self.reduce_staying(value)
        return reduced

    def reduce_staying(self, value: object) -> Any:
        """Put a stand-in."""
        name = self._names.get(id(value)) or type(value).__name__
        return standins.Absent, (name, captured.describe(value))

    def reduce_module(self, module: ModuleType) -> Any:
        """Reduce in two steps, since modules mention each other."""
        variables = {name: value for name, value in vars(module).items() if name not in _LOADER_VARIABLES}
        for name, value in variables.items():
            if captured.stays(value) or captured.refuses(value):
                variables[name] = standins.Absent(f"{module.__name__}.{name}", captured.describe(value))
        return ModuleType, (module.__name__,), variables, None, None, standins.fill


def _explained(function: object, error: Exception) -> str:
    try:
        return captured.explain(function, _fails, error)
    except Exception:  # noqa: BLE001  # objects that raise when they are looked at
        return f"it cannot be pickled: {error}"


def _fails(value: object) -> bool:
    try:
        Strict().dumps(value)
    except Exception:  # noqa: BLE001  # as in `image`
        return True
    return False


def _imported_again(pickler: _Pickler) -> dict[str, ModuleType]:
    """The modules that functions import when they are called, and of which something goes by value already."""
    names = {name for function in pickler.functions for name in imports.inside(function)}
    found = {name: sys.modules.get(name) for name in names & pickler.homes if name != "__main__"}
    return {
        name: module
        for name, module in found.items()
        if isinstance(module, ModuleType) and not origin.is_library(module)
    }


def _imported_later(own: list[FunctionType], all_: list[FunctionType]) -> dict[str, bytes]:
    """The files of the application's modules that functions import when they are called, and what these import.

    Args:
        own: The handler and what it captured: what they import has to travel.
        all_: These, and those of modules that go along.
    """
    shipped: dict[str, bytes] = {}
    needed = [name for function in own for name in imports.inside(function)]
    useful = [name for function in all_ for name in imports.inside(function)]
    done: set[str] = set()
    for names, optional in ((needed, False), (useful, True)):
        while names:
            top = names.pop().partition(".")[0]
            if top in done or top in sys.builtin_module_names or top == "__main__":
                continue
            done.add(top)
            try:
                # What is not found may be meant to fail, behind `except ImportError`.
                found = (files.of_module(top) if files.find(top) is not None else None) or {}
            except InvalidPackage:
                if not optional:
                    raise
                continue
            if optional and sum(map(len, found.values())) > USEFUL_MAX:
                continue
            shipped |= found
            useful += sorted(files.imported(found))
    return shipped
