"""Objects that pickle would look up by name in a module of the application: they are built again in the worker.

What decorators of the standard library make is of this kind, and so are sentinels whose `__reduce__` returns a name.
"""

from __future__ import annotations

import copyreg
import functools
import sys
import typing
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final

from pyfaas._functions import origin
from pyfaas._ipc import standins

if TYPE_CHECKING:
    from collections.abc import Callable

_CACHED: Final = type(functools.lru_cache(len))
_DISPATCHER: Final = functools.singledispatch(len).__code__  # type: ignore[attr-defined]  # it is a plain function


def reduction(value: Any) -> tuple[Any, ...] | None:
    """Return how to build an object again, as `__reduce__` does; `None` if pickle can do without."""
    cls: Any = type(value)
    if cls is FunctionType:
        return _dispatcher(value) if value.__code__ is _DISPATCHER else None
    if (build := _KINDS.get(cls)) is not None:
        return build(value)
    if cls.__reduce__ is object.__reduce__ and cls.__reduce_ex__ is object.__reduce_ex__:
        return None
    module = sys.modules.get(cls.__module__)
    return None if module is None or origin.is_library(module) else _sentinel(value)


def _dispatcher(value: Any) -> tuple[Any, ...] | None:
    if origin.is_found(value):
        return None
    return standins.dispatcher, (list(value.registry.items()),)


def _cached(value: Any) -> tuple[Any, ...] | None:
    if origin.is_found(value):
        return None
    parameters = value.cache_parameters()
    return standins.cached, (value.__wrapped__, parameters["maxsize"], parameters["typed"])


def _cached_property(value: Any) -> tuple[Any, ...]:
    return standins.cached_property, (value.func, value.attrname)  # it has a lock in Python 3.11


def _new_type(value: Any) -> tuple[Any, ...] | None:
    return None if origin.is_found(value) else (typing.NewType, (value.__name__, value.__supertype__))


def _named(value: Any) -> tuple[Any, ...] | None:
    return None if origin.is_found(value) else (type(value), (value.__name__,))


def _alias(value: Any) -> tuple[Any, ...] | None:
    return None if origin.is_found(value) else (type(value), (value.__name__, value.__value__))


_KINDS: Final[dict[type, Callable[[Any], tuple[Any, ...] | None]]] = {
    _CACHED: _cached,
    functools.cached_property: _cached_property,
    typing.NewType: _new_type,
    typing.ParamSpec: _named,
    typing.TypeVarTuple: _named,
}
if (_type_alias := getattr(typing, "TypeAliasType", None)) is not None:  # Python 3.12
    _KINDS[_type_alias] = _alias


def _sentinel(value: Any) -> tuple[Any, ...] | None:
    if issubclass(type(value), type) or type(value.__reduce_ex__(5)) is not str:
        return None
    return copyreg.__newobj__, (type(value),), value.__getstate__()  # type: ignore[attr-defined]
