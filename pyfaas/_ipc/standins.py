"""What a callable's pickle holds in place of what pickle cannot carry: made by the host, met in the worker."""

from __future__ import annotations

import builtins
import functools
import sys
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

T = TypeVar("T")


def unwrapped(value: T) -> T:
    """Return the value: in a pickle, it puts a plain function where a pyfaas Function was captured."""
    return value


class Absent:
    """Stands for an object that stayed with the host, and says so when it is used.

    >>> Absent("shop.db.connection", "a sqlite3.Connection").cursor()
    Traceback (most recent call last):
    RuntimeError: 'shop.db.connection' is a sqlite3.Connection, which did not travel to this process; make it inside ...
    """

    def __init__(self, name: str, what: str) -> None:
        vars(self)["_pyfaas_absent"] = (name, what)

    def __reduce__(self) -> tuple[type[Absent], tuple[str, str]]:
        return Absent, vars(self)["_pyfaas_absent"]

    def __repr__(self) -> str:
        name, what = vars(self)["_pyfaas_absent"]
        return f"<{name}, {what}: did not travel>"

    def _refuse(self, *_arguments: object, **_named: object) -> NoReturn:
        name, what = vars(self)["_pyfaas_absent"]
        raise RuntimeError(
            f"{name!r} is {what}, which did not travel to this process; make it inside the function's own code"
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # probes of copy, pickle and inspect
            raise AttributeError(name)
        self._refuse()

    __call__ = __enter__ = __iter__ = __len__ = __getitem__ = __setitem__ = __contains__ = __bool__ = _refuse


def fill(module: ModuleType, variables: dict[str, Any]) -> None:
    """Give a module that travelled by value its variables; imports inside functions find it too."""
    vars(module).update(variables)
    vars(module)["__builtins__"] = builtins
    if module.__name__ != "__main__":
        finder = next((one for one in sys.meta_path if isinstance(one, Brought)), None)
        if finder is None:
            finder = Brought()
            sys.meta_path.insert(0, finder)
        finder.modules[module.__name__] = module


class Brought:
    """Finds and loads modules that travelled by value, so that the import system does for them what it does."""

    def __init__(self) -> None:
        self.modules: dict[str, ModuleType] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: object = None
    ) -> ModuleSpec | None:
        """Return the spec of a module that is here, as the import system asks."""
        del path, target
        module = self.modules.get(fullname)
        if module is None:
            return None
        # Not a subclass of importlib.abc.Loader, which takes 80 ms to import.
        return ModuleSpec(fullname, self, is_package="__path__" in vars(module))  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module."""
        return self.modules[spec.name]

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: it has all that it had."""


def along(value: T, _modules: list[ModuleType]) -> T:
    """Return the value: in a pickle, it takes modules along that the value imports when it is called."""
    return value


# What decorators of the standard library made, and the application's modules have under a name.


def cached(function: Callable[..., Any], maxsize: int | None, typed: bool) -> Any:
    """Return what `functools.lru_cache` makes, with nothing in the cache."""
    return functools.lru_cache(maxsize, typed)(function)


def cached_property(function: Callable[[Any], Any], name: str | None) -> functools.cached_property[Any]:
    """Return what `functools.cached_property` makes."""
    made = functools.cached_property(function)
    made.attrname = name
    return made


def dispatcher(registry: list[tuple[type, Callable[..., Any]]]) -> Any:
    """Return what `functools.singledispatch` makes, with what was registered."""
    functions = dict(registry)
    made = functools.singledispatch(functions.pop(object))
    for cls, function in functions.items():
        made.register(cls, function)
    return made
