"""What a handler says about its event: the annotation of its first parameter, read on both sides.

A function that travels by value leaves the module behind in which the names of its annotations mean something. So the
host looks first, and what it found travels with the function (`expecting`); code that is imported in the worker is
looked at there.
"""

from __future__ import annotations

import functools
import sys
import typing
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PYDANTIC: Final = "pydantic"
MSGSPEC: Final = "msgspec"

_FOUND: Final = "_pyfaas_event"
_OF_PYDANTIC: Final = {"__pydantic_validator__", "__pydantic_core_schema__"}
# Dataclasses, attrs, TypedDict, NamedTuple, and Struct's own.
_OF_MSGSPEC: Final = {"__dataclass_fields__", "__attrs_attrs__", "__required_keys__", "_field_defaults"}
_DEPTH: Final = 20

_mro = type.__dict__["__mro__"].__get__
_namespace = type.__dict__["__dict__"].__get__


class Event(NamedTuple):
    """What is known of an event.

    Attributes:
        type: What it has to be; `None`: anything.
        maker: Who can make that of plain data: `"pydantic"` or `"msgspec"`.
        unresolved: Why an annotation was not understood.
    """

    type: Any = None
    maker: str | None = None
    unresolved: str | None = None


def event_of(handler: object) -> Event:
    """Look at a handler's first parameter. Whatever cannot be understood leaves the event as it is.

    >>> def handler(event: list[Missing], context): ...
    >>> event_of(handler).unresolved
    "annotation 'list[Missing]' of 'event': name 'Missing' is not defined"
    """
    try:
        found = parameter(handler)
        if found is None:
            return Event()
        function, name = found
        known = vars(function).get(_FOUND)
        if known is not None:
            return Event(*known)
        annotation = _annotations(function).get(name)
    except Exception as error:  # noqa: BLE001  # the annotations of 3.14 are code, and objects have any attributes
        return Event(unresolved=f"the annotations of the handler: {error}")
    try:
        wanted = _resolved(annotation, function)
    except Exception as error:  # noqa: BLE001  # the text of an annotation is any expression
        text = annotation if isinstance(annotation, str) else repr(annotation)
        return Event(unresolved=f"annotation {text!r:.200} of {name!r}: {error}")
    maker = maker_of(wanted)
    return Event(wanted, maker) if maker else Event()


def parameter(handler: Any) -> tuple[FunctionType, str] | None:
    """The plain function behind a handler, and the name of the parameter that gets the event.

    Decorators that keep `__wrapped__`, as `functools.wraps` does, are looked through, as `inspect.signature` does.
    """
    taken = 0
    for _ in range(_DEPTH):
        if isinstance(handler, FunctionType):
            wrapped = vars(handler).get("__wrapped__")
            if wrapped is None:
                names = handler.__code__.co_varnames[: handler.__code__.co_argcount]
                return (handler, names[taken]) if taken < len(names) else None
            handler = wrapped
        elif isinstance(handler, functools.partial):
            taken += len(handler.args)
            handler = handler.func
        elif isinstance(handler, MethodType):
            taken += 1
            handler = handler.__func__
        elif isinstance(handler, type) or not isinstance(type(handler).__call__, FunctionType):
            return None
        else:
            handler = MethodType(type(handler).__call__, handler)
    return None


def _annotations(function: FunctionType) -> Mapping[str, Any]:
    if sys.version_info >= (3, 14):
        import annotationlib

        # One annotation may be meant for type checkers alone and the next one not.
        return annotationlib.get_annotations(function, format=annotationlib.Format.FORWARDREF)
    return function.__annotations__


def _resolved(annotation: Any, function: FunctionType) -> Any:
    """Evaluate what is text in an annotation, in the function's module and among what it captured."""
    if annotation is None or type(annotation) is type:
        return annotation
    captured = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            captured[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    holder = type("_", (), {"__annotations__": {"event": annotation}})
    names = function.__globals__ | captured
    return typing.get_type_hints(holder, names, names, include_extras=True)["event"]


def maker_of(annotation: Any) -> str | None:
    """Who makes such a type of plain data: pydantic if a part is its, msgspec if a part has fields, or nobody."""
    found = None
    for part in parts_of(annotation):
        library = _maker_of_part(part)
        if library == PYDANTIC:
            return PYDANTIC
        found = found or library
    return found


def parts_of(annotation: Any, depth: int = 0) -> Iterator[Any]:
    """Yield the classes and the metadata that an annotation is composed of."""
    if depth > _DEPTH:
        return
    for name in ("__value__", "__supertype__"):  # `type X = …`, NewType
        if not isinstance(annotation, type) and hasattr(annotation, name):
            yield from parts_of(getattr(annotation, name), depth + 1)
            return
    origin = typing.get_origin(annotation)
    if origin is None:
        yield annotation
        return
    yield origin
    for part in typing.get_args(annotation):
        yield from parts_of(part, depth + 1)


def _maker_of_part(part: Any) -> str | None:
    cls = part if isinstance(part, type) else type(part)
    names = {name for base in _mro(cls) for name in _namespace(base)}
    top = str(cls.__module__).partition(".")[0]
    if top == PYDANTIC or not _OF_PYDANTIC.isdisjoint(names):
        return PYDANTIC
    if top == MSGSPEC and not isinstance(part, type):  # msgspec.Meta
        return MSGSPEC
    return MSGSPEC if isinstance(part, type) and has_fields(part) else None


def has_fields(cls: type) -> bool:
    """Whether msgspec knows the class's fields."""
    bases = _mro(cls)
    struct = getattr(sys.modules.get(MSGSPEC), "Struct", None)
    return struct in bases or any(not _OF_MSGSPEC.isdisjoint(_namespace(base)) for base in bases)


def expecting(handler: Any, event: tuple[Any, ...], fields: list[tuple[type, dict[str, Any]]]) -> Any:
    """Restore in the worker what the host knew of a handler's event.

    Args:
        handler: What travelled.
        event: An `Event`.
        fields: Classes whose fields were annotated with text, and what that text means.
    """
    found = parameter(handler)
    if found is not None:
        vars(found[0])[_FOUND] = event
    for cls, meanings in fields:
        cls.__annotations__ = meanings
    return handler
