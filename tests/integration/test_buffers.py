"""Arrays, tables and large bytes through a real Runtime: what arrives, whose memory it is, and what is kept of it."""

from __future__ import annotations

import subprocess
import sys
from array import array
from typing import Any

import numpy as np
import pytest

import pyfaas

pytestmark = pytest.mark.integration

MB = 1 << 20
KEEPER = """
import numpy as np
kept = []

def handler(event, context):
    if event == "kept":
        return [int(array[0]) for array in kept], bool(all((array == array[0]).all() for array in kept))
    if event == "write":
        for array in kept:
            array += 1
        return None
    if event == "drop":
        kept.clear()
        return None
    kept.append(event["keep"][event.get("start", 0):])
    return event["keep"] if event.get("back") else None
"""


def echo(event: Any, context: Any) -> Any:
    return event


def same(got: Any, sent: np.ndarray[Any, Any]) -> bool:
    return (
        type(got) is np.ndarray
        and (got.dtype, got.shape) == (sent.dtype, sent.shape)
        and bool(got.flags.writeable)
        and np.array_equal(got, sent)
    )


@pytest.fixture
def back(rt: pyfaas.Runtime) -> pyfaas.Function[Any]:
    return rt.register("back", echo)


# ---- there and back -----------------------------------------------------------------------------------------------

SMALL, MIDDLE, LARGE = 10, 5_000, 300_000  # inline; a buffer in the region; a buffer in the arena


@pytest.mark.parametrize(
    "kind", ["?", "u1", "<i2", ">i4", "<u8", "<f2", "<f4", ">f8", "<c16", "M8[ns]", "m8[D]", "S3", "U2"]
)
def test_types(back: pyfaas.Function[Any], kind: str) -> None:
    for count in (0, SMALL, MIDDLE, LARGE):
        sent = (np.arange(count) % 100).astype("i8" if kind[0] in "Mm" else kind).astype(kind)
        assert same(back.invoke(sent), sent)


def test_shapes_and_orders(back: pyfaas.Function[Any]) -> None:
    cube = np.arange(120_000.0).reshape(30, 40, 100)
    for sent in (
        cube,
        cube.T,
        np.asfortranarray(cube),
        cube[::3, ::-1, 5:],
        cube.transpose(1, 2, 0),
        np.broadcast_to(np.arange(100.0), (50, 100)),
        np.array(7),
        np.zeros((3, 0, 2)),
        np.zeros((1,) * 32),
    ):
        assert same(back.invoke(sent), sent)
        assert same(back.submit(sent).result(10), sent)


def test_anywhere_in_a_value(back: pyfaas.Function[Any]) -> None:
    big, small, data = np.arange(LARGE), np.arange(SMALL), bytes(range(256)) * 1024
    got = back.invoke({"a": [big, {"b": small, "c": (big[::2], data)}], "d": [data, bytearray(data), None]})
    assert same(got["a"][0], big)
    assert same(got["a"][1]["b"], small)
    assert same(got["a"][1]["c"][0], big[::2])
    assert got["a"][1]["c"][1] == data
    assert got["d"] == [data, data, None]


def test_bytes_and_arrays_of_the_standard_library(back: pyfaas.Function[Any]) -> None:
    data = bytes(range(256)) * 4096
    for sent in (data, bytearray(data), memoryview(data), memoryview(data)[::2]):
        assert back.invoke(sent) == bytes(sent)
    for count in (0, SMALL, LARGE):
        numbers = array("d", range(count))
        assert back.invoke(numbers) == numbers


def test_64_mb(rt: pyfaas.Runtime) -> None:
    back = rt.register("back", echo, max_payload=65 * MB, memory=128)
    sent = np.random.default_rng(1).random(8 * MB)
    for _ in range(3):
        assert same(back.invoke(sent), sent)
    assert back.invoke(3) == 3


def test_limits_count_buffers(rt: pyfaas.Runtime) -> None:
    back = rt.register("back", echo)
    with pytest.raises(pyfaas.InvalidEvent, match=r"the event is 8,0\d\d,\d+ bytes; the limit is 6,291,556"):
        back.invoke(np.zeros(1_000_000))
    twice = rt.register("twice", lambda event, context: [event, event])
    with pytest.raises(pyfaas.InvalidResult, match="6291556 bytes"):
        twice.invoke(np.zeros(500_000))
    assert same(twice.invoke(np.arange(9.0))[1], np.arange(9.0))


@pytest.mark.keeps("threads")  # of arrow's allocator
def test_tables(rt: pyfaas.Runtime) -> None:
    pa = pytest.importorskip("pyarrow")
    code = pyfaas.Source(
        "def handler(event, context): return event if event.num_rows % 2 else event.num_rows"
    )
    columns = {"n": range(100_001), "t": [str(i) for i in range(100_001)]}
    table = pa.table(columns)
    trusting = rt.register("trusting", code, trusted=True, timeout=30)
    for sent in (table, table.to_batches()[0], table.slice(10, 7)):
        got = trusting.invoke(sent)
        assert type(got) is type(sent)
        assert got.equals(sent)
    doubting = rt.register("doubting", code, timeout=30)
    assert doubting.invoke(table.slice(1)) == 100_000
    with pytest.raises(pyfaas.InvalidResult, match="trusted=True"):
        doubting.invoke(table)


# ---- whose memory it is -------------------------------------------------------------------------------------------


def test_what_a_function_keeps_does_not_change(rt: pyfaas.Runtime) -> None:
    keeper = rt.register("keeper", pyfaas.Source(KEEPER), memory=256)
    for number in range(4):
        keeper.invoke({"keep": np.full(LARGE, number), "start": number * 1000, "back": number % 2})
    assert keeper.invoke("kept") == [[0, 1, 2, 3], True]
    keeper.invoke("write")  # they are the function's own
    keeper.invoke({"keep": np.full(LARGE // 2, 9)})
    assert keeper.invoke("kept") == [[1, 2, 3, 4, 9], True]
    for _ in range(20):  # the arenas are given up meanwhile
        keeper.invoke("write")
    assert keeper.invoke("kept") == [[21, 22, 23, 24, 29], True]
    keeper.invoke("drop")
    assert same(keeper.invoke({"keep": np.arange(LARGE), "back": 1}), np.arange(LARGE))


def test_what_a_function_keeps_counts_as_its_memory(rt: pyfaas.Runtime) -> None:
    keeper = rt.register("keeper", pyfaas.Source(KEEPER), memory=128, max_payload=80 * MB)
    for _ in range(2):
        keeper.invoke({"keep": np.zeros(8 * MB)})
    with pytest.raises(pyfaas.OutOfMemory):
        keeper.invoke({"keep": np.zeros(8 * MB)})
    assert keeper.invoke("kept") == [[], True]  # another instance


def test_a_function_may_write_into_its_event(rt: pyfaas.Runtime) -> None:
    @rt.function(name="doubled")
    def doubled(event: Any, context: Any) -> Any:
        event *= 2
        return event

    sent = np.arange(LARGE)
    for _ in range(3):
        assert same(doubled.invoke(sent), np.arange(LARGE) * 2)
    assert same(sent, np.arange(LARGE))


def test_results_stay_as_they_are(back: pyfaas.Function[Any]) -> None:
    results = [back.invoke(np.full(LARGE, number)) for number in range(6)]
    assert [int(result[-1]) for result in results] == list(range(6))


def test_submit_takes_what_is_there_now(rt: pyfaas.Runtime) -> None:
    back = rt.register("back", echo, memory=128)
    sent = np.zeros(LARGE)
    futures = []
    for number in range(8):  # more than start at once
        sent[:] = number
        futures.append(back.submit(sent))
    sent[:] = -1
    assert [future.result(20)[-1] for future in futures] == list(range(8))
    assert [int(result[0]) for result in back.map(np.full(LARGE, i) for i in range(8))] == list(range(8))


# ---- what the host imports ----------------------------------------------------------------------------------------

HOST = """
import sys
import pyfaas
code = pyfaas.Source("import numpy\\ndef handler(event, context): return numpy.arange(event)")
with pyfaas.Runtime() as rt:
    f = rt.register("f", code, timeout=30)
    for size in (3, 300_000):
        for call in (f.invoke, lambda event: f.submit(event).result(30)):
            try:
                call(size)
            except pyfaas.InvalidResult as error:
                print(error)
        print(f.call(size).error)
    assert "numpy" not in sys.modules
    import numpy
    print(f.invoke(3), f.statistics() if hasattr(f, "statistics") else "")
    trusting = rt.register("trusting", code, timeout=30, trusted=True)
    del numpy
    print(trusting.invoke(2))
"""


def test_a_result_does_not_make_the_host_import_numpy() -> None:
    ran = subprocess.run([sys.executable, "-c", HOST], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert len(lines) == 8
    assert all("import numpy before the call" in line for line in lines[:6])
    assert lines[6].startswith("[0 1 2]")
    assert lines[7] == "[0 1]"
