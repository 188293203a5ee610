"""Events and results as bytes: what crosses, how it arrives, and how everything else is refused."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import json
import math
import pickle
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfaas._ipc import values
from pyfaas._ipc.values import MalformedValue, UnsupportedValue, decode, encode
from pyfaas._native import check_encoded, check_value

raw = msgspec.msgpack.Encoder().encode


def crossed(value: object) -> Any:
    return decode(encode(value))


def refusal(value: object) -> str:
    with pytest.raises(UnsupportedValue) as caught:
        encode(value)
    assert str(caught.value) == f"{caught.value.path}: {caught.value.reason}"
    return str(caught.value)


def nested(levels: int, leaf: object = 1) -> object:
    value = leaf
    for level in range(levels):
        value = [value] if level % 2 else {"k": value}
    return value


# ---- a reference model: what json would do, plus our own types ----------------------------------------------------


def model(value: Any) -> Any:
    if isinstance(value, dict):
        return {json_key(key): model(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [model(item) for item in value]
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    return value


def json_key(key: Any) -> str:
    return str(next(iter(json.loads(json.dumps({key: 0})))))


def same(left: Any, right: Any) -> bool:
    """Equality that tells True from 1, and knows NaN and offsets."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float) and math.isnan(left):
        return bool(math.isnan(right))
    if isinstance(left, dt.datetime):
        return bool(
            left.replace(tzinfo=None) == right.replace(tzinfo=None) and left.utcoffset() == right.utcoffset()
        )
    if isinstance(left, decimal.Decimal):
        return bool(left.as_tuple() == right.as_tuple())
    return bool(left == right)


text = st.text(st.characters(exclude_categories=["Cs"]))
# Whole seconds: CPython's fromisoformat takes an offset below one second for none.
offsets = st.integers(-86_399, 86_399).map(lambda seconds: dt.timedelta(seconds=seconds))
leaves: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**200), 2**200)
    | st.sampled_from([2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1])
    | st.floats()
    | text
    | st.binary()
    | st.binary().map(bytearray)
    | st.binary().map(lambda data: memoryview(data))  # noqa: PLW0108  # its type has a parameter
    | st.datetimes()
    | st.datetimes(timezones=offsets.map(dt.timezone))
    | st.decimals(allow_nan=False)
    | st.uuids()
)
keys = text | st.integers() | st.floats() | st.booleans() | st.none()
anything = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(keys, inner)
        | st.dictionaries(text, inner)
    ),
    max_leaves=20,
)


@given(anything)
def test_arrives_as_the_model_says(value: object) -> None:
    try:
        expected = model(value)
        data = encode(value)
    except UnsupportedValue as refused:
        assert "two of its keys" in refused.reason  # noqa: PT017
        return
    assert same(decode(data), expected)
    assert check_encoded(data) == 0


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | text | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(text, inner),
)


@given(plain)
def test_plain_values_take_the_fast_path(value: object) -> None:
    assert check_value(value) == 0
    assert encode(value) == raw(value)


@given(st.dictionaries(keys, st.integers(), max_size=3))
def test_keys_become_what_json_makes_of_them(value: dict[Any, int]) -> None:
    texts = [json_key(key) for key in value]
    if len(set(texts)) < len(texts):
        assert "two of its keys" in refusal(value)
    else:
        assert list(crossed(value)) == texts


# ---- types --------------------------------------------------------------------------------------------------------


class Colour(enum.IntEnum):
    RED = 3


class Word(enum.StrEnum):
    YES = "yes"


class Point(NamedTuple):
    x: int
    y: int


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError

    def encode(self, *_: object) -> Any:
        raise RuntimeError


class Number(int):
    def __int__(self) -> int:
        raise RuntimeError


class Real(float):
    def __float__(self) -> float:
        raise RuntimeError


def naive(*, fold: int = 0) -> dt.datetime:
    return dt.datetime(2024, 10, 27, 2, 30, fold=fold)  # noqa: DTZ001  # a naive one is meant


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Point(1, 2), [1, 2]),
        (collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (collections.defaultdict(list, a=[1]), {"a": [1]}),
        (Colour.RED, 3),
        (Word.YES, "yes"),
        ({Word.YES: Word.YES, Colour.RED: 1}, {"yes": "yes", "3": 1}),
        (Text("abc"), "abc"),
        ({Text("k"): 1}, {"k": 1}),
        (Number(2**70), 2**70),
        (Real(1.5), 1.5),
        (memoryview(b"abcdef")[::2], b"ace"),
        ({math.nan: 1, math.inf: 2, -math.inf: 3}, {"NaN": 1, "Infinity": 2, "-Infinity": 3}),
        (naive(fold=1), naive()),
    ],
    ids=repr,
)
def test_subclasses_count_as_their_base(value: object, expected: object) -> None:
    arrived = crossed(value)
    assert same(arrived, expected)


def test_order_of_an_ordered_dict_is_its_own() -> None:
    ordered = collections.OrderedDict(a=1, b=2)
    ordered.move_to_end("a")
    assert list(crossed(ordered)) == ["b", "a"]


def test_zoneinfo_arrives_as_its_offset() -> None:
    zoneinfo = pytest.importorskip("zoneinfo")
    zone = dt.UTC
    try:
        zone = zoneinfo.ZoneInfo("Europe/Berlin")
    except zoneinfo.ZoneInfoNotFoundError:
        pytest.skip("no time zone data")
    value = dt.datetime(2024, 7, 1, 12, tzinfo=zone)
    assert crossed(value).isoformat() == "2024-07-01T12:00:00+02:00"


@dataclasses.dataclass
class Order:
    id: Any


class Shape(enum.Enum):
    ROUND = 1


def generate() -> Iterator[int]:
    yield 1


def reasons() -> list[tuple[object, str]]:
    import pathlib

    import numpy as np

    return [
        ({"items": [1, 2, 3, {"when": {1}}]}, "$.items[3].when: set is not supported; use a list"),
        (frozenset(), "$: frozenset is not supported; use a list"),
        ([Order({1}), {2}], "$[1]: set is not supported; use a list"),
        ({"odd key": object()}, '$["odd key"]: object is not supported'),
        ({'a"b': object()}, '$["a\\"b"]: object is not supported'),
        ({"": object()}, '$[""]: object is not supported'),
        ({"größe": object()}, "$.größe: object is not supported"),
        ({3: [object()]}, '$["3"][0]: object is not supported'),
        ({"x": "\ud800"}, "$.x: str with a lone surrogate cannot be encoded"),
        ({"\ud800": 1}, "$: str with a lone surrogate cannot be encoded"),
        ({"x": {1: 1, "1": 2}}, '$.x: two of its keys are "1" as text'),
        ({(1, 2): 1}, "$: tuple as a dict's key is not supported; use text"),
        ({b"k": 1}, "$: bytes as a dict's key is not supported; use x.decode()"),
        (Shape.ROUND, "$: Shape is not supported; use x.value"),
        (generate(), "$: generator is not supported; use list(x)"),
        (range(3), "$: range is not supported; use list(x)"),
        ({}.keys(), "$: dict_keys is not supported; use list(x)"),
        (dt.date(2024, 1, 1), "$: date is not supported; use x.isoformat()"),
        (dt.timedelta(1), "$: timedelta is not supported; use x.total_seconds()"),
        (pathlib.Path("x"), "$: PosixPath is not supported; use str(x)"),
        (ValueError("x"), "$: ValueError is not supported; use str(x)"),
        (np.int64(3), "$: int64 is not supported; use x.item()"),
        (1j, "$: complex is not supported; use [x.real, x.imag]"),
        (print, "$: builtin_function_or_method is not supported"),
        (Order, "$: type is not supported"),
        (dt, "$: module is not supported"),
    ]


@pytest.mark.parametrize(
    ("value", "expected"), reasons(), ids=lambda item: item if isinstance(item, str) else ""
)
def test_refusals_name_the_path_and_the_remedy(value: object, expected: str) -> None:
    assert refusal(value) == expected


def test_path_and_reason_are_attributes_and_survive_pickling() -> None:
    with pytest.raises(UnsupportedValue) as caught:
        encode({"a": [set()]})
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.path, again.reason) == ("$.a[0]", "set is not supported; use a list")


def test_numpy_floats_are_floats() -> None:
    import numpy as np

    assert same(crossed([np.float64(1.5)]), [1.5])


# ---- depth and cycles ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leaf", [1, decimal.Decimal(1)])
def test_depth(leaf: object) -> None:
    for levels in (255, 256):
        assert crossed(nested(levels, leaf)) == nested(levels, leaf)
    text = refusal(nested(257, leaf))
    assert text.endswith("deeper than 256 levels")
    assert "…(224 more)…" in text
    assert refusal(nested(100_000, leaf)).endswith("deeper than 256 levels")


def test_decode_has_the_same_depth() -> None:
    assert decode(raw(nested(256))) == nested(256)
    with pytest.raises(MalformedValue, match="deeper than 256 levels"):
        decode(raw(nested(257)))
    with pytest.raises(MalformedValue, match="deeper than 256 levels"):
        decode(b"\x91" * 1_000_000 + b"\x01")


def test_cycles() -> None:
    loop: list[Any] = [1]
    loop.append({"again": loop})
    assert refusal(loop) == "$[1].again: a cycle: it is the list 2 levels above"
    own: dict[str, Any] = {}
    own["self"] = own
    assert refusal(own) == "$.self: a cycle: it is the dict 1 level above"


def test_the_same_value_twice_is_no_cycle() -> None:
    shared = [naive()]
    assert crossed([shared, shared]) == [shared, shared]


def test_exponential_sharing_ends() -> None:
    value: list[Any] = [1]
    for _ in range(60):
        value = [value, value]
    assert "67 million values" in refusal(value)


def test_at_the_end_of_the_callers_stack() -> None:
    def descend() -> str:
        try:
            return descend()
        except RecursionError:
            return refusal(nested(250, decimal.Decimal(1)))

    assert "stack" in descend()


# ---- hostile objects ----------------------------------------------------------------------------------------------


class Awkward(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise RuntimeError

    @property
    def __mro__(cls) -> Any:
        raise RuntimeError

    def __instancecheck__(cls, instance: object) -> bool:
        raise RuntimeError


class Impostor(metaclass=Awkward):
    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise RuntimeError

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    __hash__ = None  # type: ignore[assignment]


class LyingList(list[Any]):
    def __iter__(self) -> Iterator[Any]:
        raise RuntimeError

    def __len__(self) -> int:
        return -5  # noqa: PLE0303

    def __getitem__(self, index: Any) -> Any:
        raise RuntimeError


class LyingTuple(tuple[Any, ...]):
    __slots__ = ()

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield 1

    def __len__(self) -> int:
        raise RuntimeError


class BadItems(dict[str, Any]):
    def items(self) -> Any:
        raise ValueError("no items today")


class OddItems(dict[str, Any]):
    def items(self) -> Any:
        return [1, 2]


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


class BadZone(dt.tzinfo):
    def utcoffset(self, _: dt.datetime | None) -> dt.timedelta:
        raise Unprintable

    def dst(self, _: dt.datetime | None) -> None:
        return None

    def tzname(self, _: dt.datetime | None) -> str:
        return ""


def test_objects_that_lie_about_themselves() -> None:
    assert refusal([Impostor()]) == "$[0]: Impostor is not supported"
    assert crossed(LyingList([1, 2])) == [1, 2]
    assert crossed(LyingTuple((1, 2))) == [1, 2]
    assert refusal(BadItems(a=1)) == "$: reading the items of this BadItems failed: no items today"
    assert refusal(OddItems(a=1)).startswith("$: reading the items of this OddItems failed")
    assert (
        refusal([dt.datetime(2024, 1, 1, tzinfo=BadZone())])
        == "$[0]: reading this datetime failed: Unprintable"
    )
    released = memoryview(b"abc")
    released.release()
    assert (
        refusal([released])
        == "$[0]: reading this memoryview failed: operation forbidden on released memoryview object"
    )
    hollow = uuid.UUID.__new__(uuid.UUID)
    assert refusal(hollow).startswith("$: this UUID is no UUID")


def test_not_a_time() -> None:
    pandas = pytest.importorskip("pandas")
    assert refusal([pandas.NaT]) == "$[0]: NaTType is not supported; use None"


def test_containers_that_another_thread_changes() -> None:
    """Any outcome but a crash or a foreign exception is right; what arrives is a value of the right types."""
    items: list[Any] = []
    mapping: dict[str, Any] = {}
    stop = threading.Event()

    def change() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            items.extend([{"a": 1}] * 20)
            del items[: len(items) // 2 + 1]
            mapping[str(number % 50)] = [items[:], decimal.Decimal(number)]
            mapping.pop(str((number + 25) % 50), None)

    thread = threading.Thread(target=change)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread.start()
    try:
        for _ in range(150):
            try:
                assert isinstance(crossed({"items": items, "mapping": mapping}), dict)
            except UnsupportedValue as refused:
                assert "changed" in refused.reason  # noqa: PT017  # the one refusal that may happen
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(interval)


# ---- decode -------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=200))
def test_random_bytes(data: bytes) -> None:
    try:
        value = decode(data)
    except MalformedValue:
        return
    encode(value)  # what is accepted is within what can be written


@given(anything, st.data())
def test_damaged_values(value: object, data: st.DataObject) -> None:
    try:
        encoded = bytearray(encode(value))
    except UnsupportedValue:
        return
    position = data.draw(st.integers(0, len(encoded) - 1))
    encoded[position] = data.draw(st.integers(0, 255))
    for hostile in (bytes(encoded), bytes(encoded[:position])):
        try:
            encode(decode(hostile))
        except MalformedValue:
            continue


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "in the middle"),
        (b"\x92\x01", "in the middle"),
        (b"\xdd\xff\xff\xff\xff", "in the middle"),
        (b"\xdf\xff\xff\xff\xff" + b"\xa0\x01" * 100, "in the middle"),
        (b"\xc6\xff\xff\xff\xff", "in the middle"),
        (b"\xdb\xff", "in the middle"),
        (b"\x01\x01", "data follow"),
        (b"\xc1", "0xc1"),
        (b"\x81\x01\x01", "key is not text"),
        (b"\x81\xc4\x01a\x01", "key is not text"),
        (b"\x81\x90\x01", "key is not text"),
        (b"\xd6\xff\x00\x00\x00\x00", "extension type"),
        (b"\xd4\x06\x00", "extension type"),
        (b"\xa2\xff\xff", "UnicodeDecodeError"),
        (raw(msgspec.msgpack.Ext(1, b"abc")), "Invalid"),
        (raw(msgspec.msgpack.Ext(1, b"\xff")), "ascii"),
        (raw(msgspec.msgpack.Ext(2, b"abc")), "16"),
        (raw(msgspec.msgpack.Ext(3, b"yesterday")), "isoformat"),
    ],
)
def test_malformed(data: bytes, reason: str) -> None:
    with pytest.raises(MalformedValue, match=reason):
        decode(data)


def test_bombs() -> None:
    with pytest.raises(MalformedValue, match="too many lists and maps"):
        decode(b"\xdd" + (3_000_000).to_bytes(4, "big") + b"\x80" * 3_000_000)
    # What decode would refuse, encode refuses already, and says it better.
    assert "too many empty or tiny lists" in refusal([[] for _ in range(500_000)])
    # Small pairs in any number are fine.
    pairs = [[1, 2]] * 400_000
    assert crossed(pairs) == pairs


def test_all_heads_of_messagepack_are_understood_alike() -> None:
    """Where our check says a value is complete, msgspec agrees, head by head."""
    for head in range(256):
        for size in range(24):
            data = bytes([head]) + b"\x00" * size
            if check_encoded(data) == 0 and not 0xC7 <= head <= 0xC9 and not 0xD4 <= head <= 0xD8:
                msgspec.msgpack.decode(data)


# ---- trusted ------------------------------------------------------------------------------------------------------


def test_trusted_values_use_pickle_only_where_they_must() -> None:
    kind, data = values.pack_trusted({"a": (1, 2)})
    assert isinstance(data, bytes)
    assert (kind, values.decode(data)) == (values.MSGPACK, {"a": [1, 2]})
    kind, data = values.pack_trusted({"a": {1, 2}})
    assert isinstance(data, bytes)
    assert (kind, values.unpickle(data)) == (values.PICKLE, {"a": {1, 2}})


def test_trusted_values_that_pickle_refuses() -> None:
    with pytest.raises(UnsupportedValue, match="nor by pickle"):
        values.pack_trusted({"lock": threading.Lock()})
    for data in (b"garbage", b""):
        with pytest.raises(MalformedValue):
            values.unpickle(data)


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
def test_large_payloads_are_not_walked_byte_by_byte(make: Callable[[bytes], Any]) -> None:
    data = bytes(5_000_000)
    assert crossed({"data": make(data)}) == {"data": data}
