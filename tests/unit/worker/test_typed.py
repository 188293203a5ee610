"""Typed events: what a handler gets, and what the caller is told."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import pathlib
import typing
import uuid
from typing import Annotated, Any, NamedTuple, TypedDict

import msgspec
import pydantic
import pytest

from pyfaas._ipc import frames
from pyfaas._ipc.values import decode, encode
from pyfaas._worker import typed
from pyfaas._worker.handler import Handler
from pyfaas._worker.typed import UnsupportedEventType, checked

if typing.TYPE_CHECKING:
    from decimal import Decimal

SETTINGS: dict[str, Any] = {
    "name": "pay",
    "version": "$LATEST",
    "memory": 128,
    "timeout_ns": 3_000_000_000,
    "handler": "app.handler",
    "env": {},
    "trusted": False,
    "log_group": "/aws/lambda/pay",
    "log_stream": "stream",
    "arn": "arn:aws:lambda:us-east-1:000000000000:function:pay",
    "max_payload": 6_291_556,
    "paths": [],
}


class Colour(enum.Enum):
    RED = "red"


class Item(pydantic.BaseModel):
    price: Annotated[float, pydantic.Field(gt=0)]
    name: str = pydantic.Field(default="", alias="itemName")

    @pydantic.field_validator("price")
    @classmethod
    def odd(cls, value: float) -> float:
        if value == 7:
            raise ValueError("seven\nis not sold")
        if value == 13:
            raise KeyError("a bug")
        return value


class Order(pydantic.BaseModel):
    items: list[Item]
    when: dt.datetime | None = None


class Wire(msgspec.Struct, rename="camel"):
    order_id: int
    item: Item | None = None

    def __post_init__(self) -> None:
        if self.order_id < 0:
            raise ValueError("negative - at `all`")
        if self.order_id == 13:
            raise KeyError("a bug")


@dataclasses.dataclass
class Everything:
    when: dt.datetime
    day: dt.date
    amount: decimal.Decimal
    id: uuid.UUID
    raw: bytes
    colours: set[Colour]
    counts: dict[int, int]
    wire: Wire | None = None


class Typed(TypedDict):
    wires: dict[str, list[Wire]]


class Pair(NamedTuple):
    x: int
    y: str = "y"


@dataclasses.dataclass
class WithPath:
    path: pathlib.PurePath


@dataclasses.dataclass
class Unfinished:
    amount: Decimal | None = None
    other: Missing | None = None  # type: ignore[name-defined]  # noqa: F821


class UnfinishedModel(pydantic.BaseModel):
    other: Missing | None = None  # type: ignore[name-defined]  # noqa: F821


@dataclasses.dataclass
class Initialised:
    a: int
    b: dataclasses.InitVar[int] = 0


def handler_of(annotation: Any) -> Any:
    def handler(event: Any, context: Any) -> Any:
        got.append(event)
        return event

    got: list[Any] = []
    handler.__annotations__ = {"event": annotation}
    return handler


def made(annotation: Any, event: Any) -> Any:
    return checked(handler_of(annotation))(event, None)


def told(annotation: Any, event: Any) -> list[str]:
    with pytest.raises(typed.InvalidEvent) as caught:
        made(annotation, event)
    return str(caught.value).splitlines()


# ---- what the handler gets ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("annotation", [None, "", Any, dict, object, dict[str, Any], "dict[str, Any]", int])
def test_without_a_model_nothing_stands_in_between(annotation: Any) -> None:
    handler = handler_of(annotation)
    assert checked(handler) is handler


@pytest.mark.parametrize(
    ("annotation", "event", "expected"),
    [
        (Order, {"items": [{"price": "2"}]}, Order(items=[Item(price=2)])),
        (list[Item], [{"price": 1, "itemName": "a"}], [Item(price=1, itemName="a")]),
        (Item, {"price": 1, "name": "a"}, Item(price=1, itemName="a")),
        (Order | None, None, None),
        ("dict[str, Order]", {"k": {"items": []}}, {"k": Order(items=[])}),
        (Wire, {"orderId": 1}, Wire(1)),
        (Wire, {"orderId": 1, "item": {"price": 2}}, Wire(1, Item(price=2))),
        (Pair, [1], Pair(1)),
        (list[Pair] | None, [[1, "b"]], [Pair(1, "b")]),
        (Typed, {"wires": {"k": [{"orderId": 1}]}, "more": 1}, {"wires": {"k": [Wire(1)]}}),
        (WithPath, WithPath(pathlib.PurePath("a")), WithPath(pathlib.PurePath("a"))),
        (Wire, Wire(1), Wire(1)),
        (Order, Order(items=[]), Order(items=[])),
    ],
)
def test_what_is_made(annotation: Any, event: Any, expected: Any) -> None:
    assert made(annotation, event) == expected


EVERYTHING = Everything(
    when=dt.datetime(2024, 1, 2, tzinfo=dt.UTC),
    day=dt.date(2024, 1, 2),
    amount=decimal.Decimal("1.10"),
    id=uuid.UUID(int=7),
    raw=b"raw",
    colours={Colour.RED},
    counts={1: 2},
    wire=Wire(3),
)


def test_native_values_and_those_of_json_are_read_alike() -> None:
    native: Any = decode(encode(EVERYTHING))
    assert native["raw"] == b"raw"
    assert made(Everything, native) == EVERYTHING
    json = native | {
        "when": "2024-01-02T00:00:00Z",
        "amount": "1.10",
        "id": "00000000-0000-0000-0000-000000000007",
        "raw": "cmF3",
    }
    assert made(Everything, json) == EVERYTHING


# ---- what the caller is told --------------------------------------------------------------------------------------


def test_pydantic_names_every_problem() -> None:
    assert told(Order, {"items": [{"price": 1}, {"price": "x"}, {"price": 0}, {}]}) == [
        "$.items[1].price: Input should be a valid number, unable to parse string as a number",
        "$.items[2].price: Input should be greater than 0",
        "$.items[3].price: Field required",
    ]
    assert told(dict[str, Item], {"odd key": {"price": 7}}) == [
        '$["odd key"].price: Value error, seven is not sold'
    ]
    assert told(Order, None) == ["$: Input should be a valid dictionary or instance of Order"]


def test_msgspec_names_the_first_problem() -> None:
    assert told(Wire, {"orderId": "1"}) == ["$.orderId: Expected `int`, got `str`"]
    assert told(Wire, {}) == ["$: Object missing required field `orderId`"]
    assert told(list[Wire], [{"orderId": 1}, {"orderId": -1}]) == ["$[1]: negative - at `all`"]
    assert told(Wire, {"orderId": -1}) == ["$: negative - at `all`"]
    assert told(Typed, {"wires": {"k": [{}]}}) == ["$.wires[...][0]: Object missing required field `orderId`"]
    assert told(WithPath, {"path": "a"}) == ["$.path: Expected `PurePath`, got `str`"]
    assert told(Annotated[int, msgspec.Meta(gt=0)], 0) == ["$: Expected `int` >= 1"]


def test_a_model_of_pydantic_inside_of_a_struct() -> None:
    assert told(list[Wire], [{"orderId": 1, "item": {"price": 0, "name": 3}}]) == [
        "$[0].item.price: Input should be greater than 0",
        "$[0].item.name: Input should be a valid string",
    ]


def test_the_text_is_bounded() -> None:
    lines = told(list[Item], [{"price": 0}] * 50)
    assert len(lines) == typed.PROBLEMS + 1
    assert lines[-1] == "… and 30 more problems"
    assert len(told(dict[str, Item], {"k" * 10_000: {"price": "x" * 10_000}})[0]) <= typed.LINE

    class Talkative(pydantic.BaseModel):
        a: int

        @pydantic.field_validator("a")
        @classmethod
        def check(cls, value: int) -> int:
            raise ValueError("x" * 10_000)

    (line,) = told(Talkative, {"a": 1})
    assert len(line) == typed.LINE


def test_values_are_not_repeated() -> None:
    assert "hunter2" not in "".join(told(Order, {"items": "hunter2"}))


@pytest.mark.parametrize(("annotation", "event"), [(Item, {"price": 13}), (Wire, {"orderId": 13})])
def test_an_error_of_the_models_own_code_is_the_functions(annotation: Any, event: Any) -> None:
    with pytest.raises(KeyError, match="a bug"):
        made(annotation, event)


# ---- in init ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        ("Decimal", "annotation 'Decimal' of 'event': name 'Decimal' is not defined"),
        (Unfinished, "the type of the event, Unfinished: name 'Decimal' is not defined"),
        (UnfinishedModel, "the type of the event, UnfinishedModel: name 'Missing' is not defined"),
    ],
)
def test_what_only_type_checkers_know_is_not_checked(
    annotation: Any, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = handler_of(annotation)
    assert checked(handler) is handler
    assert capsys.readouterr().out == f"[WARNING] pyfaas: {reason}; events are not checked\n"


@pytest.mark.parametrize("annotation", [Initialised, Wire | Everything])
def test_what_no_library_makes_is_an_error(annotation: Any) -> None:
    with pytest.raises(UnsupportedEventType, match="the type of the event, ") as caught:
        checked(handler_of(annotation))
    assert type(caught.value).__name__ == "Runtime.UnsupportedEventType"
    assert "not supported" in str(caught.value)


# ---- as frames ----------------------------------------------------------------------------------------------------


def test_frames() -> None:
    handler = Handler(checked(handler_of(Order)), SETTINGS)

    def call(event: object) -> tuple[int, Any]:
        kind, payload = handler(0, encode(event), bytes(16), 10**9)
        return kind, payload.decode() if kind == frames.INVALID_EVENT else msgspec.msgpack.decode(payload)

    assert call({"items": [{"price": 2}]}) == (
        frames.RESULT,
        {"items": [{"price": 2.0, "name": ""}], "when": None},
    )
    assert call({"items": 3}) == (frames.INVALID_EVENT, "$.items: Input should be a valid list")
    kind, error = call({"items": [{"price": 13}]})
    assert (kind, error["errorType"], error["errorMessage"]) == (frames.ERROR, "KeyError", "'a bug'")
    assert len(error["stackTrace"]) == 1  # the model's own frame, none of ours


def test_handlers_that_are_coroutines() -> None:
    async def handler(event: Order, context: object) -> int:
        return len(event.items)

    served = Handler(checked(handler), SETTINGS)
    try:
        assert served(0, encode({"items": []}), bytes(16), 10**9) == (frames.RESULT, encode(0))
        assert served(0, encode({}), bytes(16), 10**9)[0] == frames.INVALID_EVENT
    finally:
        served.close()
