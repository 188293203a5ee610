"""What a callable's pickle holds in place of what cannot travel: made by the host, met in the worker."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
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
    """Give a module that travelled by value its variables."""
    vars(module).update(variables)
    vars(module)["__builtins__"] = builtins
