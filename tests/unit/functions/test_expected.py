"""Types of events travel with callables: what the host ships is what the worker's side unpickles, in this process."""

from __future__ import annotations

import dataclasses
import functools
import pickle
import sys
from typing import Any, Generic, NamedTuple, TypedDict, TypeVar

import cloudpickle
import msgspec
import pydantic
import pytest

from pyfaas._functions import callables
from pyfaas._functions.callables import Strict
from pyfaas._ipc import structs
from pyfaas._ipc.annotated import event_of
from pyfaas.errors import InvalidPackage

T = TypeVar("T")


class Order(pydantic.BaseModel):  # complete only when Item is there
    items: list[Item]


class Item(pydantic.BaseModel):
    price: int


class Base(msgspec.Struct, rename="camel", tag=True):
    """A base."""

    order_id: int
    tags: list[str] = []

    def __post_init__(self) -> None:
        if self.order_id < 0:
            raise ValueError("negative")


class Derived(  # type: ignore[misc]  # msgspec lets it be frozen all the same
    Base, Generic[T], kw_only=True, frozen=True, omit_defaults=True, dict=True
):
    value: T
    later: Data | None = None
    made: dict[str, int] = msgspec.field(default_factory=lambda: {"x": 1}, name="MADE")

    def twice(self) -> int:
        return self.order_id * 2

    def __repr__(self) -> str:
        return "derived " + super().__repr__()


@dataclasses.dataclass
class Data:
    a: int
    typed: Typed | None = None
    pair: Pair | None = None
    more: list[Data] = dataclasses.field(default_factory=list)
    _: dataclasses.KW_ONLY
    last: int = 1


class Typed(TypedDict, total=False):
    base: Base


class Pair(NamedTuple):
    base: Base


def shipped(handler: Any) -> Any:
    content, _, _ = callables.image(handler)
    assert content["kind"] == "pickle"
    forget()
    return pickle.loads(content["pickle"])


def arrived(annotation: str | Any) -> Any:
    """The type of the event that the worker sees; classes are copies, since they travel by value."""

    def handler(event: Any, context: Any) -> Any:
        return event

    handler.__annotations__ = {"event": annotation}
    found = event_of(shipped(handler))
    assert found.unresolved is None
    return found.type


def forget() -> None:
    """Have cloudpickle not recognise in a pickle the classes that this process has."""
    cloudpickle.cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.clear()
    cloudpickle.cloudpickle._DYNAMIC_CLASS_TRACKER_BY_CLASS.clear()


def test_text_means_in_the_worker_what_it_means_here() -> None:
    order = arrived("dict[str, Order] | None").__args__[0].__args__[1]
    assert order is not Order
    assert order.__pydantic_complete__
    assert pydantic.TypeAdapter(order).validate_python({"items": [{"price": "3"}]}).items[0].price == 3


def test_fields_that_are_annotated_with_text() -> None:
    data = arrived("Data")
    assert data is not Data
    made = msgspec.convert(
        {
            "a": 1,
            "typed": {"base": {"type": "Base", "orderId": 2}},
            "pair": [{"type": "Base", "orderId": 3}],
            "more": [{"a": 4}],
        },
        data,
    )
    assert made.typed["base"].order_id == 2
    assert made.pair.base.order_id == 3
    assert made.more[0] == data(4)
    with pytest.raises(msgspec.ValidationError, match="missing required field `a`"):
        msgspec.convert({}, data)


def test_an_annotation_that_asks_for_nothing_travels_as_that() -> None:
    assert arrived("dict[str, Any]") is None
    assert arrived(None) is None


def test_what_cannot_be_evaluated_here_is_said_there() -> None:
    def handler(event: Missing, context: object) -> object:  # type: ignore[name-defined]  # noqa: F821
        return event

    text = "annotation 'Missing' of 'event': name 'Missing' is not defined"
    assert event_of(shipped(handler)).unresolved == text


class Object:
    def __call__(self, event: Order, context: object) -> object:
        return event

    def method(self, event: list[Order], context: object) -> object:
        return event


def test_handlers_of_all_kinds() -> None:
    for handler in (Object(), Object().method, functools.partial(Object.__call__, Object())):
        found = event_of(shipped(handler))
        assert found.maker == "pydantic"


def test_a_type_that_cannot_travel_is_refused_by_name() -> None:
    import threading

    lock = threading.Lock()

    @dataclasses.dataclass
    class Locked:
        a: int

        def method(self) -> None:
            lock.acquire()

    def handler(event: Any, context: object) -> object:
        return event

    handler.__annotations__["event"] = Locked
    with pytest.raises(InvalidPackage, match=r"handler: .*'event'.* is a lock"):
        callables.image(handler)


# ---- classes of msgspec -------------------------------------------------------------------------------------------


def copied(cls: Any) -> Any:
    module = sys.modules[cls.__module__]
    cloudpickle.register_pickle_by_value(module)
    try:
        data = Strict().dumps(cls)
    finally:
        cloudpickle.unregister_pickle_by_value(module)
    forget()
    return pickle.loads(data)


def test_structs_travel_whole() -> None:
    derived = copied(Derived)
    assert derived is not Derived
    assert derived.__mro__[1].__doc__ == "A base."
    assert derived.__struct_fields__ == Derived.__struct_fields__
    assert derived.__struct_encode_fields__ == Derived.__struct_encode_fields__
    assert derived.__match_args__ == Derived.__match_args__
    config = {name: getattr(derived.__struct_config__, name) for name in structs._CONFIG}
    assert config == {name: getattr(Derived.__struct_config__, name) for name in structs._CONFIG}
    value = derived(1, value="v")
    assert value.twice() == 2
    assert repr(value).startswith("derived Derived(order_id=1, ")
    assert msgspec.to_builtins(value) == msgspec.to_builtins(Derived(1, value="v"))
    with pytest.raises(AttributeError, match="immutable"):
        value.order_id = 2
    with pytest.raises(ValueError, match="negative"):
        derived(-1, value="v")
    with pytest.raises(TypeError, match="value"):
        derived(1)


def test_types_of_a_structs_fields_travel() -> None:
    class Local(msgspec.Struct, forbid_unknown_fields=True):
        a: int
        below: list[int] = []

    local = copied(Local)
    assert msgspec.convert({"a": 1, "below": [2]}, local).below == [2]
    for wrong in ({"a": "1"}, {"a": 1, "b": 2}, {}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, local)


def test_dataclasses_keep_what_has_no_default() -> None:
    copy = copied(Data)
    assert copy.__dataclass_fields__["a"].default is dataclasses.MISSING
