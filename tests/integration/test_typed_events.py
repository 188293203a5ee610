"""Events and results that are models, Structs, dataclasses: through real processes, from every kind of code."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import pathlib
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypedDict

import attrs
import msgspec
import pydantic
import pytest

import pyfaas

if TYPE_CHECKING:
    from pyfaas import Context

pytestmark = pytest.mark.integration


class Colour(enum.Enum):
    RED = "red"


class Item(pydantic.BaseModel):
    price: Annotated[decimal.Decimal, pydantic.Field(gt=0)]
    colour: Colour = Colour.RED
    made: dt.date | None = None

    @pydantic.field_validator("price")
    @classmethod
    def check(cls, price: decimal.Decimal) -> decimal.Decimal:
        print("checking", price)
        if price == 13:
            raise KeyError("a bug")
        if price == 14:
            sys.exit(3)
        if price == 15:
            time.sleep(60)
        return price


class Order(pydantic.BaseModel):
    order_id: int = pydantic.Field(alias="orderId")
    items: list[Item] = []

    @property
    def total(self) -> decimal.Decimal:
        return sum((item.price for item in self.items), decimal.Decimal(0))


class Wire(msgspec.Struct, rename="camel", kw_only=True):
    order_id: int
    sent: dt.datetime | None = None
    order: Order | None = None


@dataclasses.dataclass
class Data:
    name: str
    wires: list[Wire] = dataclasses.field(default_factory=list)
    colours: set[Colour] = dataclasses.field(default_factory=set)


@attrs.define
class Attrs:
    x: int


class Typed(TypedDict):
    data: Data


class Pair(NamedTuple):
    left: int
    right: Data


ORDER = Order(orderId=1, items=[Item(price=decimal.Decimal("1.10"), made=dt.date(2024, 1, 2))])
PLAIN_ORDER = {
    "order_id": 1,
    "items": [{"price": decimal.Decimal("1.10"), "colour": "red", "made": "2024-01-02"}],
}


def test_a_model_of_pydantic(rt: pyfaas.Runtime) -> None:
    @rt.function
    def total(event: Order, context: Context) -> decimal.Decimal:
        return event.total

    assert total.invoke({"orderId": 1, "items": [{"price": "1.5"}, {"price": 2}]}) == decimal.Decimal("3.5")
    assert total.invoke(ORDER) == decimal.Decimal("1.10")
    assert total.submit(ORDER).result(10) == decimal.Decimal("1.10")
    assert list(total.map([ORDER, {"orderId": 2}])) == [decimal.Decimal("1.10"), 0]
    assert total(ORDER, None) == decimal.Decimal("1.10")


def test_a_bad_event_is_the_callers_fault(rt: pyfaas.Runtime) -> None:
    @rt.function
    def total(event: list[Order] | None, context: Context) -> int:
        return len(event or ())

    event = [{"orderId": 1, "items": [{"price": 1}, {"price": 1}, {"price": 0, "colour": "blue"}]}]
    with pytest.raises(pyfaas.InvalidEvent) as caught:
        total.invoke(event)
    assert str(caught.value).splitlines() == [
        "$[0].items[2].price: Input should be greater than 0",
        "$[0].items[2].colour: Input should be 'red'",
    ]
    assert (caught.value.fault, caught.value.retryable) == ("caller", False)
    assert caught.value.request_id
    outcome = total.call(event)
    assert isinstance(outcome.error, pyfaas.InvalidEvent)
    assert "checking 1\n" in outcome.logs
    assert total.invoke() == 0
    statistics = rt.statistics().functions["total"]
    assert (statistics.cold_starts, statistics.errors) == (1, 2)


def test_code_of_the_model_runs_as_code_of_the_function(rt: pyfaas.Runtime) -> None:
    @rt.function(timeout=0.5)
    def ignore(event: Item, context: Context) -> None: ...

    with pytest.raises(pyfaas.FunctionError, match="KeyError: 'a bug'"):
        ignore.invoke({"price": 13})
    with pytest.raises(pyfaas.InstanceCrashed):
        ignore.invoke({"price": 14})
    with pytest.raises(pyfaas.FunctionTimeout):
        ignore.invoke({"price": 15})
    assert ignore.invoke({"price": 1}) is None


@pytest.mark.parametrize(
    ("wanted", "event", "bad", "reason"),
    [
        (Wire, Wire(order_id=1, order=ORDER), {"orderId": "1"}, "$.orderId: Expected `int`, got `str`"),
        (
            dict[str, Wire],
            {"k": Wire(order_id=1, sent=dt.datetime(2024, 1, 1, tzinfo=dt.UTC))},
            {"k": {"orderId": 1, "order": {}}},
            "$[...].order.orderId: Field required",
        ),
        (
            Data,
            Data("a", [Wire(order_id=2)], {Colour.RED}),
            {"name": "a", "wires": [{}]},
            "$.wires[0]: Object missing required field `orderId`",
        ),
        (Attrs, Attrs(3), {"x": None}, "$.x: Expected `int`, got `null`"),
        (Typed, Typed(data=Data("a")), {}, "$: Object missing required field `data`"),
        (Pair, Pair(1, Data("a")), [1], "$: Expected `array` of length 2, got 1"),
    ],
    ids=str,
)
def test_other_classes_there_and_back(
    rt: pyfaas.Runtime, wanted: Any, event: object, bad: object, reason: str
) -> None:
    def handler(event: Any, context: Any) -> list[object]:
        return [repr(event), event]

    handler.__annotations__["event"] = wanted
    function = rt.register("f", handler)
    text, plain = function.invoke(event)
    assert text == repr(event)
    assert function.invoke(plain)[0] == repr(event)
    with pytest.raises(pyfaas.InvalidEvent) as caught:
        function.invoke(bad)
    assert str(caught.value) == reason


def test_results(rt: pyfaas.Runtime) -> None:
    def handler(event: Any, context: Any) -> object:
        return [ORDER, {"wire": Wire(order_id=2, order=ORDER)}, Pair(1, Data("a", colours={Colour.RED}))]

    wire = {"orderId": 2, "sent": None, "order": PLAIN_ORDER}
    data = {"name": "a", "wires": [], "colours": ["red"]}
    assert rt.register("f", handler).invoke() == [PLAIN_ORDER, {"wire": wire}, [1, data]]
    inside: Any = object()
    bad = rt.register("bad", lambda event, context: [{"a": Attrs(event and inside)}])
    with pytest.raises(pyfaas.InvalidResult, match=r"^\$\[0\]\.a\.x: object is not supported"):
        bad.invoke(1)


def test_an_event_that_cannot_become_plain(rt: pyfaas.Runtime) -> None:
    function = rt.register("f", lambda event, context: event)
    inside: Any = object()
    with pytest.raises(pyfaas.InvalidEvent, match=r"^\$\.a\[0\]\.x: object is not supported"):
        function.invoke({"a": [Attrs(inside)]})


async def later(event: Data, context: Context) -> str:
    return event.name


class Handler:
    def __call__(self, event: Data, context: Context) -> str:
        return event.name


@pytest.mark.parametrize("handler", [later, Handler()])
def test_coroutines_and_objects(rt: pyfaas.Runtime, handler: Any) -> None:
    function = rt.register("f", handler)
    assert function.invoke(Data("Ada")) == "Ada"
    with pytest.raises(pyfaas.InvalidEvent, match=r"^\$\.name: Expected `str`, got `int`$"):
        function.invoke({"name": 3})


CODE = """
from __future__ import annotations
import dataclasses
from typing import TYPE_CHECKING
{imports}
if TYPE_CHECKING:
    from somewhere import Unknown

@dataclasses.dataclass
class Event:
    inner: Inner

@dataclasses.dataclass
class Inner:
    x: int

def handler(event: Event, context: Unknown) -> int:
    return event.inner.x

def unknown(event: Unknown, context: Unknown) -> Unknown:
    return event

def impossible(event: Event | Inner, context: Unknown) -> int:
    return 0
"""


def test_files_and_sources(rt: pyfaas.Runtime, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "app.py"
    file.write_text(CODE.format(imports=""))
    functions = [
        rt.register("file", f"{file}:handler"),
        rt.register("source", pyfaas.Source(CODE.format(imports="")), handler="handler"),
    ]
    for function in functions:
        assert function.invoke({"inner": {"x": 3}}) == 3
        with pytest.raises(pyfaas.InvalidEvent, match=r"^\$\.inner\.x: Expected `int`, got `str`$"):
            function.invoke({"inner": {"x": "3"}})


def test_an_annotation_for_type_checkers_alone(rt: pyfaas.Runtime) -> None:
    function = rt.register("f", pyfaas.Source(CODE.format(imports="")), handler="unknown")
    outcome = function.call({"any": "thing"})
    assert outcome.value == {"any": "thing"}
    assert "[WARNING] pyfaas: annotation 'Unknown' of 'event': name 'Unknown' is not defined" in outcome.logs
    assert "WARNING" not in function.call(1).logs


def test_an_annotation_that_nobody_can_make(rt: pyfaas.Runtime) -> None:
    function = rt.register("f", pyfaas.Source(CODE.format(imports="")), handler="impossible")
    with pytest.raises(pyfaas.InitError, match=r"Runtime\.UnsupportedEventType: the type of the event, "):
        function.invoke({})


def test_the_worker_does_not_import_pydantic_by_itself(rt: pyfaas.Runtime) -> None:
    @rt.function
    def loaded(event: dict[str, Any], context: Context) -> bool:
        import sys

        return "pydantic" in sys.modules

    assert loaded.invoke({}) is False


def test_trusted_functions_get_the_object_itself(rt: pyfaas.Runtime) -> None:
    def handler(event: Any, context: Any) -> Any:
        return event

    event = pydantic.AnyUrl("https://example.org/")  # of a library, so both sides can import its class
    assert rt.register("f", handler, trusted=True).invoke([event, {1}]) == [event, {1}]


SCRIPT = """
from __future__ import annotations
import dataclasses, msgspec, pydantic, pyfaas

class Order(pydantic.BaseModel):
    items: list[Item]

class Item(pydantic.BaseModel):
    price: int

class Wire(msgspec.Struct):
    data: Data

@dataclasses.dataclass
class Data:
    order: list[Order]

def main():
    with pyfaas.Runtime() as rt:
        @rt.function
        def first(event: Order, context) -> int:
            return event.items[0].price
        @rt.function
        def second(event: Wire, context) -> Wire:
            return event
        order = Order(items=[Item(price=3)])
        print(first.invoke(order), second.invoke(Wire(Data([order]))))
        for function, event in ((first, {"items": [{}]}), (second, {"data": {"order": [{}]}})):
            print(function.call(event).error)

main()
"""


def test_classes_of_a_script(tmp_path: pathlib.Path) -> None:
    import subprocess

    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.stdout.splitlines() == [
        "3 {'data': {'order': [{'items': [{'price': 3}]}]}}",
        "$.items[0].price: Field required",
        "$.data.order[0].items: Field required",
    ], done.stderr
    assert not done.stderr
