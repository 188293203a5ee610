"""What a handler's annotation says about its event."""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple, NewType, TypedDict

import attrs
import msgspec
import pydantic
import pytest

from pyfaas._ipc.annotated import MSGSPEC, PYDANTIC, Event, event_of, maker_of, parameter

if typing.TYPE_CHECKING:
    from decimal import Decimal


class Model(pydantic.BaseModel):
    a: int


@pydantic.dataclasses.dataclass
class Checked:
    a: int


class Struct(msgspec.Struct):
    a: int


@dataclasses.dataclass
class Data:
    a: int


@attrs.define
class Attrs:
    a: int


class Typed(TypedDict):
    a: int


class Pair(NamedTuple):
    a: int


class Plain:
    pass


UserId = NewType("UserId", Model)


@pytest.mark.parametrize(
    ("annotation", "library"),
    [
        (Model, PYDANTIC),
        (Checked, PYDANTIC),
        (list[Model], PYDANTIC),
        (dict[str, list[Model | None]], PYDANTIC),
        (Model | Data, PYDANTIC),
        (Annotated[int, pydantic.Field(gt=0)], PYDANTIC),
        (pydantic.HttpUrl, PYDANTIC),
        (UserId, PYDANTIC),
        (Struct, MSGSPEC),
        (Data | None, MSGSPEC),
        (tuple[Attrs, ...], MSGSPEC),
        (typing.Optional[Typed], MSGSPEC),  # noqa: UP045  # it is another object
        (Pair, MSGSPEC),
        (Annotated[int, msgspec.Meta(gt=0)], MSGSPEC),
        (Any, None),
        (None, None),
        (object, None),
        (dict, None),
        (dict[str, Any], None),
        (int | list[str], None),
        (Literal["a", 1], None),
        (Callable[[int], str], None),
        (Plain, None),
        (Annotated[int, "text"], None),
        (3, None),
    ],
    ids=str,
)
def test_who_makes_it(annotation: Any, library: str | None) -> None:
    assert maker_of(annotation) == library

    def handler(event: Any, context: Any) -> Any:
        return event

    handler.__annotations__ = {"event": annotation, "context": "Missing"}
    assert event_of(handler) == (Event(annotation, library) if library else Event())


def text(event: list[Model], context: Decimal) -> Any:
    return event


def test_text_is_evaluated_where_the_function_is() -> None:
    # `Decimal` is there for type checkers alone, and nobody asks for it.
    assert text.__annotations__["event"] == "list[Model]"
    assert event_of(text) == Event(list[Model], PYDANTIC)

    class Local(pydantic.BaseModel):
        a: int

    def handler(event: dict[str, Local], context: object) -> Local:
        return Local(a=1)

    assert event_of(handler) == Event(dict[str, Local], PYDANTIC)


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        ("Decimal", "name 'Decimal' is not defined"),
        ("list[", "list["),
        ("", ""),
        ("pydantic.Nothing", "no attribute 'Nothing'"),
        (list["Decimal"], "name 'Decimal' is not defined"),
    ],
)
def test_what_cannot_be_evaluated_is_left_alone(annotation: Any, reason: str) -> None:
    def handler(event: Any, context: Any) -> Any:
        return event

    handler.__annotations__ = {"event": annotation}
    found = event_of(handler)
    assert found.type is None
    assert found.maker is None
    assert found.unresolved is not None
    assert found.unresolved.startswith("annotation ")
    assert "of 'event'" in found.unresolved
    assert reason in found.unresolved


class Object:
    def __call__(self, event: Model, context: object) -> object:
        return event

    def method(self, event: Data, context: object) -> object:
        return event

    @classmethod
    def of_class(cls, event: Struct, context: object) -> object:
        return event

    @staticmethod
    def of_nothing(event: Pair, context: object) -> object:
        return event


def three(prefix: object, event: Data, context: object) -> object:
    return event


def decorated(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*arguments: Any) -> Any:
        return function(*arguments)

    return wrapper


async def later(event: Model, context: object) -> object:
    return event


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        (Object(), Model),
        (Object().method, Data),
        (Object.of_class, Struct),
        (Object.of_nothing, Pair),
        (functools.partial(three, 1), Data),
        (functools.partial(functools.partial(three), 1), Data),
        (decorated(text), list[Model]),
        (decorated(decorated(later)), Model),
        (functools.partial(decorated(three), 1), Data),
        (later, Model),
        (lambda event, context: event, None),
        (lambda *arguments: arguments, None),
        (lambda: None, None),
        (print, None),
        (Object, None),
        (functools.partial(three, 1, Data(1), 3), None),
        (3, None),
    ],
    ids=str,
)
def test_the_first_free_parameter_counts(handler: Any, expected: Any) -> None:
    assert event_of(handler).type == expected


def test_endless_wrappers_end() -> None:
    def handler(event: Model, context: object) -> object:
        return event

    handler.__wrapped__ = handler  # type: ignore[attr-defined]
    assert parameter(handler) is None
    assert event_of(handler) == Event()
