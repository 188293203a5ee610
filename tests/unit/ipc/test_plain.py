"""Objects with fields as plain data."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import ipaddress
import pathlib
import pickle
import uuid
from typing import Any, ClassVar, NamedTuple

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfaas._ipc import values
from pyfaas._ipc.values import UnsupportedValue, decode, encode


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Line:
    name: str
    price: decimal.Decimal
    made: dt.date | None = None
    total: ClassVar[int] = 3
    note: dataclasses.InitVar[str] = ""


@dataclasses.dataclass(slots=True, frozen=True)
class Leaf:
    colours: frozenset[Colour] = frozenset()
    at: dt.datetime | None = None
    lasts: dt.timedelta = dt.timedelta()
    weights: dict[Colour, float] = dataclasses.field(default_factory=dict)
    ids: dict[uuid.UUID, int] = dataclasses.field(default_factory=dict)
    raw: bytes = b""


@dataclasses.dataclass
class Node:
    leaf: Leaf
    below: list[Node] = dataclasses.field(default_factory=list)


class Camel(msgspec.Struct, rename="camel", tag="camel", kw_only=True):
    order_id: int
    when: dt.datetime | msgspec.UnsetType = msgspec.UNSET
    lines: list[Line] = []


class Short(msgspec.Struct, omit_defaults=True):
    a: int = 3
    b: list[int] = []
    c: dict[str, int] = msgspec.field(default_factory=lambda: {"x": 1})


class Row(msgspec.Struct, array_like=True, tag=True):
    x: int
    y: int = 2


class Item(pydantic.BaseModel):
    price: float = pydantic.Field(gt=0, alias="Price")
    colour: Colour = Colour.RED
    link: pydantic.HttpUrl | None = None
    line: Line | None = None


class Aliased(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(serialize_by_alias=True)
    order_id: int = pydantic.Field(alias="orderId")


class Numbers(pydantic.RootModel[list[int]]):
    pass


@pydantic.dataclasses.dataclass
class Checked:
    a: int

    @pydantic.field_serializer("a")
    def twice(self, value: int) -> int:
        return value * 2


@attrs.define
class Attrs:
    x: int
    inner: Any = None


class Pair(NamedTuple):
    x: int
    y: Any


def crossed(value: object) -> Any:
    return decode(encode(value))


def refusal(value: object) -> str:
    with pytest.raises(UnsupportedValue) as caught:
        encode(value)
    return str(caught.value)


LINE = Line("pen", decimal.Decimal("1.10"))
PLAIN_LINE = {"name": "pen", "price": decimal.Decimal("1.10"), "made": None}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Line("pen", decimal.Decimal("1.10"), dt.date(2024, 1, 2)), PLAIN_LINE | {"made": "2024-01-02"}),
        ([{"a": LINE}, (LINE,)], [{"a": PLAIN_LINE}, [PLAIN_LINE]]),
        (Camel(order_id=1), {"type": "camel", "orderId": 1, "lines": []}),
        (Camel(order_id=1, lines=[LINE]), {"type": "camel", "orderId": 1, "lines": [PLAIN_LINE]}),
        (Short(), {"c": {"x": 1}}),
        (Short(a=4, b=[1], c={}), {"a": 4, "b": [1], "c": {}}),
        (Row(1), ["Row", 1, 2]),
        (Item(Price=2), {"price": 2.0, "colour": "red", "link": None, "line": None}),
        (
            Item(Price=2, link="https://example.org/a", line=LINE, colour=Colour.BLUE),  # type: ignore[arg-type]
            {"price": 2.0, "colour": "blue", "link": "https://example.org/a", "line": PLAIN_LINE},
        ),
        (Aliased(orderId=3), {"orderId": 3}),
        (Numbers([1, 2]), [1, 2]),
        (Checked(2), {"a": 4}),
        (Attrs(1, Attrs(2)), {"x": 1, "inner": {"x": 2, "inner": None}}),
        (Pair(1, LINE), [1, PLAIN_LINE]),
        (Attrs(1, pathlib.PurePosixPath("/a")), {"x": 1, "inner": "/a"}),
        (Attrs(1, ipaddress.ip_address("::1")), {"x": 1, "inner": "::1"}),
        (Attrs(1, collections.deque([1])), {"x": 1, "inner": [1]}),
        (Attrs(1, dt.time(1, 2)), {"x": 1, "inner": "01:02:00"}),
    ],
    ids=repr,
)
def test_objects_with_fields_become_plain(value: object, expected: object) -> None:
    assert crossed(value) == expected


@pytest.mark.parametrize(
    "value", [Camel(order_id=1), Short(), Short(b=[2]), Row(1), Camel(order_id=2, lines=[LINE])]
)
def test_structs_become_what_msgspec_makes_of_them(value: msgspec.Struct) -> None:
    kept = (decimal.Decimal, dt.datetime, bytes)
    expected = msgspec.to_builtins(value, builtin_types=kept)
    assert crossed(value) == expected


whole = st.datetimes(timezones=st.just(dt.UTC))
leaves = st.builds(
    Leaf,
    colours=st.frozensets(st.sampled_from(Colour)),
    at=st.none() | whole,
    lasts=st.timedeltas(dt.timedelta(days=-1000), dt.timedelta(days=1000)),
    weights=st.dictionaries(st.just(Colour.RED), st.floats(allow_nan=False)),
    ids=st.dictionaries(st.uuids(), st.integers()),
    raw=st.binary(),
)
nodes = st.recursive(
    st.builds(Node, leaf=leaves),
    lambda below: st.builds(Node, leaf=leaves, below=st.lists(below, max_size=3)),
)


@given(nodes)
def test_dataclasses_are_read_back_as_they_were(node: Node) -> None:
    assert msgspec.convert(crossed(node), Node, str_keys=True) == node


@given(nodes)
def test_pydantic_reads_the_same_back(node: Node) -> None:
    assert ADAPTER.validate_python(crossed(node)) == node


ADAPTER = pydantic.TypeAdapter(Node)


class Secret(pydantic.BaseModel):
    inner: dict[str, list[pydantic.SecretStr]]


class Failing(pydantic.BaseModel):
    a: int = 1

    @pydantic.field_serializer("a")
    def serialise(self, value: int) -> int:
        raise KeyError("serialised")


class NoFields:
    def model_dump(self) -> dict[str, int]:
        return {}


def test_what_cannot_cross_is_named_with_its_path() -> None:
    assert refusal([Secret(inner={"k": [pydantic.SecretStr("x")]})]) == (
        "$[0].inner.k[0]: SecretStr is not supported; use x.get_secret_value()"
    )
    assert refusal({"a": [LINE, Attrs(1, {"b": object()})]}) == "$.a[1].inner.b: object is not supported"
    assert refusal([Failing()]).startswith("$[0]: reading the fields of this Failing failed: ")
    unset = Attrs.__new__(Attrs)
    assert refusal([unset]).startswith("$[0]: reading the fields of this Attrs failed: ")
    assert refusal(NoFields()) == "$: NoFields is not supported"
    assert refusal(Line) == "$: type is not supported"


def test_only_inside_of_such_an_object_more_types_are_plain() -> None:
    for value in ({1}, Colour.RED, dt.date(2024, 1, 1), pathlib.PurePosixPath("x")):
        assert crossed(Attrs(1, [value]))
        assert "is not supported; use " in refusal([Attrs(1), value])
    assert "as a dict's key" in refusal([Attrs(1), {Colour.RED: 1}])
    assert refusal(Attrs(1, {(1, 2): 3})) == "$.inner: tuple as a dict's key is not supported; use text"


def test_cycles_and_depth() -> None:
    loop = Attrs(1)
    loop.inner = [loop]
    assert refusal(loop) == "$.inner[0]: a cycle: it is the Attrs 2 levels above"
    chain = None
    for level in range(300):
        if level == 256:
            assert crossed(chain)["x"] == 1
        chain = Attrs(1, chain)
    assert refusal(chain).endswith("deeper than 256 levels")
    assert len(crossed([Attrs(1, [2]) for _ in range(300)])) == 300


def test_trusted_values_keep_their_classes() -> None:
    kind, data = values.pack_trusted([LINE])
    assert kind == values.PICKLE
    assert isinstance(data, bytes)
    assert pickle.loads(data) == [LINE]
