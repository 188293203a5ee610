"""What a callable says about its event, in a form that travels with it."""

from __future__ import annotations

import sys
import typing
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pyfaas._functions import origin
from pyfaas._ipc import annotated

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import ModuleType


class Expecting:
    """A callable together with the type of its event; unpickling it gives the callable.

    Args:
        handler: The callable.
        event: What its annotation says.
    """

    def __init__(self, handler: object, event: annotated.Event) -> None:
        self._handler = handler
        self._event = event

    def __reduce__(self) -> tuple[Any, ...]:
        fields = list(_fields_as_text(self._event.type, _names(self._handler), {}))
        return annotated.expecting, (self._handler, tuple(self._event), fields)


def prepared(handler: object) -> object:
    """Return what to pickle in a callable's place.

    An annotation that is text means nothing in the worker: that it asks for nothing has to travel too.
    """
    found = annotated.parameter(handler)
    if found is None:
        return handler
    with suppress(NameError):  # of 3.14, which evaluates them when they are asked for
        if not found[0].__annotations__:
            return handler
    return Expecting(handler, annotated.event_of(handler))


def _names(handler: object) -> Mapping[str, Any]:
    found = annotated.parameter(handler)
    return found[0].__globals__ if found else {}


def _fields_as_text(
    annotation: Any, names: Mapping[str, Any], seen: dict[type, None]
) -> Iterator[tuple[type, dict[str, Any]]]:
    """Yield the classes of the application in an annotation whose fields are annotated with text, evaluated."""
    for part in annotated.parts_of(annotation):
        if not isinstance(part, type) or part in seen:
            continue
        seen[part] = None
        _complete(part)
        if not annotated.has_fields(part):
            continue
        for cls in part.__mro__:
            module = sys.modules.get(cls.__module__)
            if module is None or origin.is_library(module):
                continue
            own, resolved = _evaluated(cls, module, names)
            if any(own[name] is not resolved[name] for name in resolved):
                yield cls, own | resolved
            for field in resolved.values():
                yield from _fields_as_text(field, names, seen)


def _evaluated(
    cls: type, module: ModuleType, names: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The annotations of a class's own, and those of them that can be evaluated."""
    own = dict(vars(cls).get("__annotations__") or getattr(cls, "__annotations__", None) or {})
    resolved = {}
    for name, annotation in own.items():
        holder = type("_", (), {"__annotations__": {name: annotation}})
        around = {**names, **vars(module), cls.__name__: cls}
        with suppress(Exception):  # the worker says what is missing
            resolved[name] = typing.get_type_hints(holder, around, around, include_extras=True)[name]
    return own, resolved


def _complete(cls: Any) -> None:
    """Have a model of pydantic be built that mentions classes which were defined after it."""
    if getattr(cls, "__pydantic_complete__", True) is False:
        with suppress(Exception):  # the worker says what is missing
            cls.model_rebuild(raise_errors=False)
