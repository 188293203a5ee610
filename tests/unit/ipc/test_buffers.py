"""Arrays and large bytes as values: what crosses, how it lies beside the MessagePack, and what is not believed."""

from __future__ import annotations

import contextlib
import struct
import sys
from array import array
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from pyfaas._ipc import arrays, buffers, values
from pyfaas._ipc.values import MalformedValue, UnsupportedValue
from pyfaas._native import check_value

LARGE = buffers.OUT_OF_BAND
LETTERS: Any = "w" if sys.version_info >= (3, 13) else "u"
ALONE = 65_536  # from here on also without an array beside it


def landed(payload: Sequence[Any]) -> tuple[bytes, list[Any]]:
    """What the receiver makes of the pieces, as native/core/pf_buffers.h says; written a second time for the tests."""
    whole = b"".join(payload)
    text, count, zero = struct.unpack_from("=QII", whole)
    assert (zero, len(whole)) == (0, buffers.size_of(list(payload)))
    end = 16 + 16 * count + text
    found: list[Any] = []
    for i in range(count):
        length, form, zero = struct.unpack_from("=QII", whole, 16 + 16 * i)
        start = end + -end % 64
        assert zero == 0
        assert not any(whole[end:start])
        content = whole[start : start + length]
        found.append(content if form == buffers.BYTES else bytearray(content))
        end = start + length
    assert end == len(whole)
    return whole[16 + 16 * count :][:text], found


def crossed(value: object, *, careful: bool = True) -> Any:
    kind, payload = values.pack(value)
    if isinstance(payload, bytes):
        assert kind == values.MSGPACK
        return values.decode(payload) if careful else values.read_own(payload)
    assert kind == values.BUFFERS
    return values.unpack(*landed(payload), careful=careful)


def same(got: Any, sent: np.ndarray[Any, Any]) -> bool:
    return (
        type(got) is np.ndarray
        and (got.dtype.str, got.shape) == (sent.dtype.str, sent.shape)
        and np.ascontiguousarray(got).tobytes() == np.ascontiguousarray(sent).tobytes()
        and bool(got.flags.writeable)
    )


def refusal(value: object, **options: bool) -> str:
    with pytest.raises(UnsupportedValue) as caught:
        values.pack(value, **options)
    return str(caught.value)


# ---- what crosses -------------------------------------------------------------------------------------------------

plain_types = (
    npst.boolean_dtypes()
    | npst.integer_dtypes()
    | npst.unsigned_integer_dtypes()
    | npst.floating_dtypes(sizes=(16, 32, 64))
    | npst.complex_number_dtypes(sizes=(64, 128))
    | npst.datetime64_dtypes()
    | npst.timedelta64_dtypes()
    | npst.byte_string_dtypes(min_len=1)
    | npst.unicode_string_dtypes(min_len=1)
)


@given(npst.arrays(plain_types, npst.array_shapes(min_dims=0, min_side=0, max_side=4)), st.booleans())
def test_small_arrays(value: np.ndarray[Any, Any], turned: bool) -> None:
    value = value.T if turned else value
    assert isinstance(values.pack(value)[1], bytes)
    assert same(crossed(value), value)
    assert same(crossed([value])[0], value)


CUBE = np.arange(30_000, dtype="<i4").reshape(30, 50, 20)


@pytest.mark.parametrize(
    "value",
    [
        CUBE,
        np.asfortranarray(CUBE),
        CUBE.T,
        CUBE[::2, :, 3:],
        CUBE[::-1],
        np.arange(99_999)[::3],
        CUBE.transpose(1, 0, 2),
        np.broadcast_to(np.arange(9.0), (3000, 9)),
        CUBE.astype(">f8"),
        CUBE > 7,
        CUBE.astype("M8[s]"),
        CUBE.astype("U5"),
        np.zeros(LARGE, "u1"),
        np.frombuffer(bytes(LARGE), "u1"),  # read-only here, not there
        np.ones(LARGE).view(np.recarray),
    ],
    ids=lambda value: f"{value.dtype}-{value.shape}",
)
def test_large_arrays(value: np.ndarray[Any, Any]) -> None:
    assert values.pack(value)[0] == values.BUFFERS
    assert same(crossed(value), np.asarray(value))
    assert same(crossed({"deep": [{"in": value}]})["deep"][0]["in"], np.asarray(value))


def test_the_order_of_the_axes_in_memory_is_kept() -> None:
    assert crossed(np.asfortranarray(CUBE)).flags.f_contiguous
    assert crossed(CUBE).flags.c_contiguous


def test_pieces_are_the_arrays_themselves() -> None:
    for value in (CUBE, CUBE.T):
        pieces: Any = values.pack(value)[1]
        assert any(np.shares_memory(np.frombuffer(piece, "u1"), value) for piece in pieces)


@pytest.mark.parametrize("size", [ALONE, ALONE + 1, 10 * ALONE])
def test_large_bytes(size: int) -> None:
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    picture = memoryview(data + bytes(-size % 4)).cast("B", ((size + 3) // 4, 4))
    for value, sent in (
        (data, data),
        (bytearray(data), data),
        (memoryview(data), data),
        (picture, bytes(picture)),
    ):
        assert values.pack(value)[0] == values.BUFFERS
        got = crossed([value])[0]
        assert type(got) is bytes
        assert got == sent
    assert crossed(memoryview(data)[::2]) == data[::2]


def test_large_bytes_among_many_small_values_stay_where_they_are() -> None:
    """The walk that would take them out costs more than the copies."""
    assert check_value(bytes(ALONE - 1)) == 0
    assert check_value([bytes(ALONE), bytearray(ALONE)]) == 3
    mixed = {"numbers": list(range(1000)), "data": bytes(ALONE)}
    assert check_value(mixed) == 0
    assert crossed(mixed) == mixed
    assert values.decode(values.encode([bytes(ALONE)])) == [bytes(ALONE)]


@pytest.mark.parametrize("kind", "bBhHiIlLqQfd")
@pytest.mark.parametrize("count", [0, 3, LARGE])
def test_arrays_of_the_standard_library(kind: str, count: int) -> None:
    sent = array(kind, range(100)) * (count // 100) + array(kind, range(count % 100))
    got = crossed({"a": sent})["a"]
    assert type(got) is array
    assert (got.typecode, got) == (kind, sent)


def test_more_buffers_than_there_may_be() -> None:
    many = [np.full(LARGE, i % 256, "u1") for i in range(buffers.MOST + 3)]
    assert all(same(got, sent) for got, sent in zip(crossed(many), many, strict=True))


@pytest.mark.keeps("threads")  # of arrow's allocator
def test_tables() -> None:
    pa = pytest.importorskip("pyarrow")
    for count in (3, 10_000):
        table = pa.table(
            {"n": range(count), "t": [str(i) for i in range(count)], "l": [[i] for i in range(count)]}
        )
        for value in (table, table.to_batches()[0], table.slice(1, count // 2), table.slice(0, 0)):
            got = crossed([value], careful=False)[0]
            assert type(got) is type(value)
            assert got.equals(value)


# ---- what does not ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.array([{}, None]), "an ndarray of dtype object is not supported; use x.tolist()"),
        (np.zeros(3, "i4,f8"), "use x.tolist()"),
        (np.zeros(3, "V8"), "|V8 is not supported"),
        (np.zeros(3, "g"), "is not supported; use x.tolist()"),
        (np.zeros(3, "M8[25s]"), "datetime64[25s] is not supported"),
        (
            np.ma.masked_array([1, 2], [True, False]),
            "a masked array is not supported; send x.data and x.mask",
        ),
        (np.zeros((1,) * 33), "more than 32 dimensions"),
        (array(LETTERS, "text"), f"an array of type code '{LETTERS}' is not supported; use x.tounicode()"),
    ],
    ids=lambda item: item if isinstance(item, str) else "",
)
def test_refusals(value: object, expected: str) -> None:
    text = refusal({"items": [1, value]})
    assert text.startswith("$.items[1]: ")
    assert expected in text


@pytest.mark.keeps("threads")
def test_tables_are_no_results_of_functions_that_are_not_trusted() -> None:
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"n": [1]})
    assert "a pyarrow Table as a result needs trusted=True; use x.to_pydict()" in refusal(table, arrow=False)
    with pytest.raises(MalformedValue, match="not trusted"):
        values.decode(values.encode(table))


def test_trusted_functions_pickle_what_is_not_plain() -> None:
    kind, payload = values.pack_trusted(np.array([{1}, None]))
    assert kind == values.PICKLE
    assert isinstance(payload, bytes)
    assert values.unpickle(payload).tolist() == [{1}, None]  # type: ignore[attr-defined]
    assert values.pack_trusted(CUBE)[0] == values.BUFFERS


def test_numpy_is_not_imported_because_a_function_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    payload: Any = values.pack(CUBE)[1]
    small = values.encode(np.arange(3))
    monkeypatch.delitem(sys.modules, "numpy")
    with pytest.raises(values.NotImportedHere, match="import numpy before the call"):
        values.decode(small)
    with pytest.raises(values.NotImportedHere, match="import numpy before the call"):
        values.unpack(*landed(payload), careful=True)
    assert "numpy" not in sys.modules


# ---- hostile results ----------------------------------------------------------------------------------------------

NDARRAY, ARRAY, TABLE = 1, 2, 3


def extension(
    what: int, kind: str = "", shape: Sequence[int] = (), data: bytes = b"", *, flags: int = 1, **lies: int
) -> bytes:
    head = struct.pack("=4B", what, flags, lies.get("dimensions", len(shape)), lies.get("length", len(kind)))
    content = head + kind.encode("latin-1") + struct.pack(f"={len(shape)}Q", *shape) + data
    return msgspec.msgpack.encode(msgspec.msgpack.Ext(arrays.BUFFER, content))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (extension(NDARRAY, "<i4", (2,), bytes(7)), "shape is not its size"),
        (extension(NDARRAY, "<i4", (2**62, 4), b""), "shape is not its size"),
        (extension(NDARRAY, "<i4", (2**63, 2**63), b""), "shape is not its size"),
        (extension(NDARRAY, "<i4", (0, 2**63), b""), "imension"),
        (extension(NDARRAY, "<i4", (2**64 - 1,), bytes(4)), "shape is not its size"),
        (extension(NDARRAY, "<i4", (1,) * 33, bytes(4)), "damaged"),
        (extension(NDARRAY, "<i4", (1,), bytes(4), dimensions=9), "damaged"),
        (extension(NDARRAY, "<i4", (1,), bytes(4), length=200), "damaged"),
        (extension(NDARRAY, "<i4", (1,), bytes(4), flags=5), "damaged"),
        (extension(NDARRAY, "|O8", (1,), bytes(8)), "not plain"),
        (extension(NDARRAY, "|V8", (1,), bytes(8)), "not plain"),
        (extension(NDARRAY, "O", (1,), bytes(8)), "not plain"),
        (extension(NDARRAY, "<i4,O", (1,), bytes(12)), "not plain"),
        (extension(NDARRAY, "|S0", (2**40,), b""), "not plain"),
        (extension(NDARRAY, "<U0", (2**40,), b""), "not plain"),
        (extension(NDARRAY, "<M8[0s]", (1,), bytes(8)), "not plain"),
        (extension(NDARRAY, "<i4\n", (1,), bytes(4)), "not plain"),
        (extension(NDARRAY, "\xff\xff", (1,), bytes(4)), "ascii"),
        (extension(NDARRAY, "|b1", (3,), b"\0\1\2"), "neither true nor false"),
        (extension(NDARRAY, "<U1", (1,), struct.pack("<I", 0x110000)), "no character"),
        (extension(NDARRAY, ">U1", (1,), struct.pack(">I", 2**32 - 1)), "no character"),
        (extension(ARRAY, "u", (1,), bytes(4)), "unknown type"),
        (extension(ARRAY, "bb", (1,), bytes(1)), "unknown type"),
        (extension(ARRAY, "", (1,), bytes(1)), "unknown type"),
        (extension(ARRAY, "d", (2,), bytes(8)), "shape is not its size"),
        (extension(ARRAY, "d", (1, 1), bytes(8)), "unknown type"),
        (extension(TABLE, data=b"ARROW"), "not trusted"),
        (extension(0, data=b"x"), "another form"),
        (extension(9, data=b"x"), "nothing known"),
        (extension(NDARRAY, "<i4", (1,), flags=0), "not there"),
        (extension(0, flags=0), "not there"),
        (b"\xd4\x05\x00", "too short"),
    ],
)
def test_extensions_that_lie(text: bytes, reason: str) -> None:
    with pytest.raises(MalformedValue, match=reason):
        values.decode(text)


def test_buffers_that_are_not_what_stands_for_them() -> None:
    one = extension(NDARRAY, "<i4", (4,), flags=0)
    with pytest.raises(MalformedValue, match="shape is not its size"):
        values.unpack(one, [bytearray(15)], careful=True)
    with pytest.raises(MalformedValue, match="nothing stands for"):
        values.unpack(one, [bytearray(16), bytearray(16)], careful=True)
    with pytest.raises(MalformedValue, match="not there"):
        values.unpack(b"\x92" + one + one, [bytearray(16)], careful=True)
    with pytest.raises(MalformedValue, match="too long"):
        values.unpack(extension(NDARRAY, "<i4", (4,), b"x", flags=0), [bytearray(16)], careful=True)
    with pytest.raises(MalformedValue, match="another form"):
        values.unpack(extension(0, flags=0), [bytearray(16)], careful=True)


@given(st.binary(max_size=40), st.lists(st.binary(max_size=20).map(bytearray), max_size=2))
def test_random_extensions(content: bytes, found: list[Any]) -> None:
    text = msgspec.msgpack.encode(msgspec.msgpack.Ext(arrays.BUFFER, content))
    with contextlib.suppress(MalformedValue):
        values.unpack(text, found, careful=True)


def test_a_snapshot_does_not_change() -> None:
    sent = CUBE.copy()
    payload = values.pack(sent)[1]
    assert isinstance(payload, list)
    kept = buffers.snapshot(payload)
    sent[:] = 0
    assert same(values.unpack(*landed(kept), careful=True), CUBE)
