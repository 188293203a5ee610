"""A callable as code: by its name if a library has it, otherwise by value with all that it uses.

By value goes what belongs to the application: `__main__` and every module outside the standard library and the
installed packages. A module that such a function merely mentions goes along with its variables; those that cannot
travel are replaced by stand-ins that say so when they are used. What the function itself captured has to travel.
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

from pyfaas._functions import captured, expected, files, imports, origin
from pyfaas._ipc import standins, structs
from pyfaas.errors import InvalidPackage

if TYPE_CHECKING:
    from collections.abc import Iterator

# cloudpickle's list of modules that go by value is one for the process.
_lock: Final = threading.Lock()
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
    with _lock, _by_value():
        strict = Strict()
        whole = expected.prepared(function)
        try:
            data = strict.dumps(whole)
        except Exception as error:  # whatever a method of a captured object raises
            raise InvalidPackage(f"{name}: {_explained(function, error)}") from error
        if strict.met_modules:
            try:
                data = Lenient().dumps(whole)
            except Exception as error:
                raise InvalidPackage(f"{name}: a module that it uses cannot travel: {error}") from error
    content: dict[str, Any] = {"kind": "pickle", "pickle": data}
    if shipped := _imported_later(strict.functions):
        content["files"] = shipped
    module = getattr(function, "__module__", None) or type(function).__module__
    return content, f"{module}.{name}", f"callable {name!r} of {module!r}"


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


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
    def __init__(self) -> None:
        self._file = io.BytesIO()
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
            return self.reduce_module(value)
        reduced = super().reducer_override(value)
        if cls is structs.StructMeta and reduced is not NotImplemented:
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

    def __init__(self) -> None:
        super().__init__()
        self.met_modules = False
        self.functions: list[FunctionType] = []

    def reducer_override(self, value: Any) -> Any:
        """Reduce, and note functions that go by value."""
        reduced = super().reducer_override(value)
        if type(value) is FunctionType and reduced is not NotImplemented:
            self.functions.append(value)
        return reduced

    def reduce_staying(self, value: object) -> Any:
        """Refuse."""
        raise pickle.PicklingError(f"{captured.describe(value)} cannot travel")

    def reduce_module(self, module: ModuleType) -> Any:
        """Keep the name only."""
        self.met_modules = True
        return ModuleType, (module.__name__,)


class Lenient(_Pickler):
    """Takes modules along with their variables, and puts stand-ins where something cannot travel."""

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
        return standins.Absent, (type(value).__name__, captured.describe(value))

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


def _imported_later(functions: list[FunctionType]) -> dict[str, bytes]:
    """The files of the application's modules that the functions import when they are called."""
    shipped: dict[str, bytes] = {}
    done: set[str] = set()
    for function in functions:
        for name in imports.inside(function):
            top = name.partition(".")[0]
            if top in done or top in sys.builtin_module_names or top == "__main__":
                continue
            done.add(top)
            # What is not found may be meant to fail, behind `except ImportError`.
            if files.find(top) is not None:
                shipped |= files.of_module(top) or {}
    return shipped
